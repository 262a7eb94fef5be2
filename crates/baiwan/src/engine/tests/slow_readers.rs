//! Peers that take their answers slowly: the minimum rate of answers.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get as route_get;
use futures_util::stream;

use super::rig::{Rig, get};
use crate::settings::Settings;
use crate::status::CloseReason;

const LARGE_BYTES: usize = 100_000;
const FRAME_BYTES: usize = 10_000;
const FRAMES: usize = 300;
const SECOND: Duration = Duration::from_secs(1);

/// A piece every 20 seconds.
async fn pieces() -> Body {
    Body::from_stream(stream::unfold(0, |number| async move {
        tokio::time::sleep(20 * SECOND).await;
        (number < 10).then_some((Ok::<_, Infallible>("piece"), number + 1))
    }))
}

/// A frame five times a second.
async fn frames() -> Body {
    Body::from_stream(stream::unfold(0, |number| async move {
        tokio::time::sleep(SECOND / 5).await;
        (number < FRAMES).then_some((Ok::<_, Infallible>(vec![b'x'; FRAME_BYTES]), number + 1))
    }))
}

fn app() -> Router {
    let router = Router::new().route("/large", route_get(|| async { vec![b'x'; LARGE_BYTES] }));
    router.route("/pieces", route_get(pieces)).route("/frames", route_get(frames))
}

/// A server whose peers have room for so few bytes that each second counts.
fn rig(room: usize, write_rate_min: u32, write_timeout: Option<Duration>) -> Rig {
    Rig::with(app(), Settings { write_rate_min, write_timeout, ..Settings::default() }, 1000, room)
}

/// Has a peer take `bytes` every `pause` until it has the large answer or is cut. Returns whether it has all of it.
async fn download(rig: &Rig, bytes: usize, pause: Duration) -> bool {
    let mut peer = rig.connect();
    peer.send(get("/large"));
    let mut received = 0;
    while received < LARGE_BYTES && !peer.0.is_reset() {
        rig.pass(pause).await;
        received += peer.0.receive_up_to(bytes).len();
    }
    received >= LARGE_BYTES
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_38a_an_answer_that_is_taken_below_the_minimum_rate_is_cut_and_one_above_it_is_not() {
    // Bytes a second, and whether the connection is cut. The clock is coarse, so not at the rate itself.
    for (rate, is_cut) in [(100, true), (400, true), (600, false), (5_000, false)] {
        let rig = rig(rate, 500, Some(30 * SECOND));
        assert_eq!(download(&rig, rate, SECOND).await, !is_cut, "{rate} bytes a second");
        rig.settle().await;
        assert_eq!(rig.closed(CloseReason::WriteTooSlow), u64::from(is_cut), "{rate} bytes a second");
        assert_eq!(rig.closed(CloseReason::WriteTimeout), 0);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_38a_any_rate_will_do_where_the_minimum_is_off() {
    let rig = rig(1_200, 0, Some(30 * SECOND));
    assert!(download(&rig, 1_200, 3 * SECOND).await);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_38a_a_fast_peer_may_rest_for_half_a_minute_and_not_for_two() {
    let rig = rig(20_000, 500, None);
    let mut peer = rig.connect();
    peer.send(get("/large"));
    rig.settle().await;
    assert_eq!(peer.0.receive_up_to(40_000).len(), 20_000);
    rig.pass(29 * SECOND).await;
    assert!(!peer.0.is_reset());
    // What it had taken before is counted when its patience of half a minute is over, and earns it as much again.
    rig.pass(33 * SECOND).await;
    assert!(peer.0.is_reset());
    assert_eq!(rig.closed(CloseReason::WriteTooSlow), 1);
    drop(peer);
    rig.settle().await;
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_38a_an_app_that_has_nothing_to_send_is_not_its_peers_fault() {
    // As much as a piece a tick.
    let rig = rig(64 * 1024, 1_000_000, Some(SECOND));
    let mut peer = rig.connect();
    peer.send(get("/pieces"));
    let mut answer = String::new();
    for _ in 0..230 {
        rig.pass(SECOND).await;
        answer += &peer.receive();
    }
    assert_eq!(answer.matches("piece").count(), 10);
    assert!(answer.ends_with("\r\n0\r\n\r\n"), "{answer}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_38a_what_was_taken_while_the_core_was_busy_counts() {
    let rig = rig(30_000, 500, None);
    // More than one turn serves.
    let mut peers: Vec<_> = (0..900).map(|_| rig.connect()).collect();
    for peer in &mut peers {
        peer.send(get("/large"));
    }
    rig.settle().await;
    let mut received: Vec<_> = peers.iter_mut().map(|peer| peer.receive().len()).collect();
    tokio::time::advance(60 * SECOND).await;
    for _ in 0..5 {
        rig.settle().await;
        for (peer, received) in peers.iter_mut().zip(&mut received) {
            *received += peer.receive().len();
        }
    }
    assert!(received.iter().all(|received| *received >= LARGE_BYTES));
    assert_eq!(rig.closed(CloseReason::WriteTooSlow), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_38a_what_the_kernel_took_whole_earns_patience_for_what_has_to_wait() {
    let rig = rig(FRAME_BYTES + 2_000, 500, Some(30 * SECOND));
    let mut peer = rig.connect();
    peer.send(get("/frames"));
    let mut received = 0;
    // A frame that comes while the one before is on its way has to wait for it, each time.
    while received < FRAMES * FRAME_BYTES && !peer.0.is_reset() {
        rig.pass(SECOND * 3 / 10).await;
        received += peer.0.receive_up_to(usize::MAX).len();
    }
    assert!(!peer.0.is_reset(), "cut after {received} bytes");
}
