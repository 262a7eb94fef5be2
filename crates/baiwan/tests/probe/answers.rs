//! What the server sends: framing, fields, and that one request has one answer (RFC 9110 6 to 9 and 15, RFC 9112 4 to 7).

use crate::case::{Cases, get, is_date, post};
use crate::wire::{Fence, Way, exchange, read_answers};

#[test]
fn every_answer_says_how_long_it_is() {
    let mut cases = Cases::default();
    cases
        .answered(&[200], get("/", ""))
        .with_body("root")
        .with_check(|answer| assert_eq!(answer.field("content-length"), Some("4")));
    cases
        .answered(&[200], get("/slow", ""))
        .with_body("slow")
        .with_check(|answer| assert_eq!(answer.field("content-length"), Some("4")));
    cases
        .answered(&[200], get("/empty/200", ""))
        .with_body("")
        .with_check(|answer| assert_eq!(answer.field("content-length"), Some("0")));
    cases.answered(&[200], get("/chunks", "")).with_body("one two three").with_check(|answer| {
        assert_eq!((answer.field("transfer-encoding"), answer.field("content-length")), (Some("chunked"), None));
    });
    for code in
        [200, 201, 202, 203, 206, 207, 226, 300, 301, 400, 401, 402, 404, 418, 429, 431, 451, 500, 501, 503, 511, 599]
    {
        cases.answered(&[code], get(&format!("/status/{code}"), "")).with_body("some text");
    }
    cases.run();
}

