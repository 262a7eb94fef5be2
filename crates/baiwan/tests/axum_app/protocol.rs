//! What the server decides of HTTP for any app: answers that cannot be sent as they are, trailers that go with a body of known
//! length, and `OPTIONS *`.

use std::convert::Infallible;
use std::net::TcpStream;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::TRAILER;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{any, get};
use baiwan::{CloseReason, EventLoop};
use futures_util::stream;
use http_body_util::{BodyExt, Full};
use tokio::sync::Notify;

use crate::rig::{Answer, Client, Rig, eventually, server};

/// axum says how long this is, and only chunks can carry what follows it.
async fn summed() -> impl IntoResponse {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("1"));
    let body = Full::new(Bytes::from_static(b"body"));
    let body = body.with_trailers(async move { Some(Ok::<_, Infallible>(trailers)) });
    ([(TRAILER, "x-sum")], Body::new(body))
}

/// Reads one chunk, the last one and its trailers.
fn expect_summed(client: &mut Client<TcpStream>) {
    let head = client.head();
    assert_eq!((head.field("content-length"), head.field("transfer-encoding")), (None, Some("chunked")));
    assert_eq!(head.field("trailer"), Some("x-sum"));
    assert_eq!(client.bytes(9), b"4\r\nbody\r\n");
    assert_eq!(client.bytes(15), b"0\r\nx-sum: 1\r\n\r\n");
}

pub(crate) fn announced_trailers_follow_a_body_of_known_length(event_loop: EventLoop) {
    let rig = Rig::start(server(event_loop), Router::new().route("/", get(summed)));
    let mut client = rig.connect();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: test\r\nTE: trailers\r\nConnection: TE\r\n\r\n");
        expect_summed(&mut client);
    }
    let head = client.ask("HEAD", "/", "", "");
    assert_eq!((head.status, head.field("content-length")), (200, None));
    client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let old = client.answer(false);
    assert_eq!((old.text(), old.field("content-length"), old.field("transfer-encoding")), ("body", Some("4"), None));
    drop(client);
    rig.stop();
}

fn app() -> Router {
    let fallback = async |request: Request| match request.uri() == "*" {
        true => (StatusCode::OK, [("allow", "GET, OPTIONS")]).into_response(),
        false => StatusCode::NOT_FOUND.into_response(),
    };
    Router::new().route("/", any(|| async { "root" })).fallback(fallback)
}

pub(crate) fn options_asterisk_is_answered_without_the_app(event_loop: EventLoop) {
    let rig = Rig::start(server(event_loop), app());
    let mut client = rig.connect();
    for body in ["", "hello"] {
        let answer = client.ask("OPTIONS", "*", "", body);
        assert_eq!((answer.status, answer.field("allow"), answer.field("connection")), (204, None, None));
        assert!(answer.field("date").is_some());
    }
    assert_eq!(client.ask("OPTIONS", "/", "", "").text(), "root");
    // An offer beside it is not taken up.
    let answer = client.ask("OPTIONS", "*", "Connection: upgrade\r\nUpgrade: foo\r\n", "");
    assert_eq!((answer.status, answer.field("upgrade")), (204, None));
    drop(client);
    assert_eq!(rig.health.counts().requests, 4);
    rig.stop();
}

pub(crate) fn options_asterisk_reaches_an_app_that_asks_for_it(event_loop: EventLoop) {
    let rig = Rig::start(server(event_loop).options_asterisk(true), app());
    let mut client = rig.connect();
    let answer = client.ask("OPTIONS", "*", "", "");
    assert_eq!((answer.status, answer.field("allow")), (200, Some("GET, OPTIONS")));
    assert_eq!(client.get("/").text(), "root");
    drop(client);
    rig.stop();
}

/// The body of an answer: `hello` or nothing, and whether its length is known.
#[derive(Clone, Copy, Debug)]
enum Said {
    Hello,
    Nothing,
    HelloInPieces,
}

type Fields = &'static [(&'static str, &'static str)];

