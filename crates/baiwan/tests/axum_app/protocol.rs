//! What the server decides of HTTP for any app: trailers that go with a body of known length, and `OPTIONS *`.

use std::convert::Infallible;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::TRAILER;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{any, get};
use baiwan::EventLoop;
use http_body_util::{BodyExt, Full};

use crate::rig::{Client, Rig, server};

/// axum says how long this is, and only chunks can carry what follows it.
async fn summed() -> impl IntoResponse {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("1"));
    let body = Full::new(Bytes::from_static(b"body"));
    let body = body.with_trailers(async move { Some(Ok::<_, Infallible>(trailers)) });
    ([(TRAILER, "x-sum")], Body::new(body))
}

/// Reads one chunk, the last one and its trailers.
fn expect_summed(client: &mut Client<std::net::TcpStream>) {
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
