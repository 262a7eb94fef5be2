//! The request line: line ends, white space, methods, versions, and empty lines before it.

use crate::case::{Cases, get};
use crate::wire::{Dialogue, Fence, Way, exchange, read_answers};

#[test]
fn row_16_a_request_line_ends_in_cr_lf() {
    let mut cases = Cases::default();
    cases.refused(400, "GET / HTTP/1.1\nHost: probe\r\n\r\n");
    cases.refused(400, "GET / HTTP/1.1\nHost: probe\n\n");
    cases.refused(400, "\nGET / HTTP/1.1\r\nHost: probe\r\n\r\n");
    cases.run();
}

#[test]
fn row_17_a_request_line_has_no_bare_cr() {
    let mut cases = Cases::default();
    cases.refused(400, "GET / HTTP/1.1\rHost: probe\r\r");
    cases.refused(400, "GET /\r HTTP/1.1\r\nHost: probe\r\n\r\n");
    cases.refused(400, "GET\r/ HTTP/1.1\r\nHost: probe\r\n\r\n");
    cases.refused(400, "\rGET / HTTP/1.1\r\nHost: probe\r\n\r\n");
    cases.refused(400, "GET / HTTP/1.1\r\r\nHost: probe\r\n\r\n");
    cases.run();
}

#[test]
fn the_parts_of_a_request_line_have_one_space_between_them() {
    let mut cases = Cases::default();
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        " GET / HTTP/1.1",
        "\tGET / HTTP/1.1",
        "GET\t/\tHTTP/1.1",
        "GET\x0b/ HTTP/1.1",
        "GET / \tHTTP/1.1",
        "GET /\x0cHTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET / HTTP/1.1\t",
        "GET / HTTP/1.1 x",
        "GET",
        "GET ",
        "GET /",
        "GET  HTTP/1.1",
        "GET HTTP/1.1",
        " ",
        "   \t",
        "HTTP/1.1 200 OK",
    ] {
        cases.refused_line(400, line);
    }
    cases.run();
}