/// How a request begins; what the app answers to it; what comes back, as [`summary`] writes it.
const ANSWERS: &[(&str, u16, Fields, Said, &str)] = &[
    ("GET", 200, &[("content-length", "007")], Said::HelloInPieces, CANNOT_BE_SENT),
    ("HEAD", 200, &[("content-length", "007")], Said::Nothing, CANNOT_BE_SENT),
    ("GET", 304, &[("content-length", "007")], Said::Nothing, CANNOT_BE_SENT),
    ("GET", 204, &[("content-length", "+5")], Said::Nothing, CANNOT_BE_SENT),
    ("GET", 200, &[("content-length", "5"), ("content-length", "5")], Said::Hello, CANNOT_BE_SENT),
    ("HEAD", 200, &[("content-length", "5"), ("content-length", "5")], Said::Nothing, CANNOT_BE_SENT),
    ("GET", 200, &[("content-length", "4")], Said::Hello, CANNOT_BE_SENT),
    ("GET", 200, &[("content-length", "5")], Said::Nothing, CANNOT_BE_SENT),
    ("GET", 103, &[], Said::Nothing, CANNOT_BE_SENT),
    ("GET", 101, &[("upgrade", "x"), ("connection", "upgrade")], Said::Nothing, CANNOT_BE_SENT),
    ("GET", 200, &[("content-length", "5")], Said::HelloInPieces, "200, 5 bytes: hello"),
    ("HEAD", 200, &[("content-length", "5")], Said::Nothing, "200, 5 bytes"),
    ("HEAD", 200, &[], Said::HelloInPieces, "200"),
    ("GET", 204, &[("content-length", "5")], Said::Nothing, "204"),
    ("GET", 205, &[("content-length", "5")], Said::Hello, "205, 0 bytes"),
    ("GET", 304, &[("content-length", "5")], Said::Nothing, "304, 5 bytes"),
    ("GET", 304, &[("content-length", "5")], Said::Hello, "304"),
    ("GET", 200, &[("transfer-encoding", "gzip")], Said::Hello, "200, 5 bytes: hello"),
    ("GET", 200, &[("transfer-encoding", "gzip")], Said::HelloInPieces, "200, chunked: hello"),
    ("GET", 200, &[("connection", "keep-alive, x")], Said::Hello, "200, x, 5 bytes: hello"),
    ("GET", 200, &[("connection", "x, Close"), ("connection", "y")], Said::Hello, "200, x, y, close, 5 bytes: hello"),
];
const CANNOT_BE_SENT: &str = "500, close, 60 bytes: 500 Internal Server Error: the-request-could-not-be-handled\n";

fn summary(answer: &Answer) -> String {
    let mut summary = answer.status.to_string();
    let connection = answer.field("connection").map(str::to_owned);
    let length = answer.field("content-length").map(|length| format!("{length} bytes"));
    let coding = answer.field("transfer-encoding").map(str::to_owned);
    for part in [connection, length, coding].into_iter().flatten() {
        summary += &format!(", {part}");
    }
    if !answer.body.is_empty() {
        summary += &format!(": {}", answer.text());
    }
    summary
}

pub(crate) fn an_answer_is_checked_and_framed_alike_on_both_event_loops(event_loop: EventLoop) {
    let app = tower::service_fn(|request: Request<baiwan::Body>| async move {
        let number: usize = request.uri().path()[1..].parse()?;
        let (_, status, fields, said, _) = ANSWERS[number];
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        let body = match said {
            Said::Hello => Body::from("hello"),
            Said::Nothing => Body::empty(),
            Said::HelloInPieces => Body::from_stream(stream::iter(["he", "llo"].map(Ok::<_, Infallible>))),
        };
        Ok::<_, anyhow::Error>(response.body(body)?)
    });
    let rig = Rig::start(server(event_loop), app);
    for (number, case) in ANSWERS.iter().enumerate() {
        let (method, _, _, _, expected) = *case;
        let mut client = rig.connect();
        client.send(format!("{method} /{number} HTTP/1.1\r\nHost: test\r\n\r\n"));
        // What has no body has none, whatever its fields say.
        let answer = client.answer(method == "HEAD" || expected.starts_with("304"));
        let found = summary(&answer);
        let expected = if method == "HEAD" { expected.split(':').next().unwrap() } else { expected };
        assert_eq!(found, expected, "{case:?}");
    }
    let failed = ANSWERS.iter().filter(|(.., expected)| *expected == CANNOT_BE_SENT).count() as u64;
    eventually("every connection has ended", || rig.health.connections() == 0);
    assert_eq!(rig.health.counts().closed_by(CloseReason::HandlerFailed), failed);
    rig.stop();
}

pub(crate) fn a_body_beyond_its_announced_length_is_cut_before_the_first_byte_of_that(event_loop: EventLoop) {
    let go = Arc::new(Notify::new());
    let going = Arc::clone(&go);
    let handler = || async move {
        let pieces = stream::unfold((going, 0), |(going, number)| async move {
            let piece = ["hel", "lo!"].get(number)?;
            if number == 1 {
                going.notified().await;
            }
            Some((Ok::<_, Infallible>(*piece), (going, number + 1)))
        });
        Response::builder().header("content-length", "5").body(Body::from_stream(pieces)).unwrap()
    };
    let rig = Rig::start(server(event_loop), Router::new().route("/", get(handler)));
    let mut client = rig.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let head = client.head();
    assert_eq!((head.status, head.field("content-length")), (200, Some("5")));
    assert_eq!(client.bytes(3), b"hel");
    go.notify_one();
    client.expect_end();
    drop(client);
    eventually("it is counted", || rig.health.counts().closed_by(CloseReason::HandlerFailed) == 1);
    rig.stop();
}

pub(crate) fn connect_is_refused_before_the_app(event_loop: EventLoop) {
    let rig = Rig::start(server(event_loop), Router::new().fallback(|| async { "the app's" }));
    let mut client = rig.connect();
    client.send("CONNECT test:443 HTTP/1.1\r\nHost: test:443\r\n\r\n");
    let answer = client.answer(false);
    assert_eq!((answer.status, answer.field("connection")), (501, Some("close")));
    let _ = client.sender().shutdown(std::net::Shutdown::Write);
    client.expect_end();
    eventually("it is counted", || rig.health.counts().closed_by(CloseReason::Refused) == 1);
    assert_eq!(rig.health.counts().refused_by("connect-unsupported"), 1);
    rig.stop();
}
