//! Handlers that wait, and who wakes them.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use axum::Router;
use axum::routing::get as route_get;

use super::rig::{Rig, get, statuses};
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
    // Once at once, and once more with a waker.
    assert_eq!(gate.polls(), 2);
    let waker = gate.waker();
    for _ in 0..3 {
        waker.wake_by_ref();
    }
    rig.settle().await;
    assert_eq!(gate.polls(), 3, "of several calls of one turn");
    // From a thread that is not the core's.
    let waker = gate.open();
    std::thread::spawn(move || waker.wake()).join().unwrap();
    rig.settle().await;
    assert!(peer.receive().ends_with("open"));
    assert_eq!((gate.polls(), rig.counts().exchanges), (4, 0));
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
