//! Persistence, pipelines and upgrades (RFC 9112 9, RFC 9110 7.6 and 7.8).

use crate::case::{Cases, get, post};
use crate::wire::{Answer, Dialogue, Fence, Way, exchange, read_answers};

#[test]
fn a_connection_persists_unless_somebody_says_close() {
    let mut cases = Cases::default();
    for line in [
        "",
        "Connection: keep-alive\r\n",
        "Connection:\r\n",
        "Connection: ,\r\n",
        "Connection: closed\r\n",
        "Connection: x-close, not close\r\n",
    ] {
        cases.answered(&[200], get("/", line)).with_body("root");
    }
    for line in [
        "Connection: close",
        "Connection: Close",
        "connection: CLOSE",
        "Connection:close",
        "Connection: keep-alive, close",
        "Connection: close, keep-alive",
        "Connection: a ,\tclose\t,b",
        "Connection: ,close,",
        "Connection: keep-alive\r\nConnection: close",
        "Connection: close\r\nConnection: keep-alive",
    ] {
        cases.answered_last(&[200], get("/", &format!("{line}\r\n"))).with_body("root");
        cases.answered_last(&[200], get("/slow", &format!("{line}\r\n"))).with_body("slow");
    }
    cases.answered_last(&[404], get("/nowhere", "Connection: close\r\n"));
    cases.answered_last(&[200], post("/echo", "Connection: close\r\nContent-Length: 2\r\n", "hi")).with_body("hi");
    cases.run();
}

#[test]
fn an_http_1_0_connection_persists_only_where_it_is_asked_to() {
    let mut cases = Cases::default();
    for line in [
        "",
        "Connection: close\r\n",
        "Connection: x\r\n",
        "Keep-Alive: timeout=5\r\n",
        "Proxy-Connection: keep-alive\r\n",
        "Connection: keep-alive, close\r\n",
    ] {
        cases.answered_last(&[200], format!("GET / HTTP/1.0\r\n{line}\r\n")).with_body("root");
    }
    for line in ["Connection: keep-alive", "Connection: Keep-Alive", "connection: x, KEEP-ALIVE"] {
        let input = format!("GET / HTTP/1.0\r\n{line}\r\n\r\n");
        // The client goes on only if it is told that the server does.
        cases
            .answered(&[200], input)
            .with_body("root")
            .with_check(|answer| assert_eq!(answer.field("connection"), Some("keep-alive")));
    }
    let input = "POST /echo HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi";
    cases.answered(&[200], input).with_body("hi");
    // What has no length ends with the connection, which therefore cannot persist.
    let input = "GET /chunks HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    cases.answered_last(&[200], input).with_body("one two three");
    cases.answered_last(&[200], "GET /chunks HTTP/1.0\r\n\r\n").with_body("one two three");
    cases.run();
}

#[test]
fn row_34_fields_that_a_client_nominates_stay() {
    let mut cases = Cases::default();
    let lines = "Connection: host, content-length, x-forwarded-for, authorization\r\nX-Forwarded-For: 1\r\nAuthorization: a\r\nContent-Length: 2\r\n";
    let text = "POST /request HTTP/1.1\nhost=[probe]\nconnection=[host, content-length, x-forwarded-for, authorization]\n\
        x-forwarded-for=[1]\nauthorization=[a]\ncontent-length=[2]\nhi";
    cases.answered(&[200], post("/request", lines, "hi")).with_body(text);
    let lines = "Connection: transfer-encoding, close\r\nTransfer-Encoding: chunked\r\n";
    cases.answered_last(&[200], post("/echo", lines, "2\r\nhi\r\n0\r\n\r\n")).with_body("hi");
    cases.run();
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let requests = [
        get("/slow", ""),
        get("/", ""),
        post("/echo", "Content-Length: 2\r\n", "hi"),
        get("/chunks", ""),
        get("/nowhere", ""),
        get("/slow", ""),
    ];
    let bytes = format!("{}{}", requests.concat().repeat(20), get("/smuggled", "Connection: close\r\n"));
    let bytes = bytes.as_bytes();
    let mut fence = Fence::new();
    for way in [Way::Whole, Way::Cut(100), Way::Cut(bytes.len() / 2), Way::ByteByByte] {
        let (received, seen) = exchange(bytes, way, &mut fence);
        let answers = read_answers(&received, &[]).unwrap();
        let bodies: Vec<_> = answers.iter().map(|answer| String::from_utf8_lossy(&answer.body)).collect();
        let expected = ["slow", "root", "hi", "one two three", "", "slow"].repeat(20);
        assert_eq!(bodies[..120], expected);
        assert_eq!((&*bodies[120], seen.len()), ("smuggled", 121));
    }
}

