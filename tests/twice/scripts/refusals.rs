//! Requests that are malformed, or beyond a limit, or of a kind that no app is for: answered by the server.

use crate::comparison::twice;
use crate::differences::{
    BROKEN_BODY, CODINGS, CONNECT, CONTINUE, Difference, EXPECTATIONS, HTTP_2, OPTIONS_ASTERISK, REFUSAL_TEXT,
    REFUSALS, SIZES, UNSEEN, VERSIONS,
};
use crate::stage::{Server, Stage};

/// What hyper lets through and Baiwan refuses: the rule that it names; the request, with `$` for the end of each line.
const REPAIRED: &[(&str, &str)] = &[
    ("400 Bad Request: host-missing", "GET /seen HTTP/1.1$$"),
    ("400 Bad Request: host-repeated", "GET /seen HTTP/1.1$Host: a$Host: b$$"),
    ("400 Bad Request: host-invalid", "GET /seen HTTP/1.1$Host:$$"),
    ("400 Bad Request: host-invalid", "GET /seen HTTP/1.1$Host: a b$$"),
    ("400 Bad Request: host-mismatch", "GET http://other/seen HTTP/1.1$Host: test$$"),
    ("421 Misdirected Request: target-scheme", "GET https://test/seen HTTP/1.1$Host: test$$"),
    ("400 Bad Request: target-authority", "GET http://user@test/seen HTTP/1.1$Host: test$$"),
    ("400 Bad Request: target-form", "GET * HTTP/1.1$Host: test$$"),
    ("400 Bad Request: target-form", "GET seen HTTP/1.1$Host: test$$"),
    ("400 Bad Request: target-invalid", "GET /seen#fragment HTTP/1.1$Host: test$$"),
    ("400 Bad Request: target-invalid", "GET /é HTTP/1.1$Host: test$$"),
    ("400 Bad Request: target-invalid", "GET /seen?q=a`b HTTP/1.1$Host: test$$"),
    ("400 Bad Request: target-invalid", "GET /seen?q=a\\b HTTP/1.1$Host: test$$"),
    ("400 Bad Request: bare-line-feed", "GET /seen HTTP/1.1\nHost: test\n\n"),
    ("400 Bad Request: length-repeated", "POST /echo HTTP/1.1$Host: test$Content-Length: 2$Content-Length: 2$$hi"),
    (
        "400 Bad Request: length-and-transfer-encoding",
        "POST /echo HTTP/1.1$Host: test$Content-Length: 2$Transfer-Encoding: chunked$$2$hi$0$$",
    ),
    (
        "400 Bad Request: chunk-extension-invalid",
        "POST /echo HTTP/1.1$Host: test$Transfer-Encoding: chunked$$2;$hi$0$$",
    ),
];

/// What both refuse, with 400.
const REFUSED: &[(&str, &str)] = &[
    ("request-line-malformed", "GET /seen$$"),
    ("request-line-malformed", "GET  /seen HTTP/1.1$Host: test$$"),
    ("version-malformed", "GET /s een HTTP/1.1$Host: test$$"),
    ("method-invalid", "G(T /seen HTTP/1.1$Host: test$$"),
    ("target-invalid", "GET /<> HTTP/1.1$Host: test$$"),
    ("field-name-space", "GET /seen HTTP/1.1$Host: test$X : 1$$"),
    ("field-name-invalid", "GET /seen HTTP/1.1$Host: test$X(Y): 1$$"),
    ("field-line-folded", "GET /seen HTTP/1.1$Host: test$X: 1$ folded$$"),
    ("field-colon-missing", "GET /seen HTTP/1.1$Host: test$X$$"),
    ("control-byte", "GET /seen HTTP/1.1$Host: test$X: a\u{1}b$$"),
    ("length-invalid", "POST /echo HTTP/1.1$Host: test$Content-Length: 2, 2$$hi"),
    ("length-invalid", "POST /echo HTTP/1.1$Host: test$Content-Length: +2$$hi"),
    ("transfer-encoding-invalid", "POST /echo HTTP/1.1$Host: test$Transfer-Encoding: gzip$$"),
    ("transfer-encoding-version", "POST /echo HTTP/1.0$Transfer-Encoding: chunked$$2$hi$0$$"),
    ("tls-on-plain-port", "\u{16}\u{3}\u{1}\u{2}"),
];

/// Status and text of the answer to a request of its own.
fn outcome(stage: &Stage, request: &str) -> String {
    let mut client = stage.connect();
    // A refusal may close the connection before all is sent.
    let _ = client.try_send(request.replace('$', "\r\n"));
    if client.is_answered() { client.read_answer("GET").in_short() } else { "the end".to_owned() }
}

/// The text of a refusal as it is sent.
fn refusal(text: &str) -> String {
    format!("{} {:?}", &text[..3], format!("{text}\n"))
}

