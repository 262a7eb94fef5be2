//! What requests are called, in their answers and to their handlers.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ws::WebSocketUpgrade;
use axum::http::HeaderValue;
use axum::response::IntoResponse;
use axum::routing::{any, get, post};
use baiwan::{EventLoop, RequestId, RouteLimits};

use crate::rig::{Answer, Rig, server};

const PARENT: &str = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const LATE: Duration = Duration::from_millis(100);

fn current() -> String {
    RequestId::current().map(|id| id.to_string()).unwrap_or_default()
}

/// What the request is called, as its handler sees it in four places: asked for, before and after it waits, in its body.
async fn everywhere(id: RequestId) -> impl IntoResponse {
    let first = current();
    tokio::task::yield_now().await;
    let spawned = tokio::spawn(async { RequestId::current() }).await.unwrap();
    assert_eq!(spawned, None, "a task of its own is not the request");
    let begin = format!("{id} {first} {}", current());
    let end = async { Ok::<_, std::convert::Infallible>(format!(" {}", current())) };
    let pieces = futures_util::stream::once(async { Ok(begin) });
    Body::from_stream(futures_util::StreamExt::chain(pieces, futures_util::stream::once(end)))
}

fn app() -> Router {
    let traced = |id: RequestId| async move {
        let trace = id.trace_context().map(|trace| format!("{} {}", trace.parent_id(), trace.is_sampled()));
        trace.unwrap_or_default()
    };
    let small = RouteLimits::new().body_limit(10);
    Router::new()
        .route("/", get(|| async { current() }))
        .route("/everywhere", get(everywhere))
        .route("/traced", get(traced))
        .route("/optional", get(|id: Option<RequestId>| async move { id.is_some().to_string() }))
        .route("/asked", get(|id: RequestId| async move { id.to_string() }))
        .route("/mine", get(|| async { ([("x-request-id", "of the app")], "") }))
        .route("/never", get(std::future::pending::<&str>))
        .route(
            "/panic",
            get(|| async {
                if current().len() == 32 {
                    panic!("on purpose")
                }
            }),
        )
        .route("/small", post(|body: Bytes| async move { body.len().to_string() }).layer(small))
        .route("/switch", any(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(|_| async {}) }))
}

fn name(answer: &Answer) -> &str {
    answer.field("x-request-id").unwrap_or_default()
}

