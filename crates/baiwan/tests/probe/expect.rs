//! Expectations (RFC 9110 10.1.1).

use crate::case::{Cases, get, post};
use crate::wire::{Answer, Dialogue};

const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";

#[test]
fn row_30_unknown_expectations_are_refused() {
    let mut cases = Cases::default();
    for value in [
        "y",
        "y 100-continue",
        "100-continue y",
        "100-continue, y",
        "y, 100-continue",
        "100-continu",
        "100-continuee",
        "x100-continue",
        "100-continue;a=b",
        "100-continue=a",
        "200-ok",
        "\"100-continue\"",
        "100_continue",
        "100",
        "continue",
    ] {
        cases.refused_field(417, format!("Expect: {value}\r\nContent-Length: 2"));
        cases.refused(417, get("/", &format!("Expect: {value}\r\n")));
    }
    // All lines of one name are one list.
    for lines in ["Expect: 100-continue\r\nExpect: y", "Expect:\r\nExpect: 100-continue", "Expect: , 100-continue"] {
        cases.refused(417, get("/", &format!("{lines}\r\n")));
    }
    for line in [
        "Expect:\r\n 100-continue",
        "Expect : 100-continue",
        "Expect: 100-continue\x0b",
        "Expect: 100-\0continue",
        "Expect: 100-continue\rx",
    ] {
        cases.refused_field(400, line);
    }
    cases.run();
}

#[test]
fn row_30_a_body_that_comes_at_once_is_read() {
    let mut cases = Cases::default();
    for value in [
        "100-continue",
        "100-Continue",
        "  100-CONTINUE\t",
        "100-continue, 100-continue",
        "100-continue\r\nExpect:100-continue",
    ] {
        let lines = format!("Expect:{value}\r\nContent-Length: 2\r\n");
        let at_most_one = |answer: &Answer| assert!(answer.interim.is_empty() || answer.interim == [100], "{answer:?}");
        cases.answered(&[200], post("/echo", &lines, "hi")).with_body("hi").with_check(at_most_one);
        let lines = format!("Expect:{value}\r\nTransfer-Encoding: chunked\r\n");
        cases.answered(&[200], post("/echo", &lines, "2\r\nhi\r\n0\r\n\r\n")).with_body("hi").with_check(at_most_one);
    }
    cases.run();
}

#[test]
fn row_30_an_expectation_without_a_body_or_of_http_1_0_is_ignored() {
    let mut cases = Cases::default();
    let none = |answer: &Answer| assert!(answer.interim.is_empty(), "{answer:?}");
    cases.answered(&[200], get("/", "Expect: 100-continue\r\n")).with_body("root").with_check(none);
    cases
        .answered(&[200], post("/echo", "Content-Length: 0\r\nExpect: 100-continue\r\n", ""))
        .with_body("")
        .with_check(none);
    let old = "POST /echo HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi";
    cases.answered_last(&[200], old).with_body("hi").with_check(none);
    cases.run();
}

#[test]
fn row_30_a_body_that_is_held_back_is_asked_for() {
    for lines in
        ["Expect: 100-continue\r\nContent-Length: 2\r\n", "Transfer-Encoding: chunked\r\nEXPECT: 100-Continue\r\n"]
    {
        let mut dialogue = Dialogue::new();
        dialogue.send(&post("/echo", lines, ""));
        dialogue.expect(CONTINUE);
        dialogue.send(if lines.contains("chunked") { "2\r\nhi\r\n0\r\n\r\n" } else { "hi" });
        dialogue.send(&get("/smuggled", "Connection: close\r\n"));
        let answers = dialogue.answers(&[]);
        let bodies: Vec<_> = answers.iter().map(|answer| &answer.body[..]).collect();
        assert_eq!(bodies, [&b"hi"[..], b"smuggled"]);
        assert!(answers[0].interim.is_empty(), "one is enough");
    }
}

#[test]
fn row_30_an_answer_without_the_body_ends_the_connection() {
    for path in ["/ignore", "/nowhere", "/smuggled"] {
        let mut dialogue = Dialogue::new();
        dialogue.send(&post(path, "Expect: 100-continue\r\nContent-Length: 46\r\n", ""));
        // No answer of 100: the app has not asked for the body.
        let answers = dialogue.answers(&[]);
        assert_eq!(answers.len(), 1);
        assert!(answers[0].interim.is_empty() && answers[0].says_close(), "{answers:?}");
    }
}
