//! Handlers that wait, and who wakes them.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use axum::Router;
use axum::routing::get as route_get;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use tokio::task::coop::poll_proceed;
use tower_service::Service;

use super::rig::{Rig, get, statuses};
use crate::RouteLimits;
use crate::settings::{Overload, Settings};
use crate::status::CloseReason;

/// What a handler waits for: it is there when somebody says so. Counts the polls, and keeps the latest waker.
#[derive(Clone, Default)]
struct Gate(Arc<Mutex<Inside>>);

#[derive(Default)]
struct Inside {
    is_open: bool,
    polls: usize,
    wakers: Vec<Waker>,
}

impl Future for Gate {
    type Output = &'static str;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<&'static str> {
        let mut inside = self.0.lock().unwrap();
        inside.polls += 1;
        inside.wakers.push(cx.waker().clone());
        if inside.is_open { Poll::Ready("open") } else { Poll::Pending }
    }
}

impl Gate {
    fn polls(&self) -> usize {
        self.0.lock().unwrap().polls
    }

    /// The waker of the latest poll.
    fn waker(&self) -> Waker {
        self.0.lock().unwrap().wakers.last().unwrap().clone()
    }

    fn open(&self) -> Waker {
        self.0.lock().unwrap().is_open = true;
        self.waker()
    }
}

fn app(gates: [Gate; 2]) -> Router {
    let [first, second] = gates;
    Router::new().route("/first", route_get(async || first.await)).route("/second", route_get(async || second.await))
}

