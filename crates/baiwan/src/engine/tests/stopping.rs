//! The stop: what was received is answered, what is idle is closed, and at the end everything is over.

use std::cell::RefCell;
use std::time::Duration;

use axum::Router;
use axum::routing::get as route_get;
use baiwan_driver::sim::{Call, Fault, Faults, SimNet};

use super::rig::{Peer, Rig, address, get, statuses};
use crate::settings::Settings;
use crate::status::{CloseReason, Phase};

fn app() -> Router {
    let slow = || async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        "slow"
    };
    Router::new()
        .route("/", route_get(|| async { "hello" }))
        .route("/slow", route_get(slow))
        .route("/never", route_get(std::future::pending::<&str>))
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_104_everything_that_was_received_is_answered_and_then_closed() {
    let rig = Rig::new(app());
    let (mut busy, mut idle, mut late, mut half) = (rig.connect(), rig.connect(), rig.connect(), rig.connect());
    busy.send(get("/slow"));
    half.send("GET / HTTP/1.1\r\n");
    rig.settle().await;
    rig.status.advance(Phase::Draining);
    // In the backlog, and in the socket, at the very moment.
    let mut queued = rig.connect();
    queued.send(get("/"));
    late.send(get("/"));
    rig.settle().await;
    for peer in [&mut queued, &mut late] {
        let answer = peer.receive();
        assert!(statuses(&answer) == [200] && answer.contains("connection: close"), "{answer}");
        assert!(peer.is_at_end());
    }
    assert!(!idle.is_at_end(), "it was used a moment ago and gets its time");
    half.send("Host: a\r\n\r\n");
    rig.pass(Duration::from_millis(2200)).await;
    let answer = busy.receive();
    assert!(answer.contains("connection: close") && answer.ends_with("slow"), "{answer}");
    assert!(half.receive().ends_with("hello"));
    rig.pass(Duration::from_millis(3000)).await;
    assert!(idle.is_at_end());
    assert_eq!(idle.receive(), "");
    assert_eq!(rig.closed(CloseReason::Drained), 1);
    assert!(rig.engine.is_finished());
    drop((busy, idle, late, half, queued));
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_connection_that_was_in_the_backlog_gets_its_time_to_ask() {
    // Wherever in a tick the stop begins.
    for ms in (60_000..60_064).step_by(6) {
        let rig = Rig::new(app());
        // Others were there before it.
        drop(rig.connect());
        rig.pass(Duration::from_millis(ms)).await;
        let mut queued = rig.connect();
        rig.status.advance(Phase::Draining);
        rig.pass(Duration::from_secs(2)).await;
        assert!(!queued.is_at_end(), "it has not had a moment yet: {ms} ms");
        queued.send(get("/"));
        rig.settle().await;
        assert!(queued.receive().ends_with("hello"));
        rig.pass(Duration::from_secs(5)).await;
        assert!(rig.engine.is_finished());
        drop(queued);
        rig.assert_empty();
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_connection_that_comes_in_the_stops_first_turn_is_served() {
    thread_local! {
        static NET: RefCell<Option<SimNet>> = const { RefCell::new(None) };
        static LATE: RefCell<Option<Peer>> = const { RefCell::new(None) };
    }
    // Handlers run after the turn has accepted what there was.
    let connects = || async {
        let net = NET.take().expect("set below");
        let mut late = Peer(net.connect(address()).expect("the server still listens"));
        late.send(get("/"));
        LATE.set(Some(late));
        "connected"
    };
    let rig = Rig::new(app().route("/connects", route_get(connects)));
    NET.set(Some(rig.net.clone()));
    let mut busy = rig.connect();
    rig.settle().await;
    rig.status.advance(Phase::Draining);
    busy.send(get("/connects"));
    rig.settle().await;
    assert!(busy.receive().ends_with("connected"));
    let mut late = LATE.take().expect("the handler has run");
    let answer = late.receive();
    assert!(answer.contains("connection: close") && answer.ends_with("hello"), "{answer}");
    drop((busy, late));
    rig.settle().await;
    assert!(rig.engine.is_finished());
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_long_idle_connection_is_closed_soon_unless_a_request_is_on_its_way() {
    let rig = Rig::new(app());
    let (idle, mut lucky) = (rig.connect(), rig.connect());
    rig.pass(Duration::from_secs(20)).await;
    rig.status.advance(Phase::Draining);
    lucky.send(get("/"));
    rig.pass(Duration::from_millis(200)).await;
    assert!(idle.is_at_end());
    assert!(lucky.receive().ends_with("hello"));
    rig.pass(Duration::from_millis(1200)).await;
    assert!(rig.engine.is_finished());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn half_a_head_holds_a_stop_no_longer_than_an_idle_connection() {
    for shutdown_idle in [Duration::ZERO, Duration::from_secs(2), Duration::from_secs(5)] {
        let settings =
            Settings { header_timeout: None, keep_alive_timeout: None, shutdown_idle, ..Settings::default() };
        let rig = Rig::with_settings(app(), settings);
        let (idle, mut early, mut late) = (rig.connect(), rig.connect(), rig.connect());
        early.send("GET / HT");
        rig.settle().await;
        rig.status.advance(Phase::Draining);
        late.send("GET / HT");
        rig.pass(shutdown_idle.saturating_sub(Duration::from_millis(200))).await;
        assert!(!idle.is_at_end());
        rig.pass(Duration::from_millis(500)).await;
        assert!(idle.is_at_end());
        for peer in [&mut early, &mut late] {
            let answer = peer.receive();
            assert!(answer.ends_with("503 Service Unavailable: drained\n") && peer.is_at_end(), "{answer}");
        }
        rig.pass(Duration::from_millis(1200)).await;
        assert!(rig.engine.is_finished());
        assert_eq!(rig.closed(CloseReason::Drained), 3);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_is_open_when_the_time_is_over_is_cut() {
    let rig = Rig::new(app());
    let mut stuck = rig.connect();
    stuck.send(get("/never"));
    rig.settle().await;
    rig.status.advance(Phase::Draining);
    rig.pass(Duration::from_millis(24_800)).await;
    assert!(!rig.engine.is_finished());
    rig.pass(Duration::from_millis(400)).await;
    assert!(rig.engine.is_finished());
    assert!(stuck.0.is_reset());
    assert_eq!(rig.closed(CloseReason::DrainTimeout), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_108_a_second_signal_ends_it_at_once() {
    let rig = Rig::new(app());
    let mut stuck = rig.connect();
    stuck.send(get("/never"));
    rig.settle().await;
    rig.status.advance(Phase::Stopping);
    rig.settle().await;
    assert!(rig.engine.is_finished() && stuck.0.is_reset());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn readiness_follows_the_phase() {
    let rig = Rig::new(app());
    assert!(rig.health.is_ready() && rig.health.is_live());
    rig.settle().await;
    rig.status.advance(Phase::NotReady);
    assert!(!rig.health.is_ready());
    assert!(rig.exchange(&get("/")).await.ends_with("hello"), "not ready, and serving");
    assert!(rig.health.is_live());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_stop_whose_last_connection_cannot_be_watched_is_over_at_once() {
    let rig = Rig::new(app());
    rig.settle().await;
    rig.net.set_faults(Faults::at_call(Call::Watch, 0, Fault::Error(12)));
    let last = rig.connect();
    rig.status.advance(Phase::Draining);
    rig.settle().await;
    assert!(rig.engine.is_finished() && last.is_at_end());
    assert_eq!(rig.closed(CloseReason::System), 1);
    drop(last);
    rig.assert_empty();
}