fn status_differs(stage: &Stage, difference: Difference, request: &str, on_axum: u16, on_baiwan: u16) {
    let mut client = stage.connect();
    let _ = client.try_send(request.replace('$', "\r\n"));
    stage.differs(difference, client.read_answer("GET").status(), on_axum, on_baiwan);
}

twice! {
    malformed_requests_that_hyper_repairs of protocol;
    malformed_requests_that_both_refuse of protocol;
    sizes of protocol;
    what_the_server_answers_itself of protocol;
    bodies_with_malformed_chunks of protocol;
    a_body_that_is_there_needs_no_continue of protocol;
}

fn malformed_requests_that_hyper_repairs(stage: &mut Stage) {
    for (refused, request) in REPAIRED {
        let found = outcome(stage, request);
        assert!(stage.server == Server::Baiwan || found.starts_with("200 "), "{request}: {found}");
        stage.differs(REFUSALS, found == refusal(refused), false, true);
    }
    // What the app has not seen is not counted by it either.
    let counted = stage.connect().ask_unrecorded("GET", "/seen/total", "", b"");
    stage.differs(UNSEEN, counted.text().to_owned(), REPAIRED.len().to_string(), "0".to_owned());
}

fn malformed_requests_that_both_refuse(stage: &mut Stage) {
    for (rule, request) in REFUSED {
        let expected = refusal(&format!("400 Bad Request: {rule}"));
        stage.differs(REFUSAL_TEXT, outcome(stage, request), "400 \"\"".to_owned(), expected);
    }
    assert_eq!(stage.connect().ask_unrecorded("GET", "/seen/total", "", b"").text(), "0");
}

fn sizes(stage: &mut Stage) {
    let head = |bytes: usize| format!("GET /count HTTP/1.1$Host: test$X: {}$$", "x".repeat(bytes));
    let target = |bytes: usize| format!("GET /count?{} HTTP/1.1$Host: test$$", "x".repeat(bytes));
    let fields =
        |number: usize| format!("GET /count HTTP/1.1${}$", "Host: test$".to_owned() + &"X: 1$".repeat(number - 1));
    status_differs(stage, SIZES, &head(17_000), 200, 431);
    status_differs(stage, SIZES, &target(8200), 200, 414);
    status_differs(stage, SIZES, &format!("{} /count HTTP/1.1$Host: test$$", "M".repeat(33)), 200, 400);
    for request in [head(16_000), target(8000), fields(100)] {
        stage.note(outcome(stage, &request)[..3].to_owned());
    }
    // Hyper, too, takes a hundred fields.
    stage.note(outcome(stage, &fields(101))[..3].to_owned());
}

fn what_the_server_answers_itself(stage: &mut Stage) {
    status_differs(stage, CONNECT, "CONNECT test:443 HTTP/1.1$Host: test$$", 200, 501);
    status_differs(stage, OPTIONS_ASTERISK, "OPTIONS * HTTP/1.1$Host: test$$", 200, 204);
    status_differs(stage, EXPECTATIONS, "POST /echo HTTP/1.1$Host: test$Expect: more$Content-Length: 2$$hi", 200, 417);
    let coded = "POST /echo HTTP/1.1$Host: test$Transfer-Encoding: gzip, chunked$$2$hi$0$$";
    status_differs(stage, CODINGS, coded, 200, 501);
    status_differs(stage, VERSIONS, "GET /seen HTTP/1.2$Host: test$$", 400, 200);
    status_differs(stage, VERSIONS, "GET /seen HTTP/2.0$Host: test$$", 400, 505);
    // Here axum is without its feature `http2`; with it, it would go on in HTTP/2.
    let preface = outcome(stage, "PRI * HTTP/2.0$$SM$$");
    let refused = refusal("505 HTTP Version Not Supported: http2-unexpected");
    stage.differs(HTTP_2, preface, "the end".to_owned(), refused);
}

fn bodies_with_malformed_chunks(stage: &mut Stage) {
    let broken = |path: &str| format!("POST {path} HTTP/1.1$Host: test$Transfer-Encoding: chunked$$xyz$hello$0$$");
    let refused = refusal("400 Bad Request: chunk-size-invalid");
    let of_axum = "400 \"Failed to buffer the request body: error reading a body from connection\"";
    stage.differs(BROKEN_BODY, outcome(stage, &broken("/echo")), of_axum.to_owned(), refused.clone());
    stage.differs(BROKEN_BODY, outcome(stage, &broken("/unread")), "200 \"not read\"".to_owned(), refused);
}

fn a_body_that_is_there_needs_no_continue(stage: &mut Stage) {
    let request = "POST /echo HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let mut client = stage.connect();
    client.send(format!("{request}hello"));
    let first = client.read_head().status();
    stage.differs(CONTINUE, first, 100, 200);
    // One that is held back is asked for.
    let mut client = stage.connect();
    client.send(request);
    client.answer_to("POST").expect(100);
    client.send("hello");
    client.answer_to("POST").expect(200).says("hello");
    client.get("/seen").expect(200);
}
