//! The age of a connection and the number of its requests: it ends in the least harmful way that is left.

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::{get as route_get, post};
use futures_util::{StreamExt, stream};

use super::rig::{Peer, Rig, get, statuses};
use crate::Ending;
use crate::settings::Settings;
use crate::status::{CloseReason, Phase};

/// Deadlines are kept to the tick.
const TICK: Duration = crate::clock::TICK;
/// Ages are from 540 to 660 seconds; the first connection has the least.
const AGE: Duration = Duration::from_secs(600);
const SHORTEST: Duration = Duration::from_secs(540);
const GRACE: Duration = crate::settings::AGE_GRACE;

fn app() -> Router {
    let later = || async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        "later"
    };
    let polite = |ending: Ending| async {
        let body = stream::pending::<Bytes>().take_until(ending).chain(stream::once(async { Bytes::from("bye") }));
        Body::from_stream(body.map(Ok::<_, Infallible>))
    };
    let deaf =
        || async { Body::from_stream(stream::once(async { Ok::<_, Infallible>("begun") }).chain(stream::pending())) };
    Router::new()
        .route("/", route_get(|| async { "hello" }))
        .route("/later", route_get(later))
        .route("/never", route_get(std::future::pending::<&str>))
        .route("/polite", route_get(polite))
        .route("/deaf", route_get(deaf))
        .route("/echo", post(|body: Bytes| async { body }))
}

fn rig() -> Rig {
    Rig::with_settings(
        app(),
        Settings { max_connection_age: Some(AGE), keep_alive_timeout: None, ..Settings::default() },
    )
}

