//! Limits of a route in the place of the server's: what its layer says is what the engine judges by, and for that exchange only.

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{get as route_get, post};
use http_body_util::BodyExt;
use tower_layer::Layer;
use tower_service::Service;

use super::rig::{Peer, Rig, get, statuses};
use crate::RouteLimits;
use crate::settings::Settings;
use crate::status::CloseReason;

const fn seconds(count: u64) -> Option<Duration> {
    Some(Duration::from_secs(count))
}

/// Waits for a second, and has the next layer called in a later poll than the first.
async fn wait(request: Request, next: Next) -> Response {
    tokio::time::sleep(Duration::from_secs(1)).await;
    next.run(request).await
}

/// The same routes with these limits at `/in/…`, behind a middleware that waits at `/late/…`, and without limits.
fn app(limits: RouteLimits) -> Router {
    let routes = Router::new()
        .route("/never", route_get(std::future::pending::<&str>))
        .route("/collect", post(|body: Bytes| async move { body.len().to_string() }))
        .route("/echo", post(|request: Request| async { request.into_body() }))
        // Reads elsewhere than in the task of the exchange.
        .route(
            "/elsewhere",
            post(async |request: Request| {
                let read = tokio::spawn(request.into_body().collect());
                read.await.unwrap().map(|body| body.to_bytes().len().to_string()).unwrap_or_default()
            }),
        );
    let limited = routes.clone().layer(limits);
    Router::new().nest("/in", limited.clone()).nest("/late", limited.layer(from_fn(wait))).merge(routes)
}

fn upload(path: &str, fields: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")
}

/// Sends a request on a connection of its own, and lets the middleware that waits do so.
async fn begin(rig: &Rig, request: &str) -> Peer {
    let mut peer = rig.connect();
    peer.send(request);
    rig.settle().await;
    rig.pass(Duration::from_secs(1)).await;
    peer
}

