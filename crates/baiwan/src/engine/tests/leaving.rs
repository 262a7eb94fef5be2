//! Peers that leave, or end their direction, before they have their answer.

use std::cell::Cell;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get as route_get;

use super::exchanges::hello;
use super::rig::{Peer, Rig, get, statuses};
use crate::settings::Settings;
use crate::status::CloseReason;

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_52_requests_before_the_end_of_the_stream_are_answered() {
    let rig = Rig::new(hello());
    let mut peer = rig.connect();
    peer.send(get("/") + &get("/"));
    peer.0.shutdown_write();
    rig.settle().await;
    assert_eq!(statuses(&peer.receive()), [200, 200]);
    assert!(peer.is_at_end());
}

/// Sets a flag when the handler is dropped before it is done.
struct Dropped(Arc<AtomicBool>, Cell<bool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(!self.1.get(), Relaxed);
    }
}

fn watched(dropped: &Arc<AtomicBool>) -> Router {
    let dropped = Arc::clone(dropped);
    let handler = move || {
        let guard = Dropped(Arc::clone(&dropped), Cell::new(false));
        async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            guard.1.set(true);
            "done"
        }
    };
    Router::new().route("/", route_get(handler.clone()).post(handler))
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_52_a_peer_that_leaves_behind_a_body_that_nobody_reads_drops_its_handler() {
    for body in ["", "ab", "abc"] {
        let dropped = Arc::new(AtomicBool::new(false));
        let rig = Rig::new(watched(&dropped));
        let mut peer = rig.connect();
        peer.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n");
        rig.settle().await;
        assert_eq!(rig.counts().exchanges, 1);
        peer.send(body);
        peer.0.shutdown_write();
        rig.settle().await;
        assert!(dropped.load(Relaxed), "{body}");
        rig.assert_empty_but_endpoints();
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_52_a_peer_that_leaves_drops_its_handler() {
    for reset in [true, false] {
        let dropped = Arc::new(AtomicBool::new(false));
        let rig = Rig::new(watched(&dropped));
        let mut peer = rig.connect();
        peer.send(get("/"));
        rig.settle().await;
        assert_eq!(rig.counts().exchanges, 1);
        match reset {
            true => peer.0.reset(),
            false => peer.0.shutdown_write(),
        }
        rig.settle().await;
        assert!(dropped.load(Relaxed));
        rig.assert_empty_but_endpoints();
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_52_half_close_lets_the_handler_finish_for_a_peer_that_only_ended_its_direction() {
    let dropped = Arc::new(AtomicBool::new(false));
    let rig = Rig::with_settings(watched(&dropped), Settings { half_close: true, ..Settings::default() });
    let mut peer = rig.connect();
    peer.send(get("/"));
    rig.settle().await;
    peer.0.shutdown_write();
    rig.pass(Duration::from_millis(150)).await;
    assert!(peer.receive().ends_with("done"));
    assert!(!dropped.load(Relaxed));
    assert!(peer.is_at_end());
}

/// Streams of unknown length: one of events, one that goes on and ends, one that falls silent.
fn lengthless() -> Router {
    let ticking = |count: usize| ticks(count, Duration::from_millis(600));
    let events = move || async move {
        ([("content-type", "text/event-stream; charset=utf-8")], Body::from_stream(ticking(usize::MAX)))
    };
    Router::new()
        .route("/events", route_get(events))
        .route("/ends", route_get(move || async move { Body::from_stream(ticking(5)) }))
        .route(
            "/silent",
            route_get(move || async move {
                let silent = futures_util::stream::pending::<Result<Bytes, Infallible>>();
                Body::from_stream(futures_util::StreamExt::chain(ticking(3), silent))
            }),
        )
}

/// A stream of `count` pieces, with a pause before each.
fn ticks(count: usize, pause: Duration) -> impl futures_core::Stream<Item = Result<Bytes, Infallible>> {
    futures_util::stream::unfold(0, move |number| async move {
        if number == count {
            return None;
        }
        tokio::time::sleep(pause).await;
        Some((Ok(Bytes::from_static(b"piece\n")), number + 1))
    })
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_52_half_close_gives_an_answer_without_a_length_while_it_goes_on_and_ends_a_stream_of_events() {
    let settings = Settings { half_close: true, ..Settings::default() };
    for (path, pieces, whole, ends_ms) in
        [("/events", 0, false, 0), ("/ends", 5, true, 3000), ("/silent", 3, false, 2800)]
    {
        let rig = Rig::with_settings(lengthless(), settings.clone());
        let mut peer = rig.connect();
        peer.send(get(path));
        rig.settle().await;
        peer.0.shutdown_write();
        let mut all = String::new();
        for _ in 0..ends_ms / 100 {
            assert!(!peer.is_at_end(), "{path} goes on: {all}");
            rig.pass(Duration::from_millis(100)).await;
            all += &peer.receive();
        }
        rig.pass(Duration::from_millis(200)).await;
        all += &peer.receive();
        assert!(peer.is_at_end(), "{path}: {all}");
        assert_eq!((all.matches("piece").count(), all.ends_with("\r\n0\r\n\r\n")), (pieces, whole), "{path}: {all}");
        assert_eq!(rig.closed(CloseReason::PeerClosed), 1, "{path}");
        drop(peer);
        rig.settle().await;
        rig.assert_empty();
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_part_of_an_answer_is_a_reset_where_the_end_of_the_connection_would_make_it_whole() {
    for (version, is_reset, half_close) in [("1.0", true, false), ("1.0", true, true), ("1.1", false, false)] {
        let rig = Rig::with_settings(lengthless(), Settings { half_close, ..Settings::default() });
        let mut peer = rig.connect();
        peer.send(format!("GET /silent HTTP/{version}\r\nHost: a\r\n\r\n"));
        rig.pass(Duration::from_millis(700)).await;
        assert!(peer.receive().contains("piece"));
        peer.0.shutdown_write();
        for _ in 0..50 {
            rig.pass(Duration::from_millis(100)).await;
            peer.receive();
        }
        assert!(peer.is_at_end());
        assert_eq!(peer.0.is_reset(), is_reset, "HTTP/{version}, half-close {half_close}");
        assert_eq!(rig.closed(CloseReason::PeerClosed), 1);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_upload_that_ends_early_drops_its_handler() {
    let rig = Rig::new(hello());
    let mut peer = rig.connect();
    peer.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    rig.settle().await;
    peer.0.shutdown_write();
    rig.settle().await;
    assert_eq!(rig.counts().exchanges, 0);
    assert_eq!(rig.closed(CloseReason::PeerClosed), 1);
}

/// What a handler has gone through that reads its request's body to the end.
#[derive(Default)]
struct Reading {
    /// The error that ended the body.
    heard: Mutex<Option<String>>,
    /// It has undone what it had begun, which took a second.
    undone: AtomicBool,
    dropped: AtomicBool,
}

/// Says that it was dropped.
struct Reader(Arc<Reading>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.dropped.store(true, Relaxed);
    }
}

/// A handler that never comes to an end: it waits for ever when it has undone what it had begun.
fn reader(reading: &Arc<Reading>) -> Router {
    let reading = Arc::clone(reading);
    let handler = move |body: Body| {
        let reader = Reader(Arc::clone(&reading));
        async move {
            let error = http_body_util::BodyExt::collect(body).await.err();
            *reader.0.heard.lock().unwrap() = error.map(|error| error.to_string());
            tokio::time::sleep(Duration::from_secs(1)).await;
            reader.0.undone.store(true, Relaxed);
            std::future::pending::<()>().await
        }
    };
    Router::new().route("/", axum::routing::post(handler))
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_handler_hears_that_its_body_will_not_come_and_has_a_while_to_undo_what_it_has_begun() {
    const GONE: &str = "the peer closed the connection before the end of the request body";
    type End = fn(Peer) -> Option<Peer>;
    let ends: [(&str, End); 4] = [
        (GONE, |mut peer| {
            peer.0.shutdown_write();
            Some(peer)
        }),
        (GONE, |peer| {
            peer.0.reset();
            None
        }),
        ("the request body is malformed: chunk-size-invalid", |mut peer| {
            peer.send("no size\r\n");
            Some(peer)
        }),
        ("the peer stopped sending the request body", Some),
    ];
    for (expected, end) in ends {
        let reading = Arc::new(Reading::default());
        let rig = Rig::new(reader(&reading));
        let mut peer = rig.connect();
        peer.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n");
        rig.settle().await;
        assert!(!reading.dropped.load(Relaxed), "it reads");
        let peer = end(peer);
        rig.pass(Duration::from_secs(60)).await;
        assert_eq!(reading.heard.lock().unwrap().as_deref(), Some(expected));
        assert!(reading.undone.load(Relaxed) && reading.dropped.load(Relaxed), "{expected}");
        drop(peer);
        rig.settle().await;
        rig.assert_empty();
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_handler_that_does_not_read_is_dropped_at_once() {
    let dropped = Arc::new(Reading::default());
    let reading = Arc::clone(&dropped);
    let handler = move |body: Body| {
        let reader = Reader(Arc::clone(&reading));
        async move {
            std::future::pending::<()>().await;
            drop((body, reader));
        }
    };
    let rig = Rig::new(Router::new().route("/", axum::routing::post(handler)));
    for body in
        ["Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"]
    {
        dropped.dropped.store(false, Relaxed);
        let mut peer = rig.connect();
        peer.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{body}"));
        rig.settle().await;
        assert_eq!(rig.counts().exchanges, 1);
        peer.0.reset();
        rig.settle().await;
        assert!(dropped.dropped.load(Relaxed), "{body:?}");
    }
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_a_handler_answers_after_its_body_has_failed_is_not_sent() {
    let handler = |body: Body| async {
        assert!(http_body_util::BodyExt::collect(body).await.is_err());
        tokio::time::sleep(Duration::from_millis(100)).await;
        "too late"
    };
    let rig = Rig::new(Router::new().route("/", axum::routing::post(handler)));
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n";
    for (rest, status) in [("no size\r\n", 400), ("", 408)] {
        let mut peer = rig.connect();
        peer.send(head);
        rig.settle().await;
        peer.send(rest);
        rig.pass(Duration::from_secs(60)).await;
        let received = peer.receive();
        assert_eq!(statuses(&received), [status]);
        assert!(!received.contains("too late"), "{received}");
    }
    rig.settle().await;
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn half_close_ends_an_answer_that_is_woken_often_and_brings_nothing() {
    let silent = async || {
        let mut often = tokio::time::interval(Duration::from_millis(100));
        let mut is_first = true;
        Body::from_stream(futures_util::stream::poll_fn(move |cx| {
            if std::mem::take(&mut is_first) {
                return std::task::Poll::Ready(Some(Ok::<_, Infallible>(Bytes::from_static(b"piece"))));
            }
            while often.poll_tick(cx).is_ready() {}
            std::task::Poll::Pending
        }))
    };
    let settings = Settings { half_close: true, ..Settings::default() };
    let rig = Rig::with_settings(Router::new().route("/", route_get(silent)), settings);
    let mut peer = rig.connect();
    peer.send(get("/"));
    rig.settle().await;
    peer.0.shutdown_write();
    rig.pass(Duration::from_millis(800)).await;
    assert!(!peer.is_at_end());
    rig.pass(Duration::from_millis(400)).await;
    assert!(peer.receive().contains("piece") && peer.is_at_end());
    assert_eq!((rig.closed(CloseReason::PeerClosed), rig.counts().exchanges), (1, 0));
}
