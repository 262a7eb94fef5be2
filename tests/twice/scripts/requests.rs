//! HTTP/1.1 as clients speak it: connections that persist, requests behind each other, bodies that nobody reads, other
//! protocols.

use crate::comparison::twice;
use crate::differences::{CONTINUE, HTTP_1_0, UNREAD_BODY, UPGRADE_DECLINED};
use crate::stage::{Server, Stage};

const GET: &str = "GET /seen HTTP/1.1\r\nHost: test\r\n";

twice! {
    protocol;
    heads_in_pieces of protocol;
    pipelined_requests_are_answered_in_order of protocol;
    old_clients of protocol;
    bodies_that_nobody_reads of protocol;
    a_client_that_ends_its_direction of protocol;
    switched;
    disconnects;
}

fn protocol(stage: &mut Stage) {
    let mut client = stage.connect();
    for fields in [
        "",
        "Connection: keep-alive\r\n",
        "connection: x\r\n",
        "A: 1\r\na: 2\r\nB:\r\nC: \t c \r\n",
        "TE: trailers\r\n",
    ] {
        client.send(format!("{GET}{fields}\r\n"));
        client.answer_to("GET").expect(200);
    }
    // Targets as they came, empty lines before a request, and the absolute form.
    for target in
        ["/seen?", "/seen?a=b&&c", "/seen/%2F/%zz", "//seen//", "/seen/../x", "http://test/seen?q", "http://test"]
    {
        client.send(format!("\r\nGET {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
        client.answer_to("GET").expect(200);
    }
    client.send(format!("{GET}Connection: close\r\n\r\n{GET}\r\n"));
    assert!(client.answer_to("GET").closes());
    client.expect_end();
    let mut client = stage.connect();
    assert!(client.get("/close").closes());
    client.expect_end();
}

fn heads_in_pieces(stage: &mut Stage) {
    let mut client = stage.connect();
    for byte in format!("{GET}\r\n").as_bytes() {
        client.send([*byte]);
    }
    client.answer_to("GET").expect(200);
    client.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\n");
    for byte in b"body" {
        client.send([*byte]);
    }
    client.answer_to("POST").expect(200).says("body");
}

fn pipelined_requests_are_answered_in_order(stage: &mut Stage) {
    let mut client = stage.connect();
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
    let echo = "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nback".to_owned();
    client.send([ask("/count"), ask("/slow"), echo, ask("/count"), ask("/slow"), ask("/none"), ask("/count")].concat());
    let answers: Vec<_> = (0..7).map(|_| client.answer_to("GET").text().to_owned()).collect();
    assert_eq!([&answers[0], &answers[1], &answers[2], &answers[3], &answers[6]], ["0", "slow", "back", "1", "2"]);
    // More than is read at once.
    client.send(ask("/count").repeat(400));
    for number in 3..403 {
        client.answer_to("GET").expect(200).says(&number.to_string());
    }
}

fn old_clients(stage: &mut Stage) {
    let mut client = stage.connect();
    client.send("GET /count HTTP/1.0\r\n\r\n");
    let mut answer = client.read_answer("GET").expect(200).says("0");
    let line = answer.line.clone();
    stage.differs(HTTP_1_0, line, "HTTP/1.0 200 OK".to_owned(), "HTTP/1.1 200 OK".to_owned());
    answer.line.clear();
    stage.differs_in(HTTP_1_0, &answer, "connection", None, Some("close"));
    client.expect_end();
    let mut client = stage.connect();
    for _ in 0..2 {
        client.send("POST /echo HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nold");
        let answer = client.read_answer("POST").expect(200).says("old");
        assert_eq!(answer.field("connection"), Some("keep-alive"));
    }
}

fn bodies_that_nobody_reads(stage: &mut Stage) {
    let head = "POST /unread HTTP/1.1\r\nHost: test\r\n";
    // They came with the head: the connection goes on.
    let mut client = stage.connect();
    client.send(format!("{head}Content-Length: 5\r\n\r\nhello"));
    client.answer_to("POST").expect(200);
    client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"));
    client.answer_to("POST").expect(200);
    client.get("/seen").expect(200);
    // The rest comes after the answer.
    let mut client = stage.connect();
    client.send(format!("{head}Content-Length: 5\r\n\r\n"));
    client.answer_to("POST").expect(200);
    if stage.server == Server::Baiwan {
        client.send(format!("hello{GET}\r\n"));
    }
    let goes_on = client.is_answered();
    stage.differs(UNREAD_BODY, goes_on, false, true);
    // One that is held back is not waited for. Both close; Baiwan says so.
    let mut client = stage.connect();
    client.send(format!("{head}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"));
    let answer = client.read_answer("POST").expect(200);
    stage.differs_in(CONTINUE, &answer, "connection", None, Some("close"));
    client.shut();
    client.expect_end();
}

fn a_client_that_ends_its_direction(stage: &mut Stage) {
    let mut client = stage.connect();
    // Nobody waits any more, so the handler is dropped.
    client.send("GET /never HTTP/1.1\r\nHost: test\r\n\r\n");
    client.shut();
    client.expect_end();
}

fn switched(stage: &mut Stage) {
    let offer = "GET /shout HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n";
    for early in ["", "early\n"] {
        let mut client = stage.connect();
        client.get("/").expect(200).says("plain");
        // What is sent behind the head belongs to the new protocol.
        client.send(format!("{offer}{early}"));
        client.head().expect(101);
        client.send("late\n");
        let expected = format!("{early}late\n").to_uppercase();
        assert_eq!(client.bytes(expected.len()), expected.as_bytes());
        client.shut();
        client.expect_end();
    }
    stage.get("/shout").expect(426);
    let answer =
        stage.connect().ask_unrecorded("GET", "/", "Connection: upgrade\r\nUpgrade: other\r\n", b"").expect(200);
    stage.differs_in(UPGRADE_DECLINED, &answer, "connection", None, Some("close"));
    // Offers that nobody takes for one: HTTP/2 without TLS, and beside a body.
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n";
    stage.ask("GET", "/", h2c, "").expect(200);
    stage.ask("GET", "/", "Connection: upgrade\r\nUpgrade: other\r\n", "body").expect(200);
}

fn disconnects(stage: &mut Stage) {
    let mut client = stage.connect();
    client.send_request("GET", "/stream", "", b"");
    client.head().expect(200);
    client.text_of_chunks(5);
    drop(client);
    stage.get("/dropped/1").expect(200).says("1");
    let mut client = stage.connect();
    client.send_request("GET", "/handler", "", b"");
    stage.get("/begun/2").expect(200);
    drop(client);
    stage.get("/dropped/2").expect(200).says("2");
}