/// Panics when it is dropped.
struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_handler_is_polled_when_something_has_happened_and_only_then() {
    let gate = Gate::default();
    let rig = Rig::new(app([gate.clone(), gate.clone()]));
    let mut peer = rig.connect();
    peer.send(get("/first"));
    rig.settle().await;
    assert_eq!(gate.polls(), 1, "it has its waker from the first poll on");
    let waker = gate.waker();
    for _ in 0..3 {
        waker.wake_by_ref();
    }
    rig.settle().await;
    assert_eq!(gate.polls(), 2, "of several calls of one turn");
    // From a thread that is not the core's.
    let waker = gate.open();
    std::thread::spawn(move || waker.wake()).join().unwrap();
    rig.settle().await;
    assert!(peer.receive().ends_with("open"));
    assert_eq!((gate.polls(), rig.counts().exchanges), (3, 0));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn who_is_woken_for_an_exchange_that_is_over_wakes_no_later_one() {
    let gates = [Gate::default(), Gate::default()];
    let rig = Rig::new(app(gates.clone()));
    let mut peer = rig.connect();
    peer.send(get("/first"));
    rig.settle().await;
    gates[0].open().wake();
    rig.settle().await;
    assert_eq!(statuses(&peer.receive()), [200]);
    peer.send(get("/second"));
    rig.settle().await;
    let polls = gates[1].polls();
    gates[0].waker().wake();
    rig.settle().await;
    assert_eq!(gates[1].polls(), polls);
    drop(peer);
    rig.settle().await;
    gates.iter().for_each(|gate| gate.waker().wake());
    rig.settle().await;
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn who_is_woken_for_a_call_that_did_not_wait_wakes_no_other() {
    let gates = [Gate::default(), Gate::default()];
    gates[0].0.lock().unwrap().is_open = true;
    let rig = Rig::new(app(gates.clone()));
    let mut peer = rig.connect();
    peer.send(get("/first"));
    rig.settle().await;
    assert_eq!(statuses(&peer.receive()), [200]);
    peer.send(get("/second"));
    rig.settle().await;
    gates[0].waker().wake();
    rig.settle().await;
    assert_eq!((gates[0].polls(), gates[1].polls()), (1, 1));
    gates[1].open().wake();
    rig.settle().await;
    assert_eq!((statuses(&peer.receive()), gates[1].polls()), (vec![200], 2));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn who_wakes_himself_in_his_first_poll_is_polled_again() {
    let yields = || async {
        let mut polls = 0;
        std::future::poll_fn(|cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            if polls == 3 { Poll::Ready("third") } else { Poll::Pending }
        })
        .await
    };
    let rig = Rig::new(Router::new().route("/", route_get(yields)));
    let mut peer = rig.connect();
    peer.send(get("/"));
    rig.settle().await;
    assert!(peer.receive().ends_with("third"));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn more_handlers_than_one_turn_polls_are_all_answered() {
    let gate = Gate::default();
    let rig = Rig::new(app([gate.clone(), gate.clone()]));
    let mut peers: Vec<_> = std::iter::repeat_with(|| rig.connect()).take(500).collect();
    peers.iter_mut().for_each(|peer| peer.send(get("/first")));
    rig.settle().await;
    gate.open();
    let wakers = std::mem::take(&mut gate.0.lock().unwrap().wakers);
    wakers.iter().for_each(Waker::wake_by_ref);
    rig.settle().await;
    assert!(peers.iter_mut().all(|peer| statuses(&peer.receive()) == [200]));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_handler_that_panics_when_it_is_dropped_costs_its_connection_and_no_other() {
    let never = async || {
        let _grenade = Grenade;
        std::future::pending::<&str>().await
    };
    let rig = Rig::new(Router::new().route("/never", route_get(never)).route("/", route_get(|| async { "hello" })));
    let (mut gone, mut other) = (rig.connect(), rig.connect());
    [&mut gone, &mut other].into_iter().for_each(|peer| peer.send(get("/never")));
    rig.settle().await;
    drop(gone);
    rig.settle().await;
    assert_eq!((rig.counts().core_panics, rig.counts().handler_panics), (0, 1));
    assert_eq!((rig.closed(CloseReason::PeerClosed), rig.counts().exchanges), (1, 1));
    assert_eq!(statuses(&rig.exchange(&get("/")).await), [200]);
}

/// Spends the budget that Tokio gives a task for each of its polls, as one does that reads a channel which is always full.
async fn spend(times: usize) -> &'static str {
    for _ in 0..times {
        std::future::poll_fn(|cx| {
            let spent = poll_proceed(cx).map(|budget| budget.made_progress());
            if spent.is_pending() {
                // Tokio wakes it when its runtime has nothing else to do. Where the engine is all that runs, that is at once.
                cx.waker().wake_by_ref();
            }
            spent
        })
        .await;
    }
    "spent"
}

/// Handlers that spend the budget: for ever, and ten times as often as one poll allows; and one that spends a little of it at once.
fn spenders() -> Router {
    Router::new()
        .route("/for-ever", route_get(|| spend(usize::MAX)))
        .route("/long", route_get(|| spend(1280)))
        .route("/", route_get(|| spend(3)))
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_handler_that_spends_the_budget_in_each_poll_keeps_no_new_request_from_being_served() {
    for (spending, overload) in [(1, Overload::Off), (20, Overload::Off), (1, Overload::Auto)] {
        let rig = Rig::with_settings(spenders(), Settings { overload, ..Settings::default() });
        let mut spenders: Vec<_> = std::iter::repeat_with(|| rig.connect()).take(spending).collect();
        spenders.iter_mut().for_each(|peer| peer.send(get("/for-ever")));
        rig.settle().await;
        let mut peers: Vec<_> = std::iter::repeat_with(|| rig.connect()).take(100).collect();
        peers.iter_mut().for_each(|peer| peer.send(get("/")));
        rig.settle().await;
        let served = peers.iter_mut().filter_map(|peer| statuses(&peer.receive()).pop()).collect::<Vec<_>>();
        assert_eq!(served, [200; 100], "{spending} {overload:?}");
        assert_eq!(rig.counts().exchanges, spending as u64);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_handler_that_spends_the_budget_in_each_poll_comes_to_its_end_whatever_others_spend() {
    let rig = Rig::new(spenders());
    let (mut first, mut second, mut other) = (rig.connect(), rig.connect(), rig.connect());
    first.send(get("/for-ever"));
    rig.settle().await;
    second.send(get("/long"));
    let mut answers = [String::new(), String::new()];
    for _ in 0..4 {
        // New requests in each turn, which spend more than a turn has.
        for _ in 0..64 {
            other.send(get("/").repeat(50));
            tokio::task::yield_now().await;
            answers[1] += &other.receive();
        }
        answers[0] += &second.receive();
    }
    assert_eq!(statuses(&answers[0]), [200]);
    assert!(statuses(&answers[1]).len() > 100, "others are served meanwhile");
}

/// An answer, or a frame of one, that is there at the second poll; what made it panics when it is dropped.
struct Second<T> {
    made: Option<T>,
    polls: usize,
    _grenade: Grenade,
}

impl<T> Second<T> {
    fn new(made: T) -> Self {
        Self { made: Some(made), polls: 0, _grenade: Grenade }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.polls += 1;
        if self.polls == 1 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.made.take())
    }
}

impl<T: Unpin> Future for Second<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Second::poll(self.get_mut(), cx).map(|made| made.expect("polled when it was ready"))
    }
}

impl http_body::Body for Second<Bytes> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Second::poll(self.get_mut(), cx).map(|made| made.map(|data| Ok(Frame::data(data))))
    }
}

/// Answers with a call, or with a body, that panics when it is dropped.
#[derive(Clone)]
struct Answers;

impl Service<Request<crate::Body>> for Answers {
    type Response = Response<axum::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<crate::Body>) -> Self::Future {
        let body = |text: &'static str| axum::body::Body::from(text);
        match request.uri().path() {
            "/call" => Box::pin(Second::new(Ok(Response::new(body("from the call"))))),
            "/body" => {
                let second = axum::body::Body::new(Second::new(Bytes::from_static(b"from the body")));
                Box::pin(std::future::ready(Ok(Response::new(second))))
            }
            _ => Box::pin(std::future::ready(Ok(Response::new(body("hello"))))),
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_panics_when_it_is_dropped_after_a_complete_answer_makes_no_second_one() {
    let rig = Rig::serving(Answers);
    for (path, expected) in [("/body", vec![200, 200]), ("/call", vec![500])] {
        let panics = rig.counts().handler_panics;
        let mut peer = rig.connect();
        peer.send(get(path) + &get("/"));
        rig.settle().await;
        let answers = peer.receive();
        assert_eq!(statuses(&answers), expected, "{path}: {answers}");
        assert_eq!(rig.counts().handler_panics, panics + 1);
    }
    assert_eq!((rig.counts().core_panics, rig.counts().exchanges), (0, 0));
}

/// Answers although a layer within has refused its request, whose body somebody else holds.
#[derive(Clone)]
struct Hedge;

impl Service<Request<crate::Body>> for Hedge {
    type Response = Response<axum::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<crate::Body>) -> Self::Future {
        Box::pin(async move {
            tokio::task::spawn_local(async move {
                let _held = request;
                std::future::pending::<()>().await;
            });
            tokio::task::yield_now().await;
            let inner = tower_layer::Layer::layer(&RouteLimits::new().body_limit(3), Answers);
            drop({ inner }.call(Request::new(crate::Body::from(Bytes::from_static(b"four")))));
            Ok(Response::new(axum::body::Body::from("too late")))
        })
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_call_that_is_ready_and_refused_at_once_is_polled_no_more() {
    let rig = Rig::serving(Hedge);
    let answer = rig.exchange("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n").await;
    assert_eq!(statuses(&answer), [413], "{answer}");
    assert_eq!((rig.counts().handler_panics, rig.counts().exchanges), (0, 0));
}