async fn ask(rig: &Rig, peer: &mut Peer, request: impl AsRef<[u8]>) -> String {
    peer.send(request);
    rig.settle().await;
    peer.receive()
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_44_an_idle_connection_ends_at_its_age_and_its_slot_is_nobody_elses() {
    let rig = rig();
    let mut first = rig.connect();
    rig.settle().await;
    let second = rig.connect();
    rig.pass(SHORTEST - 2 * TICK).await;
    assert!(!first.is_at_end(), "not before its time");
    rig.pass(4 * TICK).await;
    assert!(first.is_at_end() && !second.is_at_end(), "each has an age of its own");
    assert_eq!(first.receive(), "");
    drop(first);
    rig.settle().await;
    assert_eq!(rig.closed(CloseReason::Age), 1);
    // The slot is taken again, by one that is young.
    let mut third = rig.connect();
    assert!(!ask(&rig, &mut third, get("/")).await.contains("connection: close"));
    rig.pass(Duration::from_secs(130)).await;
    assert!(second.is_at_end() && !third.is_at_end());
    drop((second, third));
    rig.settle().await;
    assert_eq!((rig.closed(CloseReason::Age), rig.closed(CloseReason::PeerClosed)), (2, 1));
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn connections_that_came_together_end_apart() {
    let rig = rig();
    let peers: Vec<_> = std::iter::repeat_with(|| rig.connect()).take(500).collect();
    rig.pass(SHORTEST - Duration::from_secs(1)).await;
    let (mut before, mut most) = (0, 0);
    for _ in 0..122 {
        rig.pass(Duration::from_secs(1)).await;
        let ended = peers.iter().filter(|peer| peer.is_at_end()).count();
        (before, most) = (ended, most.max(ended - before));
    }
    assert_eq!(before, 500, "all by the greatest age");
    assert!(most <= 10, "{most} within a second");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn who_asks_often_is_told_by_the_next_answer_and_never_meets_a_close() {
    let rig = rig();
    let mut peer = rig.connect();
    rig.pass(SHORTEST - Duration::from_secs(4)).await;
    assert!(!ask(&rig, &mut peer, get("/")).await.contains("connection: close"));
    // It was idle for 4.8 seconds, which is not long, and is old.
    rig.pass(Duration::from_millis(4_800)).await;
    assert!(!peer.is_at_end());
    let answer = ask(&rig, &mut peer, get("/")).await;
    assert!(answer.contains("connection: close") && answer.ends_with("hello"), "{answer}");
    assert!(peer.is_at_end());
    drop(peer);
    rig.settle().await;
    assert_eq!(rig.closed(CloseReason::Age), 1);
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_request_that_came_at_the_last_moment_is_answered() {
    let rig = rig();
    let mut peer = rig.connect();
    rig.settle().await;
    tokio::time::advance(SHORTEST + Duration::from_secs(1)).await;
    // The core could not look: both are there when it does.
    let answer = ask(&rig, &mut peer, get("/")).await;
    assert!(answer.contains("connection: close") && answer.ends_with("hello"), "{answer}");
    assert!(peer.is_at_end());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn pipelined_requests_are_all_answered_and_the_last_answer_says_so() {
    let rig = rig();
    let mut peer = rig.connect();
    rig.settle().await;
    tokio::time::advance(SHORTEST + Duration::from_secs(1)).await;
    let upload = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";
    let answers = ask(&rig, &mut peer, get("/").repeat(20) + upload + &get("/later") + &get("/") + upload).await;
    rig.pass(Duration::from_secs(3)).await;
    let answers = answers + &peer.receive();
    assert_eq!(statuses(&answers), [200; 24]);
    assert_eq!(answers.matches("connection: close").count(), 1, "{answers}");
    assert!(answers.rsplit("HTTP/1.1").next().unwrap().contains("connection: close"));
    assert!(peer.is_at_end());
    // One that never stops is stopped all the same.
    let mut endless = rig.connect();
    rig.settle().await;
    tokio::time::advance(Duration::from_secs(660) + GRACE).await;
    let answers = ask(&rig, &mut endless, get("/").repeat(20)).await;
    assert_eq!(statuses(&answers), [200]);
    assert!(endless.is_at_end());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_handler_that_is_at_work_is_waited_for_and_its_answer_is_the_last() {
    for behind in [false, true] {
        let rig = rig();
        let mut peer = rig.connect();
        rig.pass(SHORTEST - Duration::from_secs(1)).await;
        peer.send(get("/later") + &get("/").repeat(usize::from(behind)));
        rig.pass(Duration::from_secs(3)).await;
        let answers = peer.receive();
        assert_eq!(statuses(&answers).len(), 1 + usize::from(behind));
        assert_eq!(answers.matches("connection: close").count(), 1);
        assert!(answers.rsplit("HTTP/1.1").next().unwrap().contains("connection: close"), "{answers}");
        assert!(peer.is_at_end());
        drop(peer);
        rig.settle().await;
        assert_eq!((rig.closed(CloseReason::Age), rig.closed(CloseReason::AgeTimeout)), (1, 0));
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_stream_hears_of_the_age_and_takes_its_leave() {
    let rig = rig();
    let (mut polite, mut young) = (rig.connect(), rig.connect());
    assert!(ask(&rig, &mut polite, get("/polite")).await.ends_with("\r\n\r\n"));
    rig.pass(Duration::from_secs(500)).await;
    ask(&rig, &mut young, get("/polite")).await;
    rig.pass(Duration::from_secs(40) - 2 * TICK).await;
    assert_eq!(polite.receive(), "", "not before its time");
    rig.pass(4 * TICK).await;
    assert_eq!(polite.receive(), "3\r\nbye\r\n0\r\n\r\n");
    assert_eq!(young.receive(), "", "it is told of its own age");
    // It is idle now, and not for long.
    rig.pass(Duration::from_millis(5_200)).await;
    assert!(polite.is_at_end());
    // One that begins when its connection is old already is told at once.
    let mut old = rig.connect();
    rig.settle().await;
    tokio::time::advance(Duration::from_secs(661)).await;
    assert!(ask(&rig, &mut old, get("/polite")).await.ends_with("3\r\nbye\r\n0\r\n\r\n"));
    assert!(old.is_at_end());
    // The stop of the core is heard of as before.
    let mut stopped = rig.connect();
    ask(&rig, &mut stopped, get("/polite")).await;
    rig.status.advance(Phase::Draining);
    rig.settle().await;
    assert!(stopped.receive().ends_with("bye\r\n0\r\n\r\n"));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn who_does_not_listen_is_cut_after_its_grace() {
    let rig = rig();
    let (mut stream, mut silent) = (rig.connect(), rig.connect());
    ask(&rig, &mut stream, get("/deaf")).await;
    ask(&rig, &mut silent, get("/never")).await;
    rig.pass(SHORTEST + GRACE - 2 * TICK).await;
    assert!(!stream.is_at_end());
    rig.pass(4 * TICK).await;
    assert!(stream.is_at_end() && !stream.receive().ends_with("0\r\n\r\n"), "its end would look like the whole");
    rig.pass(Duration::from_secs(120)).await;
    let answer = silent.receive();
    assert!(answer.ends_with("503 Service Unavailable: age-timeout\n") && silent.is_at_end(), "{answer}");
    drop((stream, silent));
    rig.settle().await;
    assert_eq!(rig.closed(CloseReason::AgeTimeout), 2);
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_connection_may_ask_so_often_and_no_more() {
    let max_connection_requests = NonZeroU32::new(3);
    let rig = Rig::with_settings(app(), Settings { max_connection_requests, ..Settings::default() });
    let (mut one_by_one, mut together) = (rig.connect(), rig.connect());
    for number in 1..=3 {
        let answer = ask(&rig, &mut one_by_one, get("/")).await;
        assert_eq!((statuses(&answer), answer.contains("connection: close")), (vec![200], number == 3), "{number}");
    }
    assert!(one_by_one.is_at_end());
    let answers = ask(&rig, &mut together, get("/").repeat(5)).await;
    assert_eq!((statuses(&answers).len(), answers.matches("connection: close").count()), (3, 1));
    assert!(together.is_at_end());
    drop((one_by_one, together));
    rig.settle().await;
    assert_eq!(rig.closed(CloseReason::Complete), 2);
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_stop_gives_those_with_an_age_their_time_too() {
    let rig = rig();
    let (idle, mut lucky) = (rig.connect(), rig.connect());
    rig.pass(Duration::from_secs(20)).await;
    rig.status.advance(Phase::Draining);
    rig.pass(Duration::from_secs(4)).await;
    assert!(!idle.is_at_end());
    assert!(ask(&rig, &mut lucky, get("/")).await.ends_with("hello"));
    rig.pass(Duration::from_secs(2)).await;
    assert!(idle.is_at_end() && rig.engine.is_finished());
    assert_eq!(rig.closed(CloseReason::Drained), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_event_source_whose_connection_is_too_old_is_told_when_to_come_back() {
    let rig = rig();
    let mut peer = rig.connect();
    rig.pass(SHORTEST - Duration::from_secs(1)).await;
    peer.send("GET /never HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n");
    rig.pass(GRACE + Duration::from_secs(3)).await;
    let told = peer.receive();
    assert!(statuses(&told) == [200] && told.contains("\r\n\r\nretry: "), "{told}");
    assert_eq!(rig.closed(CloseReason::AgeTimeout), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_refusal_that_is_the_last_answer_of_an_old_connection_says_why_it_ended() {
    let mut settings = Settings { max_connection_age: Some(AGE), keep_alive_timeout: None, ..Settings::default() };
    settings.rate_limit.quota = "1/h".parse().ok();
    let rig = Rig::with_settings(app(), settings);
    let mut peer = rig.connect();
    assert_eq!(statuses(&ask(&rig, &mut peer, get("/")).await), [200]);
    rig.pass(SHORTEST - Duration::from_secs(1)).await;
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab";
    assert_eq!(statuses(&ask(&rig, &mut peer, get("/")).await), [429]);
    rig.pass(Duration::from_secs(1) + 2 * TICK).await;
    let refused = ask(&rig, &mut peer, head).await;
    assert!(statuses(&refused) == [429] && refused.contains("connection: close"), "{refused}");
    drop(peer);
    rig.settle().await;
    assert_eq!((rig.closed(CloseReason::Age), rig.closed(CloseReason::Complete)), (1, 0));
}
