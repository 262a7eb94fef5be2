//! What becomes of answers that say what is not so, and of handlers that do not answer.

use crate::comparison::twice;
use crate::differences::{
    CONNECTION_OPTIONS, LENGTHS, NO_CONTENT, PANICS, REASON, SWITCHES, TRAILERS, TRANSFER_ENCODING,
};
use crate::stage::Stage;

/// Status, body and whether it is the last; `the end` if the connection ends without an answer.
fn outcome(stage: &Stage, path: &str) -> String {
    let mut client = stage.connect();
    client.send_request("GET", path, "", b"");
    if !client.is_answered() {
        return "the end".to_owned();
    }
    let answer = client.read_answer("GET");
    answer.in_short() + if answer.closes() { ", the last" } else { "" }
}

/// What Baiwan answers in place of an answer that it cannot send, or of none.
fn failed() -> String {
    r#"500 "500 Internal Server Error: the-request-could-not-be-handled\n", the last"#.to_owned()
}

twice! {
    panics;
    answers;
    lengths_that_are_not_true of answers;
    statuses_without_a_body of answers;
    reasons of answers;
    trailers of answers;
    connection_options of answers;
}

fn panics(stage: &mut Stage) {
    stage.get("/caught").expect(500);
    stage.get("/custom").expect(500).says("we are sorry");
    for path in ["/bare", "/late"] {
        stage.differs(PANICS, outcome(stage, path), "the end".to_owned(), failed());
    }
    // When the head has left, both can only cut.
    let mut client = stage.connect();
    client.send_request("GET", "/body", "", b"");
    client.head().expect(200);
    client.text_of_chunks(5);
    assert!(client.try_chunk().is_err());
    stage.get("/fine").expect(200).says("fine");
}

fn answers(stage: &mut Stage) {
    for path in [
        "/200/content-length/5",
        "/200/stream/content-length/5",
        "/200/stream/content-length/3",
        "/404/x/y",
        "/599/x/y",
    ] {
        let mut answer = stage.connect().ask_unrecorded("GET", path, "", b"");
        answer.line.truncate(12);
        stage.note(answer.normalised());
    }
    for field in
        ["date/mine", "server/mine", "connection/x", "keep-alive/timeout=5", "X-Upper/Case", "upgrade/x", "te/x"]
    {
        stage.get(&format!("/200/{field}")).expect(200);
        stage.ask("HEAD", &format!("/200/{field}"), "", "").expect(200);
    }
    stage.get("/many").expect(200);
    stage.ask("HEAD", "/200/content-length/10", "", "").expect(200);
    stage.get("/426/upgrade/x").expect(426);
}

fn lengths_that_are_not_true(stage: &mut Stage) {
    // Hyper asserts this where it is built for debugging; otherwise it sends the head.
    let of_hyper = |head: u16| if cfg!(debug_assertions) { None } else { Some(head) };
    let status = |path: &str| {
        let mut client = stage.connect();
        client.send_request("GET", path, "", b"");
        client.is_answered().then(|| client.read_head().status())
    };
    stage.differs(LENGTHS, status("/200/content-length/10"), of_hyper(200), Some(500));
    stage.differs(LENGTHS, status("/200/content-length/3"), of_hyper(200), Some(500));
    stage.differs(LENGTHS, status("/200/content-length/x"), Some(200), Some(500));
    stage.differs(LENGTHS, status("/twice"), Some(200), Some(500));
    stage.differs(TRANSFER_ENCODING, status("/200/transfer-encoding/gzip"), of_hyper(200), Some(200));
    let answer = stage.connect().ask_unrecorded("GET", "/200/stream/transfer-encoding/gzip", "", b"");
    let coding = answer.field("transfer-encoding").unwrap_or_default().to_owned();
    stage.differs(TRANSFER_ENCODING, coding, "gzip, chunked".to_owned(), "chunked".to_owned());
}

fn statuses_without_a_body(stage: &mut Stage) {
    stage.differs(SWITCHES, outcome(stage, "/103/x/y"), "500 \"\"".to_owned(), failed());
    stage.differs(SWITCHES, outcome(stage, "/101/upgrade/x"), "101 \"\"".to_owned(), failed());
    let fields = [("/204/x/y", Some("5"), None), ("/304/x/y", Some("5"), None), ("/205/x/y", Some("5"), Some("0"))];
    for (path, on_axum, on_baiwan) in fields {
        let mut client = stage.connect();
        client.send_request("GET", path, "", b"");
        let head = client.read_head();
        stage.differs_in(NO_CONTENT, &head, "content-length", on_axum, on_baiwan);
    }
}

fn reasons(stage: &mut Stage) {
    let mut answer = stage.connect().ask_unrecorded("GET", "/reason", "", b"").expect(201);
    let reason = answer.line.split_off(13);
    stage.differs(REASON, reason, "Made by Hand".to_owned(), "Created".to_owned());
    stage.note(answer.normalised());
}

fn trailers(stage: &mut Stage) {
    let told = |path: &str, fields: &str| stage.connect().ask_unrecorded("GET", path, fields, b"").trailers.len();
    let te = "TE: trailers\r\nConnection: TE\r\n";
    stage.differs(TRAILERS, told("/trailers", ""), 0, 1);
    stage.differs(TRAILERS, told("/trailers", te), 0, 1);
    stage.differs(TRAILERS, told("/trailers/announced", ""), 0, 1);
    assert_eq!(told("/trailers/announced", te), 1);
    stage.ask("GET", "/trailers/announced", te, "").expect(200);
}

fn connection_options(stage: &mut Stage) {
    let answer = stage.connect().ask_unrecorded("GET", "/200/connection/keep-alive", "", b"").expect(200);
    stage.differs_in(CONNECTION_OPTIONS, &answer, "connection", Some("keep-alive"), None);
    let answer = stage.connect().ask_unrecorded("GET", "/200/connection/Close", "", b"").expect(200);
    stage.differs_in(CONNECTION_OPTIONS, &answer, "connection", Some("Close"), Some("close"));
}
