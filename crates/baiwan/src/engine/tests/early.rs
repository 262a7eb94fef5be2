//! Answers that come in the middle of an upload: the peer can read them.

use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;

use super::rig::{Peer, Rig, statuses};
use crate::settings::Settings;

fn app() -> Router {
    Router::new()
        .route("/echo", post(|body: Bytes| async { body }))
        .route("/ignore", post(|| async { "ignored" }))
        .route(
            "/panic",
            post(|| async {
                if true {
                    panic!("on purpose")
                }
            }),
        )
}

/// Sends pieces of `piece_bytes` until the server has none of it any more; returns how many bytes it took.
async fn taken_after_the_answer(rig: &Rig, peer: &mut Peer, piece_bytes: usize) -> usize {
    let piece = vec![b'x'; piece_bytes];
    let mut taken = 0;
    while let Ok(count) = peer.0.send(&piece) {
        taken += count;
        rig.settle().await;
    }
    taken
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_38b_an_early_answer_can_be_read_by_who_sends_32_megabytes_first() {
    let rig = Rig::new(app());
    for (head, status) in [
        ("POST /ignore HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n", 200),
        ("POST /missing HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n", 404),
        ("POST /panic HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n", 500),
    ] {
        let mut peer = rig.connect();
        peer.send(head);
        rig.settle().await;
        assert_eq!(statuses(&peer.receive()), [status]);
        assert!(peer.is_at_end());
        let taken = taken_after_the_answer(&rig, &mut peer, 60_000).await;
        assert!((32 << 20..33 << 20).contains(&taken), "{taken} bytes were taken");
    }
    assert_eq!(rig.counts().slots, 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_38b_what_is_discarded_is_counted_in_bytes_and_not_in_receives() {
    let rig = Rig::new(app());
    let mut peer = rig.connect();
    peer.send("POST /ignore HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
    rig.settle().await;
    assert_eq!(statuses(&peer.receive()), [200]);
    for _ in 0..1000 {
        peer.send("x");
        rig.settle().await;
    }
    assert!(!peer.0.is_reset());
    // The same after a rule was broken, within smaller bounds.
    let mut peer = rig.connect();
    peer.send("GET / HTTP/1.1\r\n\r\n");
    rig.settle().await;
    assert_eq!(statuses(&peer.receive()), [400]);
    for _ in 0..1000 {
        peer.send("x");
        rig.settle().await;
    }
    assert!(!peer.0.is_reset());
    let taken = taken_after_the_answer(&rig, &mut peer, 1000).await;
    assert!((60 << 10..70 << 10).contains(&taken), "{taken} bytes were taken");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_38b_a_body_that_is_too_large_is_read_on_for_its_413_and_others_for_a_second() {
    let mut settings = Settings::default();
    settings.http.body_bytes_max = 1000;
    let rig = Rig::with_settings(app(), settings);
    for (head, status, kept) in [
        ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n", 413, true),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000\r\n", 413, true),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", 400, false),
        ("POST /ignore HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\nConnection: close\r\n\r\n", 200, true),
    ] {
        let mut peer = rig.connect();
        peer.send(head);
        rig.settle().await;
        assert_eq!(statuses(&peer.receive()), [status]);
        rig.pass(Duration::from_millis(4500)).await;
        assert_eq!(rig.counts().slots, u64::from(kept), "{head}");
        rig.pass(Duration::from_millis(700)).await;
        assert_eq!(rig.counts().slots, 0, "{head}");
    }
}
