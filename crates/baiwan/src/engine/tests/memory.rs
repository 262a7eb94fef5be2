//! What the engine gives up when memory is short.

use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::routing::{get as route_get, post};
use baiwan_limits::MemoryPressure;

use super::rig::{Peer, Rig, get, statuses};
use crate::settings::Settings;
use crate::status::{CloseReason, Phase, Status};

const SECOND: Duration = Duration::from_secs(1);

fn app() -> Router {
    Router::new()
        .route("/", route_get(|| async { "hello" }))
        .route("/health/live", route_get(|| async { "live" }))
        .route("/upload", post(|_: Request| async { "taken" }))
        .route(
            "/slow",
            route_get(|| async {
                tokio::time::sleep(10 * SECOND).await;
                "slow"
            }),
        )
}

/// Has that much of the memory be used.
async fn uses(rig: &Rig, percent: u64) {
    let pressure: MemoryPressure = rig.status.memory_pressure().next(percent, 100);
    rig.status.set_memory_pressure(pressure);
    rig.settle().await;
}

/// A connection that was answered.
async fn idle(rig: &Rig) -> Peer {
    let mut peer = rig.connect();
    peer.send(get("/"));
    rig.settle().await;
    assert!(peer.receive().ends_with("hello"));
    peer
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_56_idle_connections_end_sooner_the_longest_idle_first() {
    let rig = Rig::new(app());
    let old = idle(&rig).await;
    rig.pass(37 * SECOND).await;
    let young = idle(&rig).await;
    uses(&rig, 95).await;
    rig.pass(4 * SECOND).await;
    assert!(old.is_at_end() && !young.is_at_end());
    rig.pass(2 * SECOND).await;
    assert!(young.is_at_end());
    assert_eq!(rig.closed(CloseReason::MemoryPressure), 2);
    drop((old, young));
    rig.settle().await;
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_56_the_idle_timeout_shrinks_with_what_is_left_and_is_back_when_there_is_enough() {
    let rig = Rig::new(app());
    uses(&rig, 90).await;
    let (short, busy) = (idle(&rig).await, idle(&rig).await);
    let mut busy = busy;
    rig.pass(39 * SECOND).await;
    assert!(!short.is_at_end());
    busy.send(get("/"));
    rig.pass(2 * SECOND).await;
    assert!(busy.receive().ends_with("hello"));
    assert!(short.is_at_end() && !busy.is_at_end(), "40 seconds, from its last answer");
    uses(&rig, 50).await;
    let whole = idle(&rig).await;
    rig.pass(74 * SECOND).await;
    assert!(!whole.is_at_end() && busy.is_at_end());
    rig.pass(2 * SECOND).await;
    assert!(whole.is_at_end());
    assert_eq!(rig.counts().memory_steps, 2);
    assert_eq!(rig.closed(CloseReason::MemoryPressure) + rig.closed(CloseReason::KeepAliveTimeout), 3);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_56_a_sweep_reaches_more_connections_than_a_turn_looks_at_with_a_timeout_or_without() {
    for keep_alive_timeout in [Some(75 * SECOND), None] {
        let rig = Rig::with(app(), Settings { keep_alive_timeout, ..Settings::default() }, 10_000, 64 * 1024);
        let mut peers = Vec::new();
        for _ in 0..50 {
            peers.extend((0..100).map(|_| rig.connect()));
            rig.settle().await;
        }
        rig.pass(SECOND).await;
        assert_eq!(rig.counts().slots, 5_000);
        uses(&rig, 95).await;
        rig.pass(SECOND * 6).await;
        assert_eq!(rig.counts().slots, 0, "{keep_alive_timeout:?}");
        assert_eq!(rig.closed(CloseReason::MemoryPressure), 5_000);
        drop(peers);
    }
}

/// A server with many connections that are idle, whose sweep has gone on for some turns when something else happens.
async fn amid_a_sweep(settings: Settings, turns: usize, then: fn(&Status)) -> (Rig, Vec<Peer>) {
    let rig = Rig::with(app(), settings, 10_000, 64 * 1024);
    let mut peers = Vec::new();
    for _ in 0..50 {
        peers.extend((0..100).map(|_| rig.connect()));
        rig.settle().await;
    }
    rig.pass(SECOND).await;
    assert_eq!(rig.counts().slots, 5_000);
    let status = std::sync::Arc::clone(&rig.status);
    let change = async move {
        status.set_memory_pressure(status.memory_pressure().next(95, 100));
        let mut left = turns;
        // A task that wakes itself has its turn after the engine's; one that yields has it after many of them.
        std::future::poll_fn(|cx| {
            left -= 1;
            cx.waker().wake_by_ref();
            if left == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        then(&status);
    };
    tokio::task::spawn_local(change).await.unwrap();
    rig.settle().await;
    (rig, peers)
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_56_a_sweep_goes_on_when_a_little_memory_is_back() {
    for turns in 1..6 {
        let (rig, _peers) = amid_a_sweep(Settings::default(), turns, |status| {
            status.set_memory_pressure(status.memory_pressure().next(94, 100));
        })
        .await;
        // At 94 % they have 12 seconds.
        rig.pass(13 * SECOND).await;
        assert_eq!(rig.counts().slots, 0, "after {turns} turns");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_56_a_sweep_leaves_connections_to_a_stop_which_spreads_their_ends() {
    let shutdown_idle = Duration::from_millis(20);
    for turns in 1..6 {
        let (rig, _peers) = amid_a_sweep(Settings { shutdown_idle, ..Settings::default() }, turns, |status| {
            status.advance(Phase::Draining);
        })
        .await;
        // They are closed within 250 ms.
        rig.pass(Duration::from_millis(50)).await;
        assert!(rig.counts().slots > 1_000, "{}", rig.counts().slots);
        rig.pass(Duration::from_millis(500)).await;
        assert_eq!(rig.counts().slots, 0);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_56_from_92_percent_an_answer_is_its_connections_last() {
    let rig = Rig::new(app());
    let mut peer = idle(&rig).await;
    uses(&rig, 92).await;
    peer.send(get("/").repeat(2));
    rig.settle().await;
    let answer = peer.receive();
    assert!(statuses(&answer) == [200] && answer.contains("connection: close"), "{answer}");
    assert!(peer.is_at_end());
    uses(&rig, 80).await;
    let answer = rig.exchange(&get("/")).await;
    assert!(!answer.contains("connection: close"), "{answer}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_56_from_95_percent_requests_are_refused_but_for_health_and_what_goes_on_goes_on() {
    let rig = Rig::new(app());
    let mut slow = rig.connect();
    slow.send(get("/slow"));
    let mut pipelining = idle(&rig).await;
    uses(&rig, 96).await;
    for (request, status) in [
        (get("/"), 503),
        (get("/health/live"), 200),
        ("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 503),
        ("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".to_owned(), 503),
    ] {
        let answer = rig.exchange(&request).await;
        assert!(statuses(&answer) == [status] && answer.contains("connection: close"), "{request}: {answer}");
        assert_eq!(answer.contains("retry-after: 1"), status == 503, "{answer}");
        assert_eq!(answer.ends_with(": memory-pressure\n"), status == 503 && !request.starts_with("HEAD"), "{answer}");
    }
    pipelining.send(get("/health/live") + &get("/"));
    rig.pass(11 * SECOND).await;
    assert_eq!(statuses(&pipelining.receive()), [200], "the first was the last");
    assert!(slow.receive().ends_with("slow"));
    assert_eq!(rig.closed(CloseReason::MemoryPressure), 3);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_56_from_95_percent_the_rest_of_a_head_is_not_waited_for() {
    let rig = Rig::new(app());
    let half = "GET /health/live HTTP/1.1\r\nHost: a\r\n";
    let (mut begun, mut empty_lines) = (rig.connect(), rig.connect());
    begun.send(half);
    uses(&rig, 94).await;
    assert_eq!(begun.receive(), "", "it is waited for");
    uses(&rig, 95).await;
    begun.send("X-Filler: a");
    empty_lines.send("\r\n");
    let answer = rig.exchange(half).await;
    assert!(statuses(&answer) == [503] && answer.contains("connection: close"), "{answer}");
    assert!(answer.ends_with(": memory-pressure\n"), "{answer}");
    rig.settle().await;
    assert_eq!(statuses(&begun.receive()), [503]);
    empty_lines.send(get("/health/live"));
    rig.settle().await;
    assert_eq!(statuses(&empty_lines.receive()), [200]);
    drop((begun, empty_lines));
    rig.settle().await;
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn from_92_percent_a_refusal_is_its_connections_last_answer_too() {
    let mut settings = Settings::default();
    settings.rate_limit.quota = "1/h".parse().ok();
    let rig = Rig::with_settings(app(), settings);
    let mut peer = idle(&rig).await;
    uses(&rig, 92).await;
    peer.send(get("/").repeat(2));
    rig.settle().await;
    let answer = peer.receive();
    assert!(statuses(&answer) == [429] && answer.contains("connection: close"), "{answer}");
    assert!(peer.is_at_end());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn from_95_percent_a_refusal_waits_for_room_behind_the_answers_before_it() {
    // Room for one answer, and for a part of the next.
    let rig = Rig::with(app(), Settings::default(), 9, 150);
    let mut peer = rig.connect();
    peer.send(get("/"));
    rig.settle().await;
    uses(&rig, 96).await;
    peer.send(get("/"));
    rig.settle().await;
    assert!(!peer.0.is_reset(), "what was answered before is not lost");
    let mut answers = peer.receive();
    rig.settle().await;
    answers += &peer.receive();
    rig.settle().await;
    answers += &peer.receive();
    assert!(statuses(&answers) == [200, 503] && answers.ends_with(": memory-pressure\n"), "{answers}");
    rig.pass(2 * SECOND).await;
    assert_eq!(rig.closed(CloseReason::MemoryPressure), 1);
}
