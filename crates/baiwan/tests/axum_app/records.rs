//! What an observer is told of the exchanges of an axum app: which route they were, and how each ended.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ws::WebSocketUpgrade;
use axum::http::StatusCode;
use axum::routing::{get, post};
use baiwan::{Builder, CloseReason, EventLoop, Exchange, Outcome, RouteLayer};
use tower::Layer;
use tower_http::normalize_path::NormalizePathLayer;

use crate::rig::{Rig, eventually, server};

/// An offer of another protocol, without its request line.
const OFFER: &str = "Host: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// What the server says before a body that a client holds back.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// What follows a request that is the last of its connection.
const LAST: &str = "Host: test\r\nConnection: close\r\n\r\n";
/// Short enough to wait for, and long enough for what is in time.
const LATE: Duration = Duration::from_millis(500);

/// What a record says that does not depend on the time.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Line {
    method: String,
    route: String,
    status: u16,
    bytes_in: u64,
    bytes_out: u64,
    outcome: Outcome,
}

impl Line {
    /// Without the bytes.
    fn short(&self) -> (&str, &str, u16, Outcome) {
        (&self.method, &self.route, self.status, self.outcome)
    }
}

/// Records, in the order in which the exchanges ended.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Line>>>);

impl Seen {
    fn observed(&self, event_loop: EventLoop) -> Builder {
        let seen = self.clone();
        server(event_loop).observe(move |exchange: &Exchange<'_>| {
            let answered = exchange.answered.unwrap_or(exchange.ended);
            assert!(exchange.begun <= answered && answered <= exchange.ended, "{exchange:?}");
            assert!(exchange.client.ip().is_loopback() && exchange.client.port() > 0, "{exchange:?}");
            seen.0.lock().unwrap().push(Line {
                method: exchange.method.map_or_else(|| "-".to_owned(), ToString::to_string),
                route: exchange.route.to_owned(),
                status: exchange.status.map_or(0, |status| status.as_u16()),
                bytes_in: exchange.bytes_in,
                bytes_out: exchange.bytes_out,
                outcome: exchange.outcome,
            });
        })
    }

    /// All records since the last call, when there is one.
    fn next(&self) -> Vec<Line> {
        eventually("the exchange has a record", || !self.0.lock().unwrap().is_empty());
        self.take()
    }

    fn take(&self) -> Vec<Line> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// The one record since the last call.
    fn one(&self) -> Line {
        let lines = self.next();
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines[0].clone()
    }
}

fn users() -> Router {
    let later = |later: &'static str| async move {
        tokio::task::yield_now().await;
        later
    };
    Router::new().route("/{id}", get(|| async { "a user" })).route("/{id}/later", get(move || later("later")))
}

/// A body of frames that come one after the other, and fails after them if it is told to.
fn frames(fails: bool) -> Body {
    Body::from_stream(futures_util::stream::unfold(0, move |count| async move {
        tokio::task::yield_now().await;
        match count {
            0..3 => Some((Ok(Bytes::from_static(b"frame")), count + 1)),
            3 if fails => Some((Err(std::io::Error::other("on purpose")), count + 1)),
            _ => None,
        }
    }))
}

async fn panics() -> &'static str {
    panic!("in the handler, as the test wants it")
}

fn app() -> Router {
    let refused = |upgrade: WebSocketUpgrade| async move {
        let _switched = upgrade.on_upgrade(|_| async {});
        StatusCode::FORBIDDEN
    };
    Router::new()
        .nest("/users", users())
        .route("/frames", get(|| async { frames(false) }))
        .route("/broken", get(|| async { frames(true) }))
        .route("/echo", post(|body: Bytes| async { body }))
        .route("/panic", get(panics))
        .route("/never", get(std::future::pending::<&str>))
        .route("/health/live", get(|| async { "live" }))
        .route("/ws", get(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(|_| async {}) }))
        .route("/ws/refused", get(refused))
        .route("/ws/panic", get(|_: WebSocketUpgrade| panics()))
}