#[test]
fn answers_without_a_body_have_none() {
    let mut cases = Cases::default();
    for path in ["/status/204", "/empty/204", "/own/no-content-length"] {
        cases.answered(&[204], get(path, ""));
        cases.answered_last(&[204], get(path, "Connection: close\r\n"));
        cases.answered(&[204], format!("GET {path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    }
    for path in ["/status/205", "/empty/205"] {
        cases
            .answered(&[205], get(path, ""))
            .with_body("")
            .with_check(|answer| assert_eq!(answer.field("content-length"), Some("0")));
    }
    for path in ["/status/304", "/empty/304"] {
        cases.answered(&[304], get(path, "")).with_check(|answer| {
            // Not the length of the body that is left out: the one that 200 would have, and nobody knows that one here.
            assert_eq!((answer.field("content-length"), answer.field("transfer-encoding")), (None, None));
        });
    }
    cases.answered(&[304], get("/own/not-modified", "")).with_check(|answer| {
        assert_eq!((answer.field("etag"), answer.field("content-length")), (Some("\"a\""), None));
    });
    cases
        .answered(&[304], get("/own/not-modified-length", ""))
        .with_check(|answer| assert_eq!(answer.field("content-length"), Some("1234")));
    cases.run();
}

#[test]
fn an_answer_to_head_is_that_to_get_without_its_body() {
    let mut fence = Fence::new();
    for path in [
        "/",
        "/slow",
        "/chunks",
        "/announced/4",
        "/ignore",
        "/nowhere",
        "/status/200",
        "/status/404",
        "/status/204",
        "/empty/304",
        "/own/date",
        "/own/not-modified",
        "/own/close",
        "/echo",
    ] {
        let (get, _) = exchange(get(path, "Connection: close\r\n").as_bytes(), Way::Whole, &mut fence);
        let head = format!("HEAD {path} HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n");
        let (head, _) = exchange(head.as_bytes(), Way::Whole, &mut fence);
        let (get, head) = (read_answers(&get, &["GET"]).unwrap().remove(0), read_answers(&head, &["HEAD"]).unwrap());
        let [head] = &head[..] else { panic!("{path}: more than one answer to HEAD: {head:?}") };
        let fields = |fields: &[(String, Vec<u8>)]| {
            // What is known only when the body is made may be left out (RFC 9110 9.3.2); it must not be wrong.
            let said = |name: &str| head.fields.iter().any(|field| field.0 == name);
            let is_kept =
                |name: &str| name != "date" && (said(name) || !["content-length", "transfer-encoding"].contains(&name));
            fields.iter().filter(|field| is_kept(&field.0)).cloned().collect::<Vec<_>>()
        };
        assert_eq!((head.status, fields(&head.fields)), (get.status, fields(&get.fields)), "{path}");
    }
}

#[test]
fn announced_trailers_are_sent_though_the_length_of_the_body_is_known() {
    let mut cases = Cases::default();
    for length in [0, 4, 100, 16 * 1024, 16 * 1024 + 1, 100_000] {
        let path = format!("/announced/{length}");
        for line in ["", "TE: trailers\r\nConnection: TE\r\n"] {
            cases.answered(&[200], get(&path, line)).with_body("x".repeat(length)).with_check(|answer| {
                assert_eq!(answer.field("content-length"), None);
                assert_eq!(
                    (answer.field("transfer-encoding"), answer.field("trailer")),
                    (Some("chunked"), Some("x-sum"))
                );
                assert_eq!(answer.trailers, [("x-sum".to_owned(), answer.body.len().to_string().into_bytes())]);
            });
        }
        // HTTP/1.0 has no place for them.
        cases
            .answered(&[200], format!("GET {path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"))
            .with_body("x".repeat(length))
            .with_check(|answer| assert!(answer.field("content-length").is_some() && answer.trailers.is_empty()));
        // HEAD says what GET would say.
        let head = format!("HEAD {path} HTTP/1.1\r\nHost: probe\r\n\r\n");
        cases.answered(&[200], head).with_check(|answer| {
            assert_eq!((answer.field("content-length"), answer.field("transfer-encoding")), (None, Some("chunked")));
        });
    }
    cases.run();
}

#[test]
fn refusals_of_head_have_no_body() {
    let mut cases = Cases::default();
    cases.refused(400, "HEAD / HTTP/1.1\r\n\r\n");
    cases.refused(400, "\r\nHEAD / HTTP/1.1\r\nHost: a b\r\n\r\n");
    cases.refused(505, "HEAD / HTTP/2.0\r\nHost: probe\r\n\r\n");
    cases.refused(417, "HEAD / HTTP/1.1\r\nHost: probe\r\nExpect: y\r\n\r\n");
    cases.refused(400, "HEAD / HTTP/1.1\r\nHost: probe\r\nContent-Length: +1\r\n\r\n");
    cases.refused(431, format!("HEAD / HTTP/1.1\r\nHost: probe\r\nA: {}\r\n\r\n", "b".repeat(20_000)));
    cases.refused(414, format!("HEAD /{} HTTP/1.1\r\nHost: probe\r\n\r\n", "a".repeat(9000)));
    cases.answered_last(&[500], "HEAD /panic HTTP/1.1\r\nHost: probe\r\n\r\n");
    cases.run();
}

#[test]
fn an_http_1_0_client_gets_nothing_that_it_cannot_read() {
    let mut cases = Cases::default();
    for (path, text) in [
        ("/", "root"),
        ("/chunks", "one two three"),
        ("/slow", "slow"),
        ("/own/length-of-stream", "one two three"),
        ("/own/transfer-encoding", "text"),
    ] {
        cases.answered_last(&[200], format!("GET {path} HTTP/1.0\r\n\r\n")).with_body(text);
    }
    cases.answered_last(&[200], "HEAD /chunks HTTP/1.0\r\n\r\n");
    // An interim status as the last word is a mistake of the app.
    cases.answered_last(&[500], "GET /empty/103 HTTP/1.0\r\n\r\n");
    cases.answered_last(&[500], "GET /empty/101 HTTP/1.0\r\n\r\n");
    cases.run();
}

#[test]
fn interim_statuses_are_no_answer() {
    let mut cases = Cases::default();
    for code in [100, 101, 102, 103, 199] {
        cases.answered_last(&[500], get(&format!("/empty/{code}"), ""));
    }
    cases.run();
}

#[test]
fn fields_of_the_app_that_are_the_server_s_business() {
    let mut cases = Cases::default();
    let own = |what: &str| get(&format!("/own/{what}"), "");
    cases.answered(&[200], own("date")).with_body("text").with_check(|answer| {
        assert_eq!(answer.field("date"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    });
    cases.answered(&[200], own("length")).with_body("text");
    cases.answered(&[200], own("length-of-stream")).with_body("one two three").with_check(|answer| {
        assert_eq!((answer.field("content-length"), answer.field("transfer-encoding")), (Some("13"), None));
    });
    cases.answered_last(&[500], own("length-wrong"));
    cases.answered_last(&[500], own("length-malformed"));
    for what in ["transfer-encoding", "transfer-encoding-gzip"] {
        cases.answered(&[200], own(what)).with_body("text").with_check(|answer| {
            assert_eq!((answer.field("content-length"), answer.field("transfer-encoding")), (Some("4"), None));
        });
    }
    cases.answered_last(&[200], own("close")).with_body("text");
    cases.answered(&[200], own("keep-alive")).with_body("text");
    cases.run();
}

#[test]
fn an_answer_that_is_not_as_long_as_it_said_is_cut() {
    let mut fence = Fence::new();
    for what in ["length-of-stream-short", "length-of-stream-long"] {
        let requests = format!("{}{}", get(&format!("/own/{what}"), ""), get("/smuggled", ""));
        let (received, seen) = exchange(requests.as_bytes(), Way::Whole, &mut fence);
        // Cut before its head or behind it; never more or less that looks complete.
        let answers = read_answers(&received, &[]).unwrap();
        assert!(answers.iter().all(|answer| answer.until_close || answer.status == 500), "{what}: {answers:?}");
        assert_eq!(seen.len(), 1, "{what}");
    }
}

#[test]
fn row_35_a_handler_cannot_split_its_answer() {
    let mut cases = Cases::default();
    cases.answered(&[500], get("/split", "")).with_check(|answer| {
        assert!(answer.field("x-smuggled").is_none() && answer.field("x-split").is_none());
    });
    cases.run();
}

#[test]
fn a_panic_is_an_answer() {
    let mut cases = Cases::default();
    cases.answered_last(&[500], get("/panic", ""));
    cases.answered_last(&[500], post("/panic", "Content-Length: 2\r\n", "hi"));
    cases.run();
}

#[test]
fn methods_that_a_route_does_not_have_are_named() {
    let mut cases = Cases::default();
    for method in ["POST", "PUT", "DELETE", "TRACE", "FOO"] {
        cases.answered(&[405], format!("{method} / HTTP/1.1\r\nHost: probe\r\n\r\n")).with_check(|answer| {
            assert_eq!(answer.field("allow"), Some("GET,HEAD"));
        });
    }
    cases.run();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the wall clock is what the Date must be compared with")]
fn dates_are_those_of_the_rfc() {
    assert!(is_date("Sun, 06 Nov 1994 08:49:37 GMT"));
    for other in [
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 UTC",
    ] {
        assert!(!is_date(other));
    }
    let (received, _) = exchange(get("/", "Connection: close\r\n").as_bytes(), Way::Whole, &mut Fence::new());
    let answer = read_answers(&received, &[]).unwrap().remove(0);
    let said = answer.field("date").unwrap().to_owned();
    let now = std::time::SystemTime::now();
    let near = (0..120).any(|second| {
        let time = now - std::time::Duration::from_secs(60) + std::time::Duration::from_secs(second);
        httpdate::fmt_http_date(time) == said
    });
    assert!(near, "{said}");
}