fn is_made(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

pub(crate) fn every_answer_says_what_its_request_is_called(event_loop: EventLoop) {
    let rig = Rig::start(server(event_loop).request_ids(true).request_timeout(Some(LATE)), app());
    let mut client = rig.connect();
    let made: Vec<_> = (0..3).map(|_| client.get("/")).collect();
    assert!(made.iter().all(|answer| is_made(name(answer)) && answer.text() == name(answer)), "{made:?}");
    assert!(name(&made[0]) != name(&made[1]) && name(&made[1]) != name(&made[2]));
    for (fields, expected) in [("X-Request-Id: abc-1\r\n", "abc-1"), (PARENT, TRACE)] {
        let answer = client.ask("GET", "/", fields, "");
        assert_eq!((name(&answer), answer.text()), (expected, expected));
        let answer = client.ask("GET", "/everywhere", fields, "");
        assert_eq!(answer.text(), [expected; 4].join(" "));
        assert_eq!(name(&answer), expected);
        assert_eq!(name(&client.ask("GET", "/none", fields, "")), expected, "404");
        assert_eq!(name(&client.ask("OPTIONS", "*", fields, "")), expected);
        assert_eq!(client.ask("GET", "/asked", fields, "").text(), expected);
        // The last answers of their connections: of the server, instead of the app's.
        for (method, path, body, status) in
            [("GET", "/never", "", 503), ("HEAD", "/never", "", 503), ("POST", "/small", "more than ten bytes", 413)]
        {
            let answer = rig.connect().ask(method, path, fields, body);
            assert_eq!((answer.status, name(&answer)), (status, expected), "{method} {path}");
        }
    }
    assert_eq!(client.ask("GET", "/traced", PARENT, "").text(), "00f067aa0ba902b7 true");
    assert_eq!(client.get("/traced").text(), "");
    assert_eq!(name(&client.get("/mine")), "of the app");
    assert!(is_made(name(&client.ask("GET", "/", "X-Request-Id: a\"b\r\n", ""))));
    let panicked = rig.connect().get("/panic");
    assert!(panicked.status == 500 && is_made(name(&panicked)), "{panicked:?}");
    const OFFER: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Request-Id: abc-2\r\n";
    for (path, status) in [("/switch", 101), ("/none", 404), ("/never", 503)] {
        let mut client = rig.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{OFFER}\r\n"));
        let head = client.head();
        assert_eq!((head.status, name(&head)), (status, "abc-2"), "{path}");
    }
    // A head that was not read has no name.
    let mut client = rig.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\nX-Request-Id: abc\r\nno colon\r\n\r\n");
    let refused = client.answer(false);
    assert_eq!((refused.status, name(&refused)), (400, ""));
}

pub(crate) fn refusals_of_the_gate_say_it_too(event_loop: EventLoop) {
    let rig = Rig::start(server(event_loop).request_ids(true).rate_limit(Some("1/h".parse().unwrap())), app());
    let mut client = rig.connect();
    assert_eq!(client.get("/").status, 200);
    let refused = client.ask("GET", "/", "X-Request-Id: abc\r\n", "");
    assert_eq!((refused.status, name(&refused)), (429, "abc"));
    let told = client.ask("GET", "/", "X-Request-Id: abc\r\nAccept: text/event-stream\r\n", "");
    assert_eq!((told.status, name(&told)), (200, "abc"));
    let refused = client.get("/");
    assert!(refused.status == 429 && is_made(name(&refused)), "{refused:?}");
}

pub(crate) fn only_a_trusted_proxy_names_requests_where_there_is_one(event_loop: EventLoop) {
    for (proxies, is_believed) in [("127.0.0.0/8", true), ("10.0.0.0/8", false)] {
        let rig = Rig::start(server(event_loop).request_ids(true).trusted_proxies(proxies.parse().unwrap()), app());
        let mut client = rig.connect();
        let answer = client.ask("GET", "/", "X-Request-Id: abc\r\n", "");
        assert_eq!(name(&answer) == "abc", is_believed, "{answer:?}");
        let answer = client.ask("GET", "/traced", PARENT, "");
        assert_eq!(name(&answer) == TRACE, is_believed, "{answer:?}");
        assert_eq!(answer.text(), "00f067aa0ba902b7 true", "the trace is what it is");
    }
}

pub(crate) fn nothing_is_said_until_it_is_asked_for(event_loop: EventLoop) {
    let rig = Rig::start(server(event_loop), app());
    let mut client = rig.connect();
    let answer = client.ask("GET", "/", "X-Request-Id: abc\r\n", "");
    assert_eq!((answer.field("x-request-id"), answer.text()), (None, ""));
    assert_eq!(client.get("/optional").text(), "false");
    assert_eq!(client.get("/asked").status, 500);
    assert_eq!(name(&client.get("/mine")), "of the app");
}

pub(crate) fn a_page_of_another_site_may_read_it(event_loop: EventLoop) {
    let cors = baiwan::RefusalCors::Origins(vec![HeaderValue::from_static("https://a.org")]);
    let builder = server(event_loop).request_ids(true).refusal_cors(cors).rate_limit(Some("1/h".parse().unwrap()));
    let rig = Rig::start(builder, app());
    let mut client = rig.connect();
    client.get("/");
    let refused = client.ask("GET", "/", "Origin: https://a.org\r\n", "");
    let exposed = refused.field("access-control-expose-headers").unwrap_or_default();
    assert!(refused.status == 429 && exposed.ends_with(", X-Request-Id") && is_made(name(&refused)), "{refused:?}");
}
