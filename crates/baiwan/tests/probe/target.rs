//! The request target: its forms, and the bytes that may stand in it.

use crate::case::{Cases, get, post};
use crate::wire::{Fence, Way, exchange, read_answers};

#[test]
fn row_23_an_absolute_form_is_served_as_its_path() {
    let mut cases = Cases::default();
    let to = |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for (target, host) in [
        ("http://probe/", "probe"),
        ("http://probe", "probe"),
        ("HTTP://probe/", "probe"),
        ("hTTp://PROBE/", "pRobe"),
        ("http://probe:80/", "probe"),
        ("http://probe/", "probe:80"),
        ("http://probe:/", "probe"),
        ("http://probe:8080/", "probe:8080"),
        ("http://[::1]:8080/", "[::1]:8080"),
        ("http://127.0.0.1/", "127.0.0.1"),
        ("http://[v1.a:b]:80/", "[V1.a:b]"),
        ("http://probe?a=b", "probe"),
    ] {
        cases.answered(&[200], to(target, host)).with_body("root");
    }
    cases.answered_last(&[200], "GET http://probe/ HTTP/1.0\r\n\r\n").with_body("root");
    cases.answered(&[405], "DELETE http://probe/ HTTP/1.1\r\nHost: probe\r\n\r\n");
    cases.run();
}

#[test]
fn row_23_an_absolute_form_that_differs_from_host_is_refused() {
    let mut cases = Cases::default();
    let to = |target: &str, host: &str| format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    for (target, host) in [
        ("http://other/", "probe"),
        ("http://probe:81/", "probe"),
        ("http://probe/", "probe:81"),
        ("http://probe/", "probe:443"),
        ("http://probe.other/", "probe"),
        ("http://probe/", "probe."),
        ("http://probe/", "pro%62e"),
        ("http://127.0.0.1/", "[::ffff:127.0.0.1]"),
    ] {
        cases.refused(400, to(target, host));
    }
    cases.refused(400, "GET http://other/ HTTP/1.0\r\nHost: probe\r\n\r\n");
    // Absolute or not, Host must be there and valid.
    cases.refused(400, "GET http://probe/ HTTP/1.1\r\n\r\n");
    cases.refused(400, to("http://probe/", ""));
    cases.refused(400, to("http://probe/", "probe/"));
    cases.refused(400, "GET http://probe/ HTTP/1.1\r\nHost: probe\r\nHost: probe\r\n\r\n");
    cases.run();
}

#[test]
fn an_https_target_needs_a_secured_connection() {
    let mut cases = Cases::default();
    for target in ["https://probe/", "https://probe", "HTTPS://probe/", "https://probe:443/", "https://probe/?a=b"] {
        cases.refused_line(421, format!("GET {target} HTTP/1.1"));
    }
    cases.refused(421, "GET https://probe/ HTTP/1.0\r\n\r\n");
    cases.run();
}

#[test]
fn row_23_an_authority_that_is_not_valid_is_refused() {
    let mut cases = Cases::default();
    for target in [
        "http://",
        "http:///",
        "http://:80/",
        "http://?a",
        "http://user@probe/",
        "http://user:word@probe/",
        "http://@probe/",
        "http://probe:x/",
        "http://probe:65536/",
        "http://probe:-1/",
        "http://probe:80:80/",
        "http://[::1/",
        "http://[::g]/",
        "http://[v1.]/",
        "http://[v1.:::::::::]/",
        "http://::1/",
        "http://a,b/",
        "http://pro%62e/",
        "http://pr\u{f6}be/",
        "http:/probe/",
        "http:probe",
        "//probe:x@y",
        "https://user@probe/",
    ] {
        if target.starts_with("//") {
            // A path, whatever it looks like.
            cases.answered(&[404], get(target, ""));
        } else {
            cases.refused_line(400, format!("GET {target} HTTP/1.1"));
        }
    }
    for target in ["ftp://probe/", "file:///etc/passwd", "urn:a:b", "mailto:a@b", "ws://probe/", "javascript:alert(1)"]
    {
        cases.refused_line(400, format!("GET {target} HTTP/1.1"));
    }
    cases.run();
}

#[test]
fn row_24_an_asterisk_is_for_options_alone() {
    let mut cases = Cases::default();
    cases.answered(&[200, 204, 404, 405], "OPTIONS / HTTP/1.1\r\nHost: probe\r\n\r\n");
    for line in [
        "GET * HTTP/1.1",
        "POST * HTTP/1.1",
        "HEAD * HTTP/1.1",
        "PUT * HTTP/1.1",
        "DELETE * HTTP/1.1",
        "TRACE * HTTP/1.1",
        "options * HTTP/1.1",
        "OPTIONS ** HTTP/1.1",
        "OPTIONS *? HTTP/1.1",
        "OPTIONS */ HTTP/1.1",
    ] {
        cases.refused_line(400, line);
    }
    cases.run();
}

