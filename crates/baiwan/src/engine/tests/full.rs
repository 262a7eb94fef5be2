//! At the maximum of connections: whom the server answers beyond it, and whom it turns away.

use std::time::Duration;

use axum::Router;
use axum::routing::get as route_get;

use super::rig::{Peer, Rig, get, statuses};
use crate::settings::Settings;
use crate::status::CloseReason;

fn app() -> Router {
    Router::new()
        .route("/", route_get(|| async { "hello" }))
        .route("/health/live", route_get(|| async { "live" }))
        .route(
            "/health/slow",
            route_get(|| async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                "slow"
            }),
        )
}

/// A server whose two places are taken.
async fn full() -> (Rig, [Peer; 2]) {
    let rig = Rig::with(app(), Settings::default(), 2, 1 << 20);
    let mut held = [rig.connect(), rig.connect()];
    for peer in &mut held {
        peer.send(get("/"));
        rig.settle().await;
        assert!(peer.receive().ends_with("hello"));
    }
    (rig, held)
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_110_health_is_answered_beyond_the_maximum_and_nothing_else() {
    let (rig, held) = full().await;
    for (path, status) in
        [("/health/live", 200), ("/health/slow", 200), ("/health/missing", 404), ("/", 503), ("/healthy", 503)]
    {
        let mut peer = rig.connect();
        peer.send(get(path));
        rig.pass(Duration::from_millis(200)).await;
        let answer = peer.receive();
        assert_eq!(statuses(&answer), [status], "{path}");
        assert!(answer.contains("connection: close") && peer.is_at_end(), "{path}: {answer}");
    }
    let mut peer = rig.connect();
    peer.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    rig.settle().await;
    let answer = peer.receive();
    assert!(statuses(&answer) == [503] && answer.ends_with("\r\n\r\n"), "{answer}");
    drop(peer);
    rig.settle().await;
    assert_eq!(rig.closed(CloseReason::OverLimit), 3);
    assert_eq!(rig.counts().connections, 2);
    drop(held);
    rig.settle().await;
    let answer = rig.exchange(&get("/")).await;
    assert!(answer.ends_with("hello") && !answer.contains("connection: close"), "places are counted right: {answer}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_110_sixteen_are_read_for_a_second_and_the_others_turned_away_at_once() {
    let (rig, _held) = full().await;
    let mut silent: Vec<_> = std::iter::repeat_with(|| rig.connect()).take(16).collect();
    // Half a head is not enough either.
    silent[0].send("GET /health/live HTTP/1.1\r\nHo");
    rig.settle().await;
    assert!(silent.iter_mut().all(|peer| peer.receive().is_empty()));
    let mut next = rig.connect();
    next.send(get("/health/live"));
    rig.settle().await;
    assert_eq!(statuses(&next.receive()), [503]);
    rig.pass(Duration::from_millis(1100)).await;
    for peer in &mut silent {
        let answer = peer.receive();
        assert!(answer.ends_with("503 Service Unavailable: too-many-connections\n"), "{answer}");
        assert!(peer.is_at_end());
    }
    // Their places are free for whoever asks next, once they have lingered.
    assert_eq!(rig.closed(CloseReason::OverLimit), 1);
    rig.pass(Duration::from_millis(1100)).await;
    assert_eq!(rig.closed(CloseReason::OverLimit), 17);
    let answer = rig.exchange(&get("/health/live")).await;
    assert!(answer.ends_with("live"), "{answer}");
}
