//! Peers, handlers and moments that a server meets only under load or attack.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::Response;
use axum::routing::{get as route_get, post};
use http_body_util::BodyExt;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

use super::rig::{Rig, get, statuses};
use crate::settings::Settings;
use crate::status::{CloseReason, Phase};

/// Answers at once, and spends the budget that Tokio gives a turn, so that requests are left over.
fn spending(bytes: usize) -> Router {
    let handler = move || async move {
        tokio::task::consume_budget().await;
        "x".repeat(bytes)
    };
    Router::new().route("/", route_get(handler))
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_55_a_place_that_changes_hands_while_it_is_queued_belongs_to_the_new_peer_alone() {
    let rig = Rig::with(spending(17_000), Settings::default(), 10_000, 1 << 26);
    let burst = get("/").repeat(100);
    let mut peers: Vec<_> = (0..300).map(|_| rig.connect()).collect();
    for peer in &mut peers {
        peer.send(&burst);
    }
    for step in 0..300 {
        let place = step * 7919 % peers.len();
        std::mem::replace(&mut peers[place], rig.connect()).0.reset();
        peers[place].send(&burst);
        tokio::task::yield_now().await;
        assert!(!rig.engine.is_finished(), "the engine has ended at step {step}");
    }
    drop(peers);
    while rig.counts().slots > 0 {
        rig.settle().await;
    }
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_104_requests_that_wait_for_their_turn_are_answered_when_the_server_stops() {
    let rig = Rig::with(spending(10), Settings::default(), 10_000, 1 << 20);
    let mut peers: Vec<_> = (0..300).map(|_| rig.connect()).collect();
    for peer in &mut peers {
        peer.send(get("/").repeat(500));
    }
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
    rig.status.advance(Phase::Draining);
    let mut last = vec![String::new(); peers.len()];
    for _ in 0..200 {
        rig.pass(Duration::from_millis(50)).await;
        for (peer, last) in peers.iter_mut().zip(&mut last) {
            *last += &peer.receive();
        }
    }
    for (peer, answers) in peers.iter().zip(&last) {
        assert!(peer.is_at_end());
        let (before, end) = answers.rsplit_once("HTTP/1.1 200 OK").expect("at least one answer");
        assert!(end.contains("connection: close") && !before.contains("connection: close"), "the last says so");
    }
    assert!(rig.engine.is_finished());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_head_keeps_its_deadline_when_the_core_is_busy() {
    let rig = Rig::with(spending(10), Settings::default(), 10_000, 1 << 20);
    let mut slow = rig.connect();
    let mut busy: Vec<_> = (0..100).map(|_| rig.connect()).collect();
    slow.send("G");
    rig.settle().await;
    for byte in "ET / HTTP/1".bytes() {
        for peer in &mut busy {
            peer.receive();
            let _ = peer.0.send(get("/").repeat(300).as_bytes());
        }
        slow.send([byte]);
        tokio::time::advance(Duration::from_secs(1)).await;
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }
    drop(busy);
    rig.settle().await;
    assert_eq!(statuses(&slow.receive()), [408], "11 seconds, a byte each");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn requests_that_wait_for_their_turn_are_no_silence() {
    // A turn serves a part of the connections, and the deadline of the others passes before the next.
    let settings = Settings { keep_alive_timeout: Some(Duration::from_secs(1)), ..Settings::default() };
    let rig = Rig::with(spending(10), settings, 1000, 1 << 20);
    let mut peers: Vec<_> = (0..300).map(|_| rig.connect()).collect();
    for peer in &mut peers {
        peer.send(get("/").repeat(20));
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_secs(2)).await;
    }
    for peer in &mut peers {
        assert_eq!(statuses(&peer.receive()), [200; 20]);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_43_one_pipeliner_makes_no_more_answers_at_a_time_than_output_may_wait() {
    let rig = Rig::with(spending(15_000), Settings::default(), 10, 1);
    let mut peer = rig.connect();
    let mut sent = 0;
    let burst = get("/").repeat(200);
    for _ in 0..burst.len() {
        sent += peer.0.send(&burst.as_bytes()[sent..]).unwrap_or(0);
        tokio::task::yield_now().await;
    }
    rig.settle().await;
    let requests = rig.counts().requests;
    assert!((1..=16).contains(&requests), "{requests} answers for a peer that reads nothing");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn continue_is_never_said_inside_an_answer() {
    let app = Router::new().route("/", post(|body: Body| async { Response::new(body) }));
    let rig = Rig::new(app);
    let mut peer = rig.connect();
    peer.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    rig.settle().await;
    let head = peer.receive();
    assert!(statuses(&head) == [200] && !head.contains("Continue"), "{head}");
    peer.send("hello");
    rig.settle().await;
    assert_eq!(peer.receive(), "hello");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_answer_made_of_a_large_request_body_leaves_the_connection_open() {
    let app = Router::new().route("/", post(|body: Body| async { Response::new(body) }));
    let rig = Rig::new(app);
    let mut peer = rig.connect();
    let body = "y".repeat(300_000);
    peer.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len()));
    let mut answer = String::new();
    let mut sent = 0;
    for _ in 0..200 {
        sent += peer.0.send(&body.as_bytes()[sent..]).unwrap_or(0);
        rig.settle().await;
        answer += &peer.receive();
    }
    assert!(!answer.contains("connection: close"));
    assert!(answer.ends_with(&body));
    peer.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok");
    rig.settle().await;
    assert!(peer.receive().ends_with("\r\n\r\nok"));
}

/// A body whose parts panic.
struct Panicking(&'static str);

impl http_body::Body for Panicking {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        Poll::Ready(None)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        assert!(self.0 != "size_hint", "on purpose");
        http_body::SizeHint::default()
    }
}

impl Drop for Panicking {
    fn drop(&mut self) {
        assert!(self.0 != "drop" || std::thread::panicking(), "on purpose");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_97_a_panic_anywhere_in_the_apps_code_costs_one_request() {
    for place in ["size_hint", "drop"] {
        let app = Router::new().route("/", route_get(|| async { "fine" }));
        let rig = Rig::new(app.layer(axum::middleware::map_response(move |response: Response<Body>| async move {
            drop(response);
            Response::new(Body::from("x"))
        })));
        assert_eq!(statuses(&rig.exchange(&get("/")).await), [200]);
        drop(rig);
        // Without axum in between, which would box and so hide the body.
        let service = Plain(place);
        let rig = Rig::serving(service);
        assert_eq!(statuses(&rig.exchange(&get("/")).await), [500], "{place}");
        assert!(!rig.engine.is_finished());
        assert_eq!(rig.counts().handler_panics, 1);
    }
}

/// A service whose answer has a body that panics.
#[derive(Clone)]
struct Plain(&'static str);

impl tower_service::Service<http::Request<crate::Body>> for Plain {
    type Response = http::Response<Panicking>;
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<crate::Body>) -> Self::Future {
        std::future::ready(Ok(http::Response::new(Panicking(self.0))))
    }
}

/// As tower's `ConcurrencyLimit`: ready when it has a permit, which the answer gives back.
struct Limited {
    permits: Arc<tokio::sync::Semaphore>,
    waiting: Option<Pin<Box<dyn Future<Output = tokio::sync::OwnedSemaphorePermit>>>>,
    permit: Option<tokio::sync::OwnedSemaphorePermit>,
}

impl Clone for Limited {
    fn clone(&self) -> Self {
        Self { permits: Arc::clone(&self.permits), waiting: None, permit: None }
    }
}

impl tower_service::Service<http::Request<crate::Body>> for Limited {
    type Response = http::Response<String>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.permit.is_none() {
            let permits = Arc::clone(&self.permits);
            let waiting = self.waiting.get_or_insert_with(|| {
                Box::pin(async move { permits.acquire_owned().await.expect("the semaphore stays open") })
            });
            let Poll::Ready(permit) = waiting.as_mut().poll(cx) else { return Poll::Pending };
            (self.waiting, self.permit) = (None, Some(permit));
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<crate::Body>) -> Self::Future {
        let permit = self.permit.take().expect("called when ready");
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            drop(permit);
            Ok(http::Response::new("limited".to_owned()))
        })
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_service_that_is_not_ready_is_waited_for_in_its_own_place() {
    let permits = Arc::new(tokio::sync::Semaphore::new(1));
    let rig = Rig::serving(Limited { permits, waiting: None, permit: None });
    let mut peers: Vec<_> = (0..5).map(|_| rig.connect()).collect();
    for peer in &mut peers {
        peer.send(get("/"));
    }
    rig.settle().await;
    rig.pass(Duration::from_millis(600)).await;
    for peer in &mut peers {
        assert!(peer.receive().ends_with("limited"));
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn whoever_still_reads_a_body_after_the_answer_hears_that_it_is_over() {
    let ended = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&ended);
    let handler = move |mut body: Body| {
        let counter = Arc::clone(&counter);
        async move {
            tokio::task::spawn_local(async move {
                while let Some(Ok(_)) = body.frame().await {}
                counter.fetch_add(1, Relaxed);
            });
            "answered"
        }
    };
    let rig = Rig::new(Router::new().route("/", post(handler)));
    for close in ["", "Connection: close\r\n"] {
        let mut peer = rig.connect();
        peer.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{close}Content-Length: 10\r\n\r\nabc"));
        rig.settle().await;
        assert_eq!(statuses(&peer.receive()), [200]);
    }
    rig.settle().await;
    assert_eq!(ended.load(Relaxed), 2);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_request_that_is_cut_short_does_not_cut_the_answer_before_it() {
    let app = Router::new()
        .route("/large", route_get(|| async { "x".repeat(10_000) }))
        .route("/echo", post(|body: Bytes| async { body }));
    let settings = Settings { half_close: true, ..Settings::default() };
    let rig = Rig::with(app, settings, 10, 1000);
    let mut peer = rig.connect();
    peer.send(get("/large") + "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    peer.0.shutdown_write();
    let mut answers = String::new();
    for _ in 0..20 {
        rig.settle().await;
        answers += &peer.receive();
    }
    assert_eq!(answers.matches('x').count(), 10_000 + "text/plain".matches('x').count());
    assert!(peer.is_at_end());
    drop(peer);
    rig.settle().await;
    assert_eq!(rig.closed(CloseReason::PeerClosed), 1);
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_body_that_turns_out_wrong_after_its_answer_gets_no_second_one() {
    let rig = Rig::new(Router::new().route("/", post(|| async { "answered" })));
    let mut peer = rig.connect();
    peer.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    rig.settle().await;
    assert_eq!(statuses(&peer.receive()), [200]);
    peer.send("zz\r\n");
    rig.settle().await;
    assert_eq!(peer.receive(), "", "it would be taken for the answer to the next request");
    assert!(peer.is_at_end());
    drop(peer);
    rig.settle().await;
    assert_eq!(rig.closed(CloseReason::Refused), 1);
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_body_that_turns_out_wrong_costs_no_answer_to_an_earlier_request() {
    let app = Router::new()
        .route("/large", route_get(|| async { "x".repeat(10_000) }))
        .route("/echo", post(|body: Body| async { Response::new(body) }));
    let rig = Rig::with(app, Settings::default(), 10, 1000);
    let mut peer = rig.connect();
    let echo = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    peer.send(get("/large") + echo);
    rig.settle().await;
    peer.send("zz\r\n");
    rig.settle().await;
    let mut answers = String::new();
    while !peer.is_at_end() {
        answers += &peer.receive();
        rig.settle().await;
    }
    assert_eq!(statuses(&answers), [200, 200], "{answers}");
    assert!(answers.contains(&"x".repeat(10_000)) && !answers.ends_with("0\r\n\r\n"), "the second is not whole");
    drop(peer);
    rig.settle().await;
    assert_eq!(rig.closed(CloseReason::Refused), 1);
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_refusal_after_a_head_request_has_its_body() {
    let rig = Rig::new(spending(5));
    let answers = rig.exchange("HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(statuses(&answers), [200, 400]);
    assert!(answers.ends_with("host-missing\n"), "{answers}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_head_request_that_is_late_is_answered_without_a_body() {
    let rig = Rig::new(spending(5));
    let mut peer = rig.connect();
    peer.send("HEAD / HTTP/1.1\r\nHost");
    rig.settle().await;
    rig.pass(std::time::Duration::from_secs(11)).await;
    let answer = peer.receive();
    assert_eq!(statuses(&answer), [408]);
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_core_that_is_asked_from_within_a_turn_answers_with_the_next() {
    let health: Arc<std::sync::OnceLock<crate::Health>> = Arc::default();
    let asking = Arc::clone(&health);
    let handler = move || {
        let live = asking.get().is_some_and(crate::Health::is_live);
        async move { live.to_string() }
    };
    let rig = Rig::new(Router::new().route("/", route_get(handler)));
    health.set(rig.health.clone()).expect("set once");
    for _ in 0..3 {
        assert!(rig.exchange(&get("/")).await.ends_with("true"));
        // Far more than a core may take, and nothing else happens.
        tokio::time::advance(Duration::from_secs(20)).await;
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_stop_that_comes_during_a_turn_is_seen() {
    let status: Arc<std::sync::OnceLock<Arc<crate::status::Status>>> = Arc::default();
    let stopping = Arc::clone(&status);
    let handler = move || {
        stopping.get().expect("set below").advance(Phase::Draining);
        async { "stopping" }
    };
    let rig = Rig::new(Router::new().route("/", route_get(handler)));
    status.set(Arc::clone(&rig.status)).expect("set once");
    let mut peer = rig.connect();
    peer.send(get("/"));
    rig.pass(Duration::from_secs(6)).await;
    assert!(peer.receive().ends_with("stopping"));
    assert!(rig.engine.is_finished());
    assert_eq!(rig.closed(CloseReason::Drained), 1);
}

/// Keeps the text of each warning.
#[derive(Clone, Default)]
pub(super) struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// What was said since the last call.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Visit for Warnings {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let mut lines = self.0.lock().unwrap();
        lines.last_mut().expect("an event has begun").push_str(&format!(" {field}={value:?}"));
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }

    fn event(&self, event: &Event<'_>) {
        self.0.lock().unwrap().push(String::new());
        event.record(&mut self.clone());
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_operator_hears_of_other_protocols_once_a_minute_and_what_to_do() {
    let warnings = Warnings::default();
    let _heard = tracing::subscriber::set_default(warnings.clone());
    let rig = Rig::new(Router::new());
    let said = || warnings.take();
    for minute in 0..3 {
        for _ in 0..5 {
            let answer = rig.exchange("\x16\x03\x01\x02\0").await;
            assert!(answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("400 Bad Request: tls-on-plain-port\n"));
        }
        let lines = said();
        let [line] = &lines[..] else { panic!("minute {minute}: {lines:?}") };
        assert!(line.contains("put a TLS terminator in front") && line.contains("peer="), "{line}");
        let answer = rig.exchange("PROXY TCP4 192.0.2.1 192.0.2.2 1 80\r\n").await;
        assert!(answer.ends_with("400 Bad Request: proxy-protocol-unexpected\n"), "{answer}");
        // What else is refused is nothing that an operator could do something about.
        rig.exchange("GET / HTTP/2.0\r\n\r\n").await;
        let lines = said();
        let [line] = &lines[..] else { panic!("minute {minute}: {lines:?}") };
        assert!(line.contains("switch it off at the proxy"), "{line}");
        rig.pass(Duration::from_secs(60)).await;
    }
    assert_eq!(rig.counts().refused_by("tls-on-plain-port"), 15);
    assert_eq!(rig.counts().refused_by("proxy-protocol-unexpected"), 3);
}
