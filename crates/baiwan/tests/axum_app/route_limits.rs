//! Limits of one route in the place of the server's: `baiwan::RouteLimits` on routes, nested routers, and behind a middleware that waits.
//!
//! That a limit does not hold shows when a neighbour's has ended, which came later.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{get, post};
use baiwan::{Builder, CloseReason, EventLoop, RouteLimits};
use tokio::sync::Semaphore;

use crate::rig::{Rig, eventually, server};

const SHORT: Option<Duration> = Some(Duration::from_millis(50));

/// What the handlers have seen, and what one waits for.
#[derive(Clone)]
struct Seen {
    calls: Arc<AtomicUsize>,
    go: Arc<Semaphore>,
}

impl Seen {
    fn new() -> Self {
        Self { calls: Arc::default(), go: Arc::new(Semaphore::new(0)) }
    }

    fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }
}

/// Has what follows called in a later poll than the first.
async fn wait(request: Request, next: Next) -> Response {
    tokio::time::sleep(Duration::from_millis(1)).await;
    next.run(request).await
}

/// The same routes without the limits, with them in `/in`, and with them behind a middleware that waits in `/late`.
fn app(limits: RouteLimits, seen: &Seen) -> Router {
    let (wait_for, collected) = (seen.clone(), seen.clone());
    let poll = async move || {
        wait_for.calls.fetch_add(1, SeqCst);
        wait_for.go.acquire().await.unwrap().forget();
        "news"
    };
    let collect = async move |body: Bytes| {
        collected.calls.fetch_add(1, SeqCst);
        body.len().to_string()
    };
    let routes = Router::new().route("/poll", get(poll)).route("/collect", post(collect));
    let limited = routes.clone().layer(limits);
    Router::new().nest("/in", limited.clone()).nest("/late", limited.layer(from_fn(wait))).merge(routes)
}

fn start(builder: Builder, limits: RouteLimits, seen: &Seen) -> Rig {
    Rig::start(builder, app(limits, seen))
}

fn head(path: &str, fields: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")
}

pub(crate) fn a_route_may_take_longer_than_the_server_allows(event_loop: EventLoop) {
    let seen = Seen::new();
    let rig = start(server(event_loop).request_timeout(SHORT), RouteLimits::new().request_timeout(None), &seen);
    let mut clients = ["/in/poll", "/late/poll"].map(|path| {
        let mut client = rig.connect();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client
    });
    eventually("both handlers wait", || seen.calls() == 2);
    assert_eq!(rig.connect().get("/poll").status, 503);
    seen.go.add_permits(2);
    for client in &mut clients {
        assert_eq!(client.answer(false).text(), "news");
    }
}

pub(crate) fn a_route_may_take_less_time_than_the_server_allows(event_loop: EventLoop) {
    let limits = RouteLimits::new().request_timeout(SHORT);
    let rig = start(server(event_loop), limits, &Seen::new());
    for path in ["/in/poll", "/late/poll"] {
        let answer = rig.connect().get(path);
        assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")), "{path}");
        assert!(answer.text().ends_with("request-timeout\n"), "{}", answer.text());
    }
    eventually("both are closed", || rig.health.counts().closed_by(CloseReason::RequestTimeout) == 2);
    let rig = start(server(event_loop), RouteLimits::new().body_timeout(SHORT), &Seen::new());
    for path in ["/in/collect", "/late/collect"] {
        let mut client = rig.connect();
        client.send(head(path, "Content-Length: 3") + "a");
        let answer = client.answer(false);
        assert_eq!(answer.status, 408, "{path}");
        assert!(answer.text().ends_with("body-timeout\n"), "{}", answer.text());
    }
    rig.stop();
}

pub(crate) fn a_route_may_take_a_body_that_hardly_comes(event_loop: EventLoop) {
    let rig = start(server(event_loop), RouteLimits::new().body_min_rate(0), &Seen::new());
    let mut clients = ["/in/collect", "/late/collect", "/collect"].map(|path| {
        let mut client = rig.connect();
        client.send(head(path, "Content-Length: 3") + "a");
        client
    });
    let answer = clients[2].answer(false);
    assert!(answer.status == 408 && answer.text().ends_with("body-too-slow\n"), "{}", answer.text());
    for client in &mut clients[..2] {
        client.send("bc");
        assert_eq!(client.answer(false).text(), "3");
    }
}

pub(crate) fn a_body_beyond_the_limit_of_its_route_is_refused(event_loop: EventLoop) {
    let seen = Seen::new();
    let rig = start(server(event_loop), RouteLimits::new().body_limit(1000), &seen);
    let large = "x".repeat(1001);
    let chunked = format!("3e9\r\n{large}\r\n0\r\n\r\n");
    let mut refused = 0;
    for path in ["/in/collect", "/late/collect"] {
        for (fields, body) in [
            ("Content-Length: 1001", ""),
            ("Content-Length: 1001\r\nExpect: 100-continue", ""),
            ("Content-Length: 1001", &*large),
            ("Transfer-Encoding: chunked", &*chunked),
        ] {
            let mut client = rig.connect();
            client.send(head(path, fields) + body);
            let answer = client.answer(false);
            assert_eq!((answer.status, answer.field("connection")), (413, Some("close")), "{path} {fields}");
            assert!(answer.text().ends_with("body-too-large\n"), "{}", answer.text());
            refused += 1;
        }
    }
    assert_eq!(seen.calls(), 0, "no handler was given such a body");
    assert_eq!(rig.health.counts().refused_by("body-too-large"), refused);
    let mut client = rig.connect();
    assert_eq!(client.post("/in/collect", &large[1..]).text(), "1000");
    assert_eq!(client.post("/collect", &large).text(), "1001");
    assert_eq!(client.post("/late/collect", "abc").text(), "3");
    drop(client);
    eventually("all others are closed as refused", || rig.health.counts().closed_by(CloseReason::Refused) == refused);
}
