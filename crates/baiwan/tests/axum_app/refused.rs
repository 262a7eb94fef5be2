//! What the server answers by itself: the rate limit, pages of other sites, an `EventSource`.

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::HeaderValue;
use axum::routing::{any, get, post};
use baiwan::{EventLoop, RateLimitMode, RefusalCors};

use crate::rig::{Client, Rig, builder, server};

const PAGE: &str = "https://app.example.org";

fn app() -> Router {
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/never", get(std::future::pending::<&str>))
        .route("/body", post(|body: Bytes| async move { format!("{} bytes", body.len()) }))
        .route("/switch", any(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(|_| async {}) }))
        .route("/health", get(|| async { "healthy" }))
}

/// A server that lets each client ask four times in this test.
fn limited(event_loop: EventLoop) -> Rig {
    let origins = RefusalCors::Origins(vec![HeaderValue::from_static(PAGE)]);
    let builder = server(event_loop).rate_limit(Some("4/h".parse().unwrap())).refusal_cors(origins);
    Rig::start(builder, app())
}

pub(crate) fn requests_that_are_too_many_are_refused_and_their_connection_goes_on(event_loop: EventLoop) {
    let rig = limited(event_loop);
    let mut client = rig.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n".repeat(20));
    let answers: Vec<_> = (0..20).map(|_| client.answer(false)).collect();
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!((&statuses[..4], &statuses[4..]), (&[200; 4][..], &[429; 16][..]));
    assert!(answers.iter().all(|answer| answer.field("connection").is_none()));
    assert_eq!(answers[3].field("ratelimit-policy"), Some("\"default\";q=4;w=3600"));
    assert!(answers[2].field("ratelimit").is_none() && answers[3].field("ratelimit").is_some());
    let refused = client.ask("POST", "/body", "", "a body that nobody reads");
    assert_eq!((refused.status, refused.field("content-type")), (429, Some("application/problem+json")));
    assert!(refused.field("retry-after").is_some() && refused.text().contains("quota-exceeded"), "{refused:?}");
    assert_eq!(client.ask("HEAD", "/", "", "").status, 429);
    assert_eq!(client.get("/health").text(), "healthy");
    let counts = rig.health.counts();
    assert_eq!((counts.requests, counts.rate_limited), (23, 18));
    drop(client);
    rig.stop();
}

pub(crate) fn offers_of_another_protocol_count_once_each(event_loop: EventLoop) {
    const OFFER: &str = "GET /switch HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let rig = limited(event_loop);
    for status in [101, 101] {
        let mut client = rig.connect();
        client.send(OFFER);
        assert_eq!(client.head().status, status);
    }
    // One that waits behind an answer is looked at twice.
    let mut client = rig.connect();
    client.send(format!("GET / HTTP/1.1\r\nHost: test\r\n\r\n{OFFER}"));
    assert_eq!((client.answer(false).status, client.head().status), (200, 101));
    // What an app answers that declines says what is left, as any answer does.
    let rig = limited(event_loop);
    for left in [None, None, None, Some("0")] {
        let mut client = rig.connect();
        client.send(OFFER.replace("/switch", "/"));
        let declined = client.answer(false);
        let said = declined.field("ratelimit").map(|field| &field["\"default\";r=".len()..][..1]);
        assert_eq!((declined.status, said), (200, left));
    }
    let mut client = rig.connect();
    // What follows may be of the protocol that was offered, however much it looks like a request.
    client.send(format!("{OFFER}GET /health HTTP/1.1\r\nHost: test\r\n\r\n"));
    let refused = client.answer(false);
    assert_eq!((refused.status, refused.field("upgrade"), refused.field("connection")), (429, None, Some("close")));
    client.expect_end();
}

pub(crate) fn a_page_of_a_listed_origin_reads_what_the_server_says(event_loop: EventLoop) {
    let rig = limited(event_loop);
    let mut client = rig.connect();
    for _ in 0..4 {
        assert_eq!(client.get("/").status, 200);
    }
    let refused = client.ask("GET", "/", &format!("Origin: {PAGE}\r\n"), "");
    assert_eq!((refused.status, refused.field("access-control-allow-origin")), (429, Some(PAGE)));
    assert_eq!(
        refused.field("access-control-expose-headers"),
        Some("Retry-After, RateLimit, RateLimit-Policy, X-Request-Id")
    );
    assert_eq!(refused.field("vary"), Some("Origin"));
    let other = client.ask("GET", "/", "Origin: https://b.org\r\n", "");
    assert_eq!((other.status, other.field("access-control-allow-origin")), (429, None));
    let preflight = format!("Origin: {PAGE}\r\nAccess-Control-Request-Method: PUT\r\n");
    assert_eq!(client.ask("OPTIONS", "/", &preflight, "").status, 405, "the app's to answer");
    let timeout = Some(Duration::from_millis(50));
    let rig = Rig::start(server(event_loop).request_timeout(timeout).refusal_cors(RefusalCors::Any), app());
    let late = rig.connect().ask("GET", "/never", "Origin: null\r\n", "");
    assert_eq!((late.status, late.field("access-control-allow-origin")), (503, Some("*")));
    assert_eq!((late.field("retry-after"), late.field("vary")), (Some("1"), None));
}

pub(crate) fn an_event_source_is_told_when_to_come_back(event_loop: EventLoop) {
    let rig = limited(event_loop);
    let mut client = rig.connect();
    for _ in 0..4 {
        assert_eq!(client.get("/").status, 200);
    }
    let told = client.ask("GET", "/", "Accept: text/event-stream\r\n", "");
    assert_eq!((told.status, told.field("content-type")), (200, Some("text/event-stream")));
    assert!(told.text().starts_with("retry: ") && told.text().ends_with("\n\n"), "{told:?}");
    assert_eq!(client.ask("POST", "/body", "Accept: application/json, text/event-stream\r\n", "").status, 429);
    let timeout = Some(Duration::from_millis(50));
    let rig = Rig::start(server(event_loop).request_timeout(timeout), app());
    let told = rig.connect().ask("GET", "/never", "Accept: text/event-stream\r\n", "");
    assert_eq!((told.status, told.field("connection")), (200, Some("close")));
    assert!(told.text().starts_with("retry: "), "{told:?}");
}

pub(crate) fn nobody_is_refused_in_report_mode_or_who_is_exempt_or_over_a_unix_socket(event_loop: EventLoop) {
    let quota = Some("1/h".parse().unwrap());
    let report = server(event_loop).rate_limit(quota).rate_limit_mode(RateLimitMode::Report);
    let exempt = server(event_loop).rate_limit(quota).rate_limit_exempt("127.0.0.0/8".parse().unwrap());
    for (builder, reported) in [(report, 9), (exempt, 0)] {
        let rig = Rig::start(builder, app());
        let mut client = rig.connect();
        assert!((0..10).all(|_| client.get("/").status == 200));
        let counts = rig.health.counts();
        assert_eq!((counts.requests, counts.rate_limited, counts.rate_limit_reported), (10, 0, reported));
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let _rig = Rig::start(builder(event_loop).rate_limit(quota).bind(format!("unix:{}", path.display())), app());
    let mut client = Client::connect_unix(&path);
    assert!((0..10).all(|_| client.get("/").status == 200));
}
