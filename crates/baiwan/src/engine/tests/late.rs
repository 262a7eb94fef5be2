//! Deadlines that pass while the core has too much to do: what came in time is not late.

use std::time::Duration;

use axum::Router;
use axum::routing::{get as route_get, post};

use super::rig::{Peer, Rig, get, statuses};
use crate::settings::Settings;

/// More requests than the budget of one turn allows.
const MANY: usize = 300;

/// An app whose answers to `/` spend the budget, and which reads no body.
fn app() -> Router {
    let spending = || async {
        tokio::task::consume_budget().await;
        "spent"
    };
    Router::new()
        .route("/", route_get(spending))
        .route("/health/live", route_get(|| async { "live" }))
        .route("/unread", post(|| async { "unread" }))
}

/// Has so many peers ask, before anybody else does, and the time pass before the core can look.
async fn fill_a_turn(crowd: &mut [Peer], last: impl FnOnce(), pass: Duration) {
    crowd.iter_mut().for_each(|peer| peer.send(get("/")));
    last();
    tokio::time::advance(pass).await;
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_head_that_came_in_time_and_waits_for_its_turn_is_answered() {
    let rig = Rig::with(app(), Settings::default(), 10_000, 1 << 20);
    let mut crowd: Vec<_> = std::iter::repeat_with(|| rig.connect()).take(MANY).collect();
    let mut slow = rig.connect();
    slow.send("GET / HTTP/1.1\r\nHost: a\r\n");
    rig.settle().await;
    rig.pass(Duration::from_millis(9_900)).await;
    fill_a_turn(&mut crowd, || slow.send("\r\n"), Duration::from_millis(300)).await;
    rig.settle().await;
    assert_eq!(statuses(&slow.receive()), [200]);
    assert!(crowd.iter_mut().all(|peer| statuses(&peer.receive()) == [200]));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_probe_that_came_in_time_and_waits_for_its_turn_is_answered() {
    let rig = Rig::with(app(), Settings::default(), MANY as u64, 1 << 20);
    let mut crowd: Vec<_> = std::iter::repeat_with(|| rig.connect()).take(MANY).collect();
    rig.settle().await;
    let mut probe = rig.connect();
    rig.settle().await;
    fill_a_turn(&mut crowd, || probe.send(get("/health/live")), Duration::from_millis(1_200)).await;
    rig.settle().await;
    assert!(probe.receive().ends_with("live"));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_request_behind_a_body_that_nobody_read_is_answered() {
    let rig = Rig::with(app(), Settings::default(), 10_000, 1 << 20);
    let mut crowd: Vec<_> = std::iter::repeat_with(|| rig.connect()).take(MANY).collect();
    let mut peer = rig.connect();
    peer.send("POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n");
    rig.settle().await;
    assert_eq!(statuses(&peer.receive()), [200]);
    fill_a_turn(&mut crowd, || peer.send("abc".to_owned() + &get("/")), Duration::from_millis(1_200)).await;
    rig.settle().await;
    assert_eq!(statuses(&peer.receive()), [200]);
}