#[test]
fn row_25_a_method_is_a_token() {
    let mut cases = Cases::default();
    for line in [
        "G=\":<> / HTTP/1.1",
        "G(T / HTTP/1.1",
        "{GET} / HTTP/1.1",
        "GET, / HTTP/1.1",
        "@ / HTTP/1.1",
        "\"GET\" / HTTP/1.1",
    ] {
        cases.refused_line(400, line);
    }
    cases.refused_line(400, b"G\xc3\x89T / HTTP/1.1");
    cases.refused_line(400, b"GE\0T / HTTP/1.1");
    cases.refused_line(400, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03");
    cases.refused_line(400, b"\x80\x81\xfe\xff");
    cases.run();
}

#[test]
fn row_25_methods_are_case_sensitive_and_unknown_ones_are_the_app_s_business() {
    let mut cases = Cases::default();
    for method in
        ["get", "Get", "gET", "-GET", "FOO", "PURGE", "M-SEARCH", "PROPFIND", "!#$%&'*+-.^_`|~09", "TRACE", "DELETE"]
    {
        cases.answered(&[405, 501], format!("{method} / HTTP/1.1\r\nHost: probe\r\n\r\n"));
    }
    // What no route of the app limits reaches it as it is.
    let text = "get /request HTTP/1.1\nhost=[probe]\n";
    cases.answered(&[200], "get /request HTTP/1.1\r\nHost: probe\r\n\r\n").with_body(text);
    cases.answered(&[404], "PATCH /nowhere HTTP/1.1\r\nHost: probe\r\n\r\n");
    cases.run();
}

#[test]
fn row_25_methods_have_a_limit() {
    let mut cases = Cases::default();
    let method = "M".repeat(32);
    cases.answered(&[405, 501], format!("{method} / HTTP/1.1\r\nHost: probe\r\n\r\n"));
    cases.refused_line(400, format!("M{method} / HTTP/1.1"));
    cases.refused_line(400, format!("{} / HTTP/1.1", "M".repeat(100_000)));
    cases.run();
}

#[test]
fn row_26_versions() {
    let mut cases = Cases::default();
    cases.answered(&[200], "GET / HTTP/1.2\r\nHost: probe\r\n\r\n").with_body("root");
    cases.answered(&[200], "GET / HTTP/1.9\r\nHost: probe\r\n\r\n").with_body("root");
    cases.refused(400, "GET / HTTP/1.2\r\n\r\n");
    for version in ["HTTP/2.0", "HTTP/2.1", "HTTP/3.0", "HTTP/0.9", "HTTP/0.0", "HTTP/9.9"] {
        cases.refused_line(505, format!("GET / {version}"));
    }
    for version in [
        "http/1.1",
        "Http/1.1",
        "HTTP/1",
        "HTTP/1.",
        "HTTP/.1",
        "HTTP/11",
        "HTTP/1.10",
        "HTTP/10.1",
        "HTTP/01.1",
        "HTTP/1.01",
        "HTTP/1,1",
        "HTTP/1 .1",
        "HTTP/1. 1",
        "HTTP /1.1",
        "HTTP/ 1.1",
        "HTTP/+1.1",
        "HTTP/1.x",
        "HTTP/x.1",
        "HTTP/\u{661}.1",
        "HTTPS/1.1",
        "HTP/1.1",
        "HTTP-1.1",
        "HTTP",
        "1.1",
        "ICY/1.0",
        "RTSP/1.0",
        "x",
    ] {
        cases.refused_line(400, format!("GET / {version}"));
    }
    cases.run();
}

#[test]
fn row_26_http_0_9_is_refused() {
    let mut cases = Cases::default();
    cases.refused(400, "GET /\r\n");
    cases.refused(400, "GET /\r\n\r\n");
    cases.run();
}

#[test]
fn the_preface_of_http_2_is_refused() {
    let mut cases = Cases::default();
    cases.refused(505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    cases.run();
}

#[test]
fn other_protocols_are_refused_by_their_names() {
    let by_name = |named: &str, input: &[u8]| {
        for way in [Way::Whole, Way::ByteByByte, Way::Cut(1), Way::Cut(5)] {
            let (received, seen) = exchange(input, way, &mut Fence::new());
            let answers = read_answers(&received, &[]).unwrap();
            let [answer] = &answers[..] else { panic!("{answers:?}") };
            assert_eq!(String::from_utf8_lossy(&answer.body), format!("{named}\n"), "{way:?}");
            assert!(answer.says_close() && seen.is_empty());
        }
    };
    by_name("400 Bad Request: tls-on-plain-port", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03");
    by_name("505 HTTP Version Not Supported: http2-unexpected", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    let behind = get("/smuggled", "");
    by_name(
        "400 Bad Request: proxy-protocol-unexpected",
        format!("PROXY TCP4 192.0.2.1 192.0.2.2 1 80\r\n{behind}").as_bytes(),
    );
    by_name("400 Bad Request: proxy-protocol-unexpected", b"PROXY UNKNOWN\r\n");
    by_name(
        "400 Bad Request: proxy-protocol-unexpected",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\0\x01\0\x50",
    );
}

/// No more than these bytes is sent: the answer comes before any line end.
#[test]
fn a_line_that_can_no_longer_become_valid_is_refused_before_its_end() {
    for (status, start) in [
        (505, "GET / HTTP/5.6"),
        (400, "GET / XTTP"),
        (400, "GET / HTTP/1.1x"),
        (400, "GET  "),
        (400, "GET /\u{e9}"),
        (400, "GET /a\""),
        (400, "GET a"),
        (400, "GET / HTTP/1.1\r\nHost: x\r\n H"),
        (400, "GET / HTTP/1.1\r\nHost: x\r\nA("),
        (400, "GET / HTTP/1.1\r\nHost: x\r\nA :"),
        (400, "GET / HTTP/1.1\r\nHost: x\r\nA: b\0"),
        (400, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA "),
        (400, "PROXY T"),
        (505, "PRI *"),
    ] {
        let mut dialogue = Dialogue::new();
        dialogue.send(start);
        let answer = dialogue.head();
        assert!(answer.status == status && answer.says_close(), "{start:?}: {answer:?}");
    }
}

#[test]
fn row_27_two_empty_lines_are_skipped_and_no_more() {
    let mut cases = Cases::default();
    cases.answered(&[200], format!("\r\n{}", get("/", ""))).with_body("root");
    cases.answered(&[200], format!("\r\n\r\n{}", get("/", ""))).with_body("root");
    cases.refused(400, format!("\r\n\r\n\r\n{}", get("/", "")));
    cases.refused(400, format!("\r\n {}", get("/", "")));
    cases.refused(400, format!(" \r\n{}", get("/", "")));
    cases.run();
}

#[test]
fn an_http_1_0_request_needs_no_host() {
    let mut cases = Cases::default();
    cases.answered_last(&[200], "GET / HTTP/1.0\r\n\r\n").with_body("root");
    cases.answered_last(&[200], "GET / HTTP/1.0\r\nHost: probe\r\n\r\n").with_body("root");
    cases.run();
}