fn start(event_loop: EventLoop, set: impl FnOnce(Builder) -> Builder) -> (Rig, Seen) {
    let seen = Seen::default();
    (Rig::start(set(seen.observed(event_loop)), app()), seen)
}

/// Sends bytes on a connection of its own, and returns what comes back until its end.
fn converse(rig: &Rig, request: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(rig.address()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // A connection that is cut may be reset.
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// Asks for paths on one connection, which stops with the server, and returns the routes and statuses of the records.
fn told<A: baiwan::App + Send>(event_loop: EventLoop, app: A, paths: &[&str]) -> Vec<(String, u16)> {
    let seen = Seen::default();
    let rig = Rig::start(seen.observed(event_loop), app);
    let mut client = rig.connect();
    for path in paths {
        client.get(path);
    }
    drop(client);
    rig.stop();
    let lines = seen.take();
    assert!(lines.iter().all(|line| line.outcome == Outcome::Answered), "{lines:?}");
    lines.into_iter().map(|line| (line.route, line.status)).collect()
}

pub(crate) fn a_router_tells_the_whole_template_of_each_route(event_loop: EventLoop) {
    let app = Router::new().route("/", get(|| async { "root" })).nest("/api", Router::new().nest("/users", users()));
    let told = told(event_loop, app, &["/", "/api/users/7", "/api/users/8/later", "/nowhere"]);
    let expected = [("/", 200), ("/api/users/{id}", 200), ("/api/users/{id}/later", 200), ("unmatched", 404)];
    assert_eq!(told, expected.map(|(route, status)| (route.to_owned(), status)));
}

pub(crate) fn a_layer_tells_the_route_where_the_app_is_no_router(event_loop: EventLoop) {
    let inside = || Router::new().nest("/users", users());
    let around = NormalizePathLayer::trim_trailing_slash();
    let routes = told(event_loop, around.layer(inside().layer(RouteLayer)), &["/users/7/"]);
    assert_eq!(routes, [("/users/{id}".to_owned(), 200)]);
    let routes = told(event_loop, around.layer(inside()), &["/users/7/"]);
    assert_eq!(routes, [("unmatched".to_owned(), 200)], "nobody has looked");
}

pub(crate) fn a_router_that_is_nested_as_a_service_tells_the_whole_template(event_loop: EventLoop) {
    let app = Router::new().nest_service("/api", users().layer(RouteLayer));
    assert_eq!(told(event_loop, app, &["/api/7"]), [("/api/{id}".to_owned(), 200)]);
}

/// The records of one exchange after the other, each on a connection of its own; each is compared with what was received.
fn records_of_many(event_loop: EventLoop) -> Vec<Line> {
    let (rig, seen) =
        start(event_loop, |server| server.request_timeout(Some(LATE * 3)).body_timeout(Some(LATE)).body_min_rate(0));
    let upload = "POST /echo HTTP/1.1\r\nHost: test\r\nConnection: close\r\n";
    let requests = [
        format!("GET /users/7 HTTP/1.1\r\n{LAST}"),
        format!("GET /users/7/later HTTP/1.1\r\n{LAST}"),
        format!("HEAD /users/7 HTTP/1.1\r\n{LAST}"),
        format!("GET /frames HTTP/1.1\r\n{LAST}"),
        format!("GET /nowhere HTTP/1.1\r\n{LAST}"),
        format!("OPTIONS * HTTP/1.1\r\n{LAST}"),
        format!("CONNECT test:80 HTTP/1.1\r\n{LAST}"),
        format!("{upload}Content-Length: 5\r\n\r\nhello"),
        format!("{upload}Content-Length: 5\r\nExpect: 100-continue\r\n\r\nhello"),
        format!("{upload}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        format!("{upload}Content-Length: 5\r\n\r\nhell"),
        format!("GET /panic HTTP/1.1\r\n{LAST}"),
        format!("GET /broken HTTP/1.1\r\n{LAST}"),
        format!("GET /never HTTP/1.1\r\n{LAST}"),
        "GET /users/7 HTTP/1.1\r\nHo st: test\r\n\r\n".to_owned(),
        format!("GET /ws HTTP/1.1\r\n{OFFER}"),
        format!("GET /ws/refused HTTP/1.1\r\n{}", OFFER.replace("Upgrade\r\n", "Upgrade, close\r\n")),
        format!("GET /ws/panic HTTP/1.1\r\n{OFFER}"),
        format!("GET /users/7 HTTP/1.1\r\n{}", OFFER.replace("Upgrade\r\n", "Upgrade, close\r\n")),
    ];
    let mut records = Vec::new();
    for request in &requests {
        let answer = converse(&rig, request);
        let answer = answer.strip_prefix(CONTINUE).unwrap_or(&answer);
        let mut line = seen.one();
        assert_eq!(line.bytes_in, if line.method == "-" { 0 } else { request.len() as u64 }, "{request}");
        assert_eq!(line.bytes_out, answer.len() as u64, "{request} {line:?}");
        assert!(answer.starts_with(format!("HTTP/1.1 {}", line.status).as_bytes()), "{line:?} {answer:?}");
        line.bytes_out = 0;
        records.push(line);
    }
    rig.stop();
    assert_eq!(seen.take(), [], "one record each");
    records
}

pub(crate) fn every_exchange_has_one_record_that_says_how_it_ended(event_loop: EventLoop) {
    let (whole, ended) = (Outcome::Answered, Outcome::Ended);
    let expected = [
        ("GET", "/users/{id}", 200, whole),
        ("GET", "/users/{id}/later", 200, whole),
        ("HEAD", "/users/{id}", 200, whole),
        ("GET", "/frames", 200, whole),
        ("GET", "unmatched", 404, whole),
        ("OPTIONS", "unmatched", 204, whole),
        ("-", "unmatched", 501, ended(CloseReason::Refused)),
        ("POST", "/echo", 200, whole),
        ("POST", "/echo", 200, whole),
        ("POST", "/echo", 200, whole),
        ("POST", "/echo", 408, ended(CloseReason::BodyTimeout)),
        ("GET", "/panic", 500, ended(CloseReason::HandlerFailed)),
        ("GET", "/broken", 200, ended(CloseReason::HandlerFailed)),
        ("GET", "/never", 503, ended(CloseReason::RequestTimeout)),
        ("-", "unmatched", 400, ended(CloseReason::Refused)),
        ("GET", "/ws", 101, whole),
        ("GET", "/ws/refused", 403, whole),
        ("GET", "/ws/panic", 500, ended(CloseReason::HandlerFailed)),
        ("GET", "/users/{id}", 200, whole),
    ];
    let records = records_of_many(event_loop);
    assert_eq!(records.iter().map(Line::short).collect::<Vec<_>>(), expected);
}

#[cfg(all(target_os = "linux", not(baiwan_portable)))]
#[test]
fn the_same_exchanges_make_the_same_records_on_both_event_loops() {
    assert_eq!(records_of_many(EventLoop::Epoll), records_of_many(EventLoop::Portable));
}

pub(crate) fn exchanges_of_one_connection_have_a_record_each(event_loop: EventLoop) {
    let (rig, seen) = start(event_loop, |server| server);
    let request = "GET /users/7 HTTP/1.1\r\nHost: test\r\n\r\n".to_owned();
    let many = [request.as_str(), &request, &format!("GET /frames HTTP/1.1\r\n{LAST}")].concat();
    let answers = converse(&rig, &many);
    eventually("each has a record", || seen.0.lock().unwrap().len() == 3);
    let lines = seen.take();
    let expected = [("GET", "/users/{id}", 200, Outcome::Answered); 2];
    assert_eq!(lines.iter().take(2).map(Line::short).collect::<Vec<_>>(), expected);
    assert_eq!(lines[2].short(), ("GET", "/frames", 200, Outcome::Answered));
    let sums = lines.iter().fold((0, 0), |sums, line| (sums.0 + line.bytes_in, sums.1 + line.bytes_out));
    assert_eq!(sums, (many.len() as u64, answers.len() as u64), "{lines:?}");
    // What is refused behind an answer has a record of its own.
    let answers = converse(&rig, &(request.clone() + "GE(T / HTTP/1.1\r\n\r\n"));
    eventually("each has a record", || seen.0.lock().unwrap().len() == 2);
    let lines = seen.take();
    assert_eq!(lines[0].short(), expected[0]);
    assert_eq!(lines[1].short(), ("-", "unmatched", 400, Outcome::Ended(CloseReason::Refused)));
    assert_eq!(lines[0].bytes_out + lines[1].bytes_out, answers.len() as u64);
    rig.stop();
}

pub(crate) fn a_head_that_does_not_come_has_a_record_and_a_silent_connection_has_none(event_loop: EventLoop) {
    let (rig, seen) = start(event_loop, |server| server.header_timeout(Some(LATE)).keep_alive_timeout(Some(LATE)));
    assert_eq!(converse(&rig, "\r\n"), b"");
    let mut silent = rig.connect();
    silent.get("/users/7");
    silent.expect_end();
    assert_eq!(seen.one().short(), ("GET", "/users/{id}", 200, Outcome::Answered));
    let answer = converse(&rig, "GET /users/7 HTTP/1.1\r\nHost:");
    let line = seen.one();
    // hyper says nothing.
    let status = if event_loop == EventLoop::Epoll { 408 } else { 0 };
    assert_eq!(line.short(), ("-", "unmatched", status, Outcome::Ended(CloseReason::HeaderTimeout)));
    assert_eq!((line.bytes_in, line.bytes_out), (0, answer.len() as u64));
    drop(silent);
    rig.stop();
    assert_eq!(seen.take(), []);
}

pub(crate) fn what_is_too_long_has_a_record_with_its_status(event_loop: EventLoop) {
    let (rig, seen) = start(event_loop, |server| server);
    for (request, status) in [
        (format!("GET /{} HTTP/1.1\r\n{LAST}", "x".repeat(70_000)), 414),
        (format!("GET / HTTP/1.1\r\nX: {}\r\n{LAST}", "x".repeat(600_000)), 431),
    ] {
        let mut client = rig.connect();
        let mut sender = client.sender();
        // It may be refused before it was sent.
        std::thread::spawn(move || drop(sender.write_all(request.as_bytes())));
        assert_eq!(client.head().status, status);
        let line = seen.one();
        assert_eq!(line.short(), ("-", "unmatched", status, Outcome::Ended(CloseReason::Refused)));
        assert!(line.bytes_in == 0 && line.bytes_out > 0, "{line:?}");
    }
    rig.stop();
}

pub(crate) fn a_peer_that_leaves_in_the_middle_ends_its_exchange(event_loop: EventLoop) {
    let (rig, seen) = start(event_loop, |server| server);
    for (number, fields) in [(1, LAST), (2, OFFER)] {
        let request = format!("GET /never HTTP/1.1\r\n{fields}");
        let mut client = rig.connect();
        client.send(&request);
        eventually("the request is taken in", || rig.health.counts().requests == number);
        client.sender().shutdown(Shutdown::Write).unwrap();
        let line = seen.one();
        assert_eq!(line.short(), ("GET", "/never", 0, Outcome::Ended(CloseReason::PeerClosed)));
        assert_eq!((line.bytes_in, line.bytes_out), (request.len() as u64, 0));
    }
    rig.stop();
    assert_eq!(seen.take(), []);
}

pub(crate) fn a_stop_that_cuts_ends_the_exchanges_that_it_cuts(event_loop: EventLoop) {
    let (rig, seen) = start(event_loop, |server| server.shutdown_timeout(LATE).shutdown_idle(LATE * 2));
    let (mut plain, mut offer, mut switched) = (rig.connect(), rig.connect(), rig.connect());
    plain.send(format!("GET /never HTTP/1.1\r\n{LAST}"));
    offer.send(format!("GET /never HTTP/1.1\r\n{OFFER}"));
    switched.send(format!("GET /ws HTTP/1.1\r\n{OFFER}"));
    assert_eq!(switched.head().status, 101);
    assert_eq!(seen.one().short(), ("GET", "/ws", 101, Outcome::Answered));
    eventually("the requests are taken in", || rig.health.counts().requests == 3);
    rig.begin_stop().join().unwrap().unwrap();
    let lines = seen.take();
    let expected = [("GET", "/never", 0, Outcome::Ended(CloseReason::DrainTimeout)); 2];
    assert_eq!(lines.iter().map(Line::short).collect::<Vec<_>>(), expected);
}

pub(crate) fn whoever_is_beyond_the_maximum_has_a_record(event_loop: EventLoop) {
    let (rig, seen) = start(event_loop, |server| server.max_connections(1));
    let mut first = rig.connect();
    first.get("/users/7");
    assert_eq!(seen.one().short(), ("GET", "/users/{id}", 200, Outcome::Answered));
    let over_as = |method| (method, "unmatched", 503, Outcome::Ended(CloseReason::OverLimit));
    let over = over_as("-");
    for (request, expected) in [
        ("GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n", ("GET", "/health/live", 200, Outcome::Answered)),
        ("GET /users/7 HTTP/1.1\r\nHost: test\r\n\r\n", over_as("GET")),
        ("HEAD /users/7 HTTP/1.1\r\nHost: test\r\n\r\n", over_as("HEAD")),
        // It is waited for a moment.
        ("", over),
        ("GET /hea", over),
    ] {
        let answer = converse(&rig, request);
        let line = seen.one();
        assert_eq!(line.short(), expected, "{request}");
        let bytes_in = if line.method == "-" { 0 } else { request.len() as u64 };
        assert_eq!((line.bytes_in, line.bytes_out), (bytes_in, answer.len() as u64), "{request}");
    }
    // More than may ask at the same time.
    let mut many: Vec<_> = std::iter::repeat_with(|| rig.connect()).take(20).collect();
    for client in &mut many {
        assert_eq!(client.answer(false).status, 503);
    }
    eventually("each has a record", || seen.0.lock().unwrap().len() == 20);
    assert!(seen.take().iter().all(|line| line.short() == over));
    drop((many, first));
    rig.stop();
    assert_eq!(seen.take(), []);
}

pub(crate) fn a_panic_of_the_apps_clone_has_a_record_with_its_method(event_loop: EventLoop) {
    let panicking = Panicking::default();
    let armed = Arc::clone(&panicking.armed);
    let seen = Seen::default();
    let rig = Rig::start(seen.observed(event_loop), panicking);
    converse(&rig, &format!("GET / HTTP/1.1\r\n{LAST}"));
    assert_eq!(seen.one().short(), ("GET", "unmatched", 200, Outcome::Answered));
    armed.store(true, Relaxed);
    let request = format!("GET / HTTP/1.1\r\n{OFFER}");
    let answer = converse(&rig, &request);
    armed.store(false, Relaxed);
    let line = seen.one();
    assert_eq!(line.short(), ("GET", "unmatched", 500, Outcome::Ended(CloseReason::HandlerFailed)));
    assert_eq!((line.bytes_in, line.bytes_out), (request.len() as u64, answer.len() as u64));
    rig.stop();
    assert_eq!(seen.take(), []);
}

/// An app whose clone panics when it is told to.
#[derive(Default)]
struct Panicking {
    armed: Arc<AtomicBool>,
}

impl Clone for Panicking {
    fn clone(&self) -> Self {
        assert!(!self.armed.load(Relaxed), "in a clone, as the test wants it");
        Self { armed: Arc::clone(&self.armed) }
    }
}

impl tower::Service<axum::http::Request<baiwan::Body>> for Panicking {
    type Response = axum::http::Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: axum::http::Request<baiwan::Body>) -> Self::Future {
        std::future::ready(Ok(axum::http::Response::new(Body::empty())))
    }
}