/// It asks about the server as a whole (RFC 9110 9.3.7).
#[test]
fn the_server_answers_an_asterisk_by_itself() {
    for request in [
        "OPTIONS * HTTP/1.1\r\nHost: probe\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: probe\r\nContent-Length: 2\r\n\r\nhi",
        "OPTIONS * HTTP/1.1\r\nHost: probe\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "OPTIONS * HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    ] {
        for way in [Way::Whole, Way::ByteByByte, Way::Cut(request.len() - 1), Way::Cut(request.len())] {
            let bytes = [request, &get("/smuggled", "Connection: close\r\n")].concat();
            let (received, seen) = exchange(bytes.as_bytes(), way, &mut Fence::new());
            let answers = read_answers(&received, &[]).unwrap();
            let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
            assert_eq!((statuses, seen), (vec![204, 200], vec!["GET /smuggled".to_owned()]), "{request:?}");
            let [first, _] = &answers[..] else { unreachable!("there are two") };
            assert!(!first.says_close() && first.field("date").is_some() && first.body.is_empty());
        }
    }
    let close = "OPTIONS * HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n";
    for last in [close, "OPTIONS * HTTP/1.0\r\n\r\n"] {
        let (received, seen) = exchange(last.as_bytes(), Way::Whole, &mut Fence::new());
        let answers = read_answers(&received, &[]).unwrap();
        assert!(seen.is_empty() && answers.len() == 1 && answers[0].status == 204 && answers[0].says_close());
    }
}

#[test]
fn row_24_connect_opens_no_tunnel() {
    let mut cases = Cases::default();
    for line in ["CONNECT probe:443 HTTP/1.1", "CONNECT [::1]:443 HTTP/1.1", "CONNECT 127.0.0.1:80 HTTP/1.1"] {
        cases.refused_line(501, line);
    }
    for line in [
        "CONNECT probe HTTP/1.1",
        "CONNECT probe: HTTP/1.1",
        "CONNECT :443 HTTP/1.1",
        "CONNECT / HTTP/1.1",
        "CONNECT * HTTP/1.1",
        "CONNECT http://probe/ HTTP/1.1",
        "CONNECT user@probe:443 HTTP/1.1",
        "CONNECT probe:99999 HTTP/1.1",
        // An authority is for CONNECT alone.
        "GET probe:443 HTTP/1.1",
        "OPTIONS probe:80 HTTP/1.1",
        "GET probe HTTP/1.1",
        "GET [::1]:80 HTTP/1.1",
    ] {
        cases.refused_line(400, line);
    }
    cases.run();
}

#[test]
fn row_24_bytes_that_no_target_may_have() {
    let mut cases = Cases::default();
    for target in [
        "/#",
        "/#a",
        "/a#b",
        "#",
        "/?a#b",
        "http://probe/#a",
        "http://probe#a",
        "/a\\b",
        "\\",
        "\\a",
        "/?\\",
        "http://probe\\a",
        "/<a>",
        "/a`b",
        "/?\"a\"",
        "/\"a\"",
        "/?a`b",
        "/?<",
        "?a",
        "a",
        "a/b",
        "./a",
        "..",
        "%2f",
        "&",
        ";a",
        "@",
    ] {
        cases.refused_line(400, format!("GET {target} HTTP/1.1"));
    }
    for byte in (1..=0x20_u8).chain([0, 0x7f]).chain([0x80, 0x85, 0xa0, 0xc0, 0xfe, 0xff]) {
        cases.refused_line(400, [b"GET /a", &[byte][..], b"b HTTP/1.1"].concat());
    }
    for target in ["/\u{e9}", "/?\u{e9}", "/\u{2028}", "/\u{ff0f}", "\u{e9}"] {
        cases.refused_line(400, format!("GET {target} HTTP/1.1"));
    }
    cases.refused_line(400, b"GET /\xc0\xaf HTTP/1.1");
    cases.run();
}

#[test]
fn a_target_reaches_the_app_as_it_came() {
    let mut cases = Cases::default();
    for target in [
        "/request",
        "/request?",
        "/request?a=b&c=%20",
        "/request?a?b/c:d@e!$&'()*+,;=-._~",
        "/request?%",
        "/request?%zz",
        "/request?[a]={b|c}^",
        "/request?%00%0d%0a",
    ] {
        let text = format!("GET {target} HTTP/1.1\nhost=[probe]\n");
        cases.answered(&[200], get(target, "")).with_body(text);
    }
    // Paths that only the app can find wrong.
    for target in [
        "//",
        "//request",
        "/../etc/passwd",
        "/%2e%2e/a",
        "/%00",
        "/%",
        "/%z",
        "/a%0d%0ab",
        "/.",
        "/;",
        "/:",
        "/@a",
        "/a=b",
        "/{a|b}^[c]",
        "/request/",
    ] {
        cases.answered(&[404, 400], get(target, ""));
    }
    cases.run();
}

#[test]
fn an_absolute_form_with_a_body_is_served() {
    let mut cases = Cases::default();
    let target = "http://probe/echo";
    cases.answered(&[200], post(target, "Content-Length: 2\r\n", "hi")).with_body("hi");
    cases.answered(&[200], post(target, "Transfer-Encoding: chunked\r\n", "2\r\nhi\r\n0\r\n\r\n")).with_body("hi");
    cases.run();
}
