//! Layers of tower-http and of axum, as people use them.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::get;
use baiwan::EventLoop;
use tower::Layer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{Any, CorsLayer};
use tower_http::normalize_path::NormalizePathLayer;
use tower_http::timeout::TimeoutLayer;
use tower_http::trace::TraceLayer;

use crate::rig::{Rig, server};

pub(crate) fn the_trace_layer_sees_each_request_and_its_answer(event_loop: EventLoop) {
    let (requests, answers) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let layer = TraceLayer::new_for_http()
        .on_request({
            let requests = Arc::clone(&requests);
            move |_: &Request, _: &tracing::Span| _ = requests.fetch_add(1, Relaxed)
        })
        .on_response({
            let answers = Arc::clone(&answers);
            move |_: &Response, _: Duration, _: &tracing::Span| _ = answers.fetch_add(1, Relaxed)
        });
    let later = || async {
        tokio::task::yield_now().await;
        "later"
    };
    let app = Router::new().route("/", get(|| async { "now" })).route("/later", get(later)).layer(layer);
    let rig = Rig::start(server(event_loop), app);
    let mut client = rig.connect();
    assert_eq!(client.get("/").text(), "now");
    assert_eq!(client.get("/later").text(), "later");
    assert_eq!(client.get("/nowhere").status, 404);
    assert_eq!((requests.load(Relaxed), answers.load(Relaxed)), (3, 3));
    drop(client);
    rig.stop();
}

pub(crate) fn the_cors_layer_answers_a_preflight(event_loop: EventLoop) {
    let layer = CorsLayer::new().allow_origin(Any).allow_methods([axum::http::Method::PUT]);
    let app = Router::new().route("/", get(|| async { "page" })).layer(layer);
    let rig = Rig::start(server(event_loop), app);
    let mut client = rig.connect();
    let fields = "Origin: https://example.org\r\nAccess-Control-Request-Method: PUT\r\n";
    let answer = client.ask("OPTIONS", "/", fields, "");
    assert_eq!((answer.status, answer.field("access-control-allow-origin")), (200, Some("*")));
    assert_eq!(answer.field("access-control-allow-methods"), Some("PUT"));
    let answer = client.ask("GET", "/", "Origin: https://example.org\r\n", "");
    assert_eq!((answer.text(), answer.field("access-control-allow-origin")), ("page", Some("*")));
    drop(client);
    rig.stop();
}

pub(crate) fn the_timeout_layer_answers_for_a_handler_that_is_late(event_loop: EventLoop) {
    let layer = TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::from_millis(20));
    let app = Router::new()
        .route("/never", get(|| async { std::future::pending::<&str>().await }))
        .route("/now", get(|| async { "now" }))
        .layer(layer);
    let rig = Rig::start(server(event_loop), app);
    let mut client = rig.connect();
    assert_eq!(client.get("/never").status, 504);
    assert_eq!(client.get("/now").text(), "now", "the connection goes on");
    drop(client);
    rig.stop();
}

pub(crate) fn the_compression_layer_compresses_for_those_who_ask(event_loop: EventLoop) {
    let text = "many words, many times. ".repeat(10_000);
    let whole = text.clone();
    let app = Router::new().route("/", get(|| async { whole })).layer(CompressionLayer::new());
    let rig = Rig::start(server(event_loop), app);
    let mut client = rig.connect();
    let answer = client.ask("GET", "/", "Accept-Encoding: gzip\r\n", "");
    assert_eq!(answer.field("content-encoding"), Some("gzip"));
    assert_eq!(answer.field("content-length"), None, "nobody knows how long it will be");
    assert!(answer.body.len() < text.len() / 10, "{} bytes", answer.body.len());
    let mut unpacked = String::new();
    flate2::read::GzDecoder::new(&answer.body[..]).read_to_string(&mut unpacked).unwrap();
    assert_eq!(unpacked, text);
    let answer = client.get("/");
    assert_eq!((answer.field("content-encoding"), answer.text()), (None, &*text));
    drop(client);
    rig.stop();
}

pub(crate) fn a_layer_around_the_whole_router_changes_what_is_routed(event_loop: EventLoop) {
    async fn stamp(request: Request, next: Next) -> Response {
        let mut response = next.run(request).await;
        response.headers_mut().insert(header::SERVER, "stamped".parse().unwrap());
        response
    }
    let router = Router::new().route("/page", get(|| async { "page" })).layer(from_fn(stamp));
    // Around the router, so that it is there before routes are matched; `Router::layer` would come after.
    let app = NormalizePathLayer::trim_trailing_slash().layer(router);
    let rig = Rig::start(server(event_loop), app);
    let mut client = rig.connect();
    for path in ["/page/", "/page"] {
        let answer = client.get(path);
        assert_eq!((answer.text(), answer.field("server")), ("page", Some("stamped")));
    }
    drop(client);
    rig.stop();
}