#[test]
fn row_28_what_follows_a_last_request_is_discarded() {
    let mut fence = Fence::new();
    let last = get("/", "Connection: close\r\n");
    for rest in [get("/smuggled", ""), "garbage\0\n".to_owned(), get("/smuggled", "").repeat(1000), "\r\n".repeat(500)]
    {
        let bytes = format!("{last}{rest}");
        for way in [Way::Whole, Way::Cut(last.len())] {
            let (received, seen) = exchange(bytes.as_bytes(), way, &mut fence);
            let answers = read_answers(&received, &[]).unwrap();
            assert_eq!((answers.len(), answers[0].status, seen.len()), (1, 200, 1), "{rest:?}");
        }
    }
}

fn not_switched(answer: &Answer) {
    assert!(answer.interim.is_empty(), "{answer:?}");
    assert_eq!(answer.field("upgrade"), None);
}

#[test]
fn row_33_h2c_is_ignored() {
    let mut cases = Cases::default();
    let settings = "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n";
    for lines in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n",
        "Connection: upgrade\r\nUpgrade: H2C\r\n",
        "Connection: upgrade\r\nUpgrade: h2c, h2c\r\n",
        "Upgrade: h2c\r\n",
    ] {
        cases.answered(&[200], get("/", &format!("{lines}{settings}"))).with_body("root").with_check(not_switched);
        let lines = format!("{lines}{settings}Content-Length: 2\r\n");
        cases.answered(&[200], post("/echo", &lines, "hi")).with_body("hi").with_check(not_switched);
    }
    cases.run();
}

#[test]
fn an_upgrade_that_the_app_does_not_take_up_is_ignored() {
    let mut cases = Cases::default();
    let handshake = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    for lines in ["Upgrade: websocket\r\n", "Connection: upgrade\r\n", "Connection: upgrade\r\nUpgrade:\r\n"] {
        cases.answered(&[200], get("/", &format!("{lines}{handshake}"))).with_body("root").with_check(not_switched);
    }
    // What stands behind an offer may belong to the protocol that was offered, so the answer is the last.
    for lines in [
        "Connection: upgrade\r\nUpgrade: totally-made-up/1.0\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        "Connection: upgrade\r\nUpgrade: TLS/1.0\r\n",
        "Connection: upgrade\r\nUpgrade: h2\r\n",
    ] {
        cases
            .answered_last(&[200], get("/", &format!("{lines}{handshake}")))
            .with_body("root")
            .with_check(not_switched);
    }
    let input = "GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    cases.answered_last(&[200], input).with_check(not_switched);
    cases.run();
}

#[test]
fn row_31_a_websocket_handshake_has_no_body() {
    let mut cases = Cases::default();
    let handshake = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    cases.refused(400, get("/", &format!("{handshake}Content-Length: 2\r\n")) + "hi");
    cases.refused(400, get("/", &format!("Transfer-Encoding: chunked\r\n{handshake}")) + "0\r\n\r\n");
    cases.answered_last(&[200], get("/", &format!("{handshake}Content-Length: 0\r\n"))).with_check(not_switched);
    cases.run();
}

#[test]
fn an_answer_comes_before_the_body_that_it_does_not_need() {
    let mut dialogue = Dialogue::new();
    dialogue.send(&post("/ignore", "Content-Length: 10\r\n", "01234"));
    let answer = dialogue.head();
    assert_eq!((answer.status, answer.says_close()), (200, false));
    dialogue.expect("ignored");
    // The rest of the body is the rest of the body.
    dialogue.send("56789");
    dialogue.send(&get("/smuggled", "Connection: close\r\n"));
    let answers = dialogue.answers(&["GET"]);
    assert_eq!((answers.len(), &answers[0].body[..]), (1, &b"smuggled"[..]));
}