fn server(request_timeout: Option<Duration>, body_timeout: Option<Duration>) -> Settings {
    Settings { request_timeout, body_timeout, ..Settings::default() }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_route_may_take_longer_than_the_server_allows_or_less() {
    for (limit, path, over_after) in [
        (seconds(120), "/never", Some(30)),
        (seconds(120), "/in/never", Some(120)),
        (seconds(120), "/late/never", Some(121)),
        (seconds(5), "/in/never", Some(5)),
        (seconds(5), "/late/never", Some(6)),
        (None, "/in/never", None),
        (None, "/late/never", None),
    ] {
        let rig = Rig::with_settings(app(RouteLimits::new().request_timeout(limit)), server(seconds(30), None));
        let mut peer = rig.connect();
        peer.send(get(path));
        rig.pass(Duration::from_secs(over_after.unwrap_or(200) - 1)).await;
        assert_eq!(peer.receive(), "", "{path} {limit:?}");
        rig.pass(Duration::from_millis(1200)).await;
        let answer = peer.receive();
        drop(peer);
        rig.settle().await;
        match over_after {
            Some(_) => {
                assert_eq!(statuses(&answer), [503], "{path} {limit:?}");
                assert!(answer.contains("retry-after: 1") && answer.ends_with("request-timeout\n"), "{answer}");
                assert_eq!(rig.closed(CloseReason::RequestTimeout), 1);
            }
            None => assert_eq!((answer, rig.closed(CloseReason::PeerClosed)), (String::new(), 1), "{path}"),
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_event_source_for_which_its_route_takes_too_long_is_told_when_to_come_back_and_no_other_request_is() {
    // Nothing but the route has a timeout.
    let rig = Rig::with_settings(app(RouteLimits::new().request_timeout(seconds(5))), server(None, None));
    for path in ["/in/never", "/late/never"] {
        for (fields, status) in [("Accept: text/event-stream", 200), ("Accept: */*", 503)] {
            let mut peer = begin(&rig, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")).await;
            rig.pass(Duration::from_secs(6)).await;
            let answer = peer.receive();
            assert_eq!(statuses(&answer), [status], "{path} {fields}");
            assert_eq!(answer.contains("\r\n\r\nretry: "), status == 200, "{answer}");
        }
    }
    rig.settle().await;
    assert_eq!(rig.closed(CloseReason::RequestTimeout), 4);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_route_may_take_a_body_that_comes_a_byte_at_a_time() {
    let rig = Rig::new(app(RouteLimits::new().body_min_rate(0)));
    for (path, status) in
        [("/collect", 408), ("/in/collect", 200), ("/late/collect", 200), ("/in/echo", 200), ("/late/elsewhere", 200)]
    {
        let mut peer = begin(&rig, &upload(path, "Content-Length: 4")).await;
        let mut answer = String::new();
        for byte in ["a", "b", "c", "d"] {
            rig.pass(Duration::from_secs(20)).await;
            answer += &peer.receive();
            let _ = peer.0.send(byte.as_bytes());
        }
        rig.settle().await;
        answer += &peer.receive();
        assert_eq!(statuses(&answer), [status], "{path}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_route_may_ask_for_a_faster_body_than_the_server() {
    let rig = Rig::with_settings(
        app(RouteLimits::new().body_min_rate(10_000)),
        Settings { body_rate_min: 0, ..Settings::default() },
    );
    for path in ["/collect", "/in/collect", "/late/collect"] {
        let mut peer = begin(&rig, &upload(path, "Content-Length: 100000")).await;
        for _ in 0..10 {
            let _ = peer.0.send(&[b'x'; 1000]);
            rig.pass(Duration::from_secs(1)).await;
        }
        let answer = peer.receive();
        match path {
            "/collect" => assert_eq!(answer, ""),
            _ => assert!(statuses(&answer) == [408] && answer.ends_with(": body-too-slow\n"), "{path}: {answer}"),
        }
    }
    rig.settle().await;
    assert_eq!(rig.closed(CloseReason::BodyTooSlow), 2);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_body_may_take_as_long_as_its_route_says_whether_the_answer_has_begun_or_not() {
    for (limit, over) in [(seconds(10), true), (seconds(100), false), (None, false)] {
        for path in ["/in/collect", "/late/collect", "/in/echo"] {
            let limits = RouteLimits::new().body_timeout(limit).body_min_rate(0);
            let rig = Rig::with_settings(app(limits), server(None, seconds(30)));
            let mut peer = begin(&rig, &upload(path, "Content-Length: 50")).await;
            for _ in 0..50 {
                let _ = peer.0.send(b"x");
                rig.pass(Duration::from_secs(1)).await;
            }
            let answer = peer.receive();
            let status = if over && path != "/in/echo" { 408 } else { 200 };
            assert_eq!(statuses(&answer), [status], "{path} {limit:?}");
            assert_eq!(rig.closed(CloseReason::BodyTimeout), u64::from(over), "{path} {limit:?}");
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_body_beyond_the_limit_of_its_route_is_refused_as_by_the_server() {
    let rig = Rig::new(app(RouteLimits::new().body_limit(1000)));
    let large = "x".repeat(1001);
    let mut refused = 0;
    for path in ["/in/collect", "/late/collect", "/in/echo", "/late/elsewhere"] {
        for (fields, body) in [
            // Before a byte has come; with the first; with all.
            ("Content-Length: 1001", ""),
            ("Content-Length: 1001\r\nExpect: 100-continue", ""),
            ("Content-Length: 1001", "x"),
            ("Content-Length: 1001", &*large),
            // A chunk that is announced; one that is there; and the whole.
            ("Transfer-Encoding: chunked", "3e9\r\n"),
            ("Transfer-Encoding: chunked", "3e9\r\nx"),
            ("Transfer-Encoding: chunked", &*format!("3e9\r\n{large}")),
            ("Transfer-Encoding: chunked", &*format!("3e9\r\n{large}\r\n0\r\n\r\n")),
        ] {
            let mut peer = begin(&rig, &(upload(path, fields) + body)).await;
            let answer = peer.receive();
            assert_eq!(statuses(&answer), [413], "{path} {fields} {body}");
            assert!(answer.contains("connection: close") && answer.ends_with("body-too-large\n"), "{answer}");
            refused += 1;
        }
        // What comes later is refused as soon as it is announced. The answer that has begun with it cannot say so.
        let mut peer = begin(&rig, &(upload(path, "Transfer-Encoding: chunked") + "3e8\r\n" + &large[1..])).await;
        peer.send("\r\n1\r\n");
        rig.settle().await;
        let status = if path == "/in/echo" { 200 } else { 413 };
        assert_eq!(statuses(&peer.receive()), [status], "{path}");
        refused += 1;
    }
    assert_eq!(rig.counts().refused_by("body-too-large"), refused);
    rig.pass(Duration::from_secs(10)).await;
    assert_eq!(rig.closed(CloseReason::Refused), refused);
    rig.assert_empty_but_endpoints();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_body_of_the_length_that_its_route_allows_is_taken_and_the_next_request_has_the_limits_of_its_own() {
    let rig = Rig::new(app(RouteLimits::new().body_limit(3).request_timeout(seconds(5))));
    let mut peer = rig.connect();
    for path in ["/in/collect", "/late/collect", "/in/echo"] {
        for (fields, first, rest) in
            [("Content-Length: 3", "ab", "c"), ("Transfer-Encoding: chunked", "2\r\nab", "\r\n1\r\nc\r\n0\r\n\r\n")]
        {
            for pieces in [vec![first, rest], vec![&*format!("{first}{rest}")]] {
                peer.send(upload(path, fields));
                for piece in pieces {
                    peer.send(piece);
                    rig.pass(Duration::from_millis(1100)).await;
                }
                assert_eq!(statuses(&peer.receive()), [200], "{path} {fields}");
            }
        }
        peer.send(upload("/collect", "Content-Length: 5") + "abcde");
        rig.settle().await;
        assert!(peer.receive().ends_with("\r\n\r\n5"), "after {path}");
    }
    peer.send(get("/never"));
    rig.pass(Duration::from_secs(100)).await;
    assert_eq!(peer.receive(), "");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_innermost_layer_decides_a_time() {
    let never = || route_get(std::future::pending::<&str>);
    let inner = RouteLimits::new().request_timeout(seconds(50));
    let app = Router::new()
        .route("/inner", never().layer(inner))
        .route("/outer", never())
        .layer(RouteLimits::new().request_timeout(seconds(5)));
    let rig = Rig::serving(app);
    let mut peers = [rig.connect(), rig.connect()];
    peers[0].send(get("/inner"));
    peers[1].send(get("/outer"));
    rig.pass(Duration::from_secs(49)).await;
    assert_eq!(peers.each_mut().map(|peer| statuses(&peer.receive())), [vec![], vec![503]]);
    rig.pass(Duration::from_secs(2)).await;
    assert_eq!(statuses(&peers[0].receive()), [503]);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_app_that_is_not_ready_at_once_has_the_limits_of_its_routes() {
    let never = tower::service_fn(|_: http::Request<crate::Body>| {
        std::future::pending::<Result<http::Response<Body>, Infallible>>()
    });
    let inner = RouteLimits::new().request_timeout(seconds(5)).layer(never);
    let rig = Rig::serving(LateReady { inner, polls: 0 });
    let mut peer = rig.connect();
    peer.send(get("/"));
    rig.pass(Duration::from_secs(4)).await;
    assert_eq!(peer.receive(), "");
    rig.pass(Duration::from_millis(1200)).await;
    assert_eq!(statuses(&peer.receive()), [503]);
}

/// Ready when it is asked again.
#[derive(Clone)]
struct LateReady<S> {
    inner: S,
    polls: u32,
}

impl<S: Service<R>, R> Service<R> for LateReady<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.polls += 1;
        if self.polls == 1 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.inner.call(request)
    }
}
