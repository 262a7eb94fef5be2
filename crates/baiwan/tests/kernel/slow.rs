//! Peers that trickle, and peers that do not read.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use baiwan::{CloseReason, EventLoop};
use futures_util::stream;

use crate::peer::{End, Peer, bytes_held, sockets_held};
use crate::rig::{Rig, eventually, server};

const PIECE_BYTES: u64 = 16 * 1024;
/// What is offered to peers that read nothing.
const OFFERED_BYTES: u64 = 64 << 20;
/// What the sockets of both ends and the connection's credit hold, with much to spare.
const HELD_BYTES_MAX: u64 = 16 << 20;

/// What the kernel may hold of answers for a peer that does not read them.
const KERNEL_BYTES_MAX: u64 = 64 * 1024;

const TRICKLE: Duration = Duration::from_millis(20);
/// Bytes of a head that never ends: more than come within the deadline, however slow the machine, as each waits a `TRICKLE`.
const TRICKLE_BYTES: usize = 3_000;

/// Answers with 64 MiB: in pieces, counted as they are made, and in one.
fn app(made: &Arc<AtomicU64>) -> Router {
    let (made, whole) = (Arc::clone(made), Bytes::from(vec![b'w'; OFFERED_BYTES as usize]));
    let pieces = || async move {
        let piece = Bytes::from(vec![b'p'; PIECE_BYTES as usize]);
        Body::from_stream(stream::unfold((made, piece, 0), |(made, piece, number)| async move {
            tokio::task::yield_now().await;
            made.fetch_add(PIECE_BYTES, Relaxed);
            let more = number < OFFERED_BYTES / PIECE_BYTES;
            more.then(|| (Ok::<_, Infallible>(piece.clone()), (made, piece, number + 1)))
        }))
    };
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/pieces", get(pieces))
        .route("/whole", get(|| async move { whole }))
}

#[test]
fn row_36_a_head_that_trickles_has_one_deadline() {
    let rig = Rig::start(server(EventLoop::Epoll).header_timeout(Some(Duration::from_secs(1))), app(&Arc::default()));
    let mut silent = Peer::connect(&rig.address());
    silent.send("G");
    // The second one trickles after an answer, on a connection that is kept alive.
    for first in ["", "GET / HTTP/1.1\r\nHost: test\r\n\r\n"] {
        let mut slow = Peer::connect(&rig.address());
        slow.send(format!("{first}GET / HTTP/1.1\r\nHost: test\r\nX: "));
        if !first.is_empty() {
            slow.receive_some().unwrap();
        }
        let mut sent = 0;
        while sent < TRICKLE_BYTES && !slow.is_readable_within(TRICKLE) {
            slow.send("x");
            sent += 1;
        }
        assert!((2..TRICKLE_BYTES).contains(&sent), "{sent} bytes after the first");
        let (answer, end) = slow.receive_all();
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert_eq!(end, End::Orderly);
    }
    assert!(silent.receive_all().0.starts_with("HTTP/1.1 408 "));
    drop(silent);
    eventually("all are closed for that", || rig.health.counts().closed_by(CloseReason::HeaderTimeout) == 3);
    rig.stop();
}

#[test]
fn row_38_a_peer_that_does_not_read_pauses_its_handler_and_is_reset() {
    let made = Arc::new(AtomicU64::new(0));
    let rig = Rig::start(server(EventLoop::Epoll).write_timeout(Some(Duration::from_secs(1))), app(&made));
    let address = rig.address();
    let mut bystander = rig.connect();
    let mut peers: Vec<Peer> = (0..8).map(|_| Peer::connect_narrow(&address)).collect();
    for (number, peer) in peers.iter_mut().enumerate() {
        let path = ["pieces", "whole"][number % 2];
        peer.send(format!("GET /{path} HTTP/1.1\r\nHost: test\r\n\r\n"));
    }
    eventually("all are cut", || {
        assert_eq!(bystander.get("/").text(), "hello");
        rig.health.counts().closed_by(CloseReason::WriteTimeout) == peers.len() as u64
    });
    assert!(made.load(Relaxed) < 4 * HELD_BYTES_MAX, "{} bytes were made for nobody", made.load(Relaxed));
    assert_eq!(sockets_held(&address), 1);
    for peer in &mut peers {
        let (received, end) = peer.receive_all();
        assert!((received.len() as u64) < HELD_BYTES_MAX);
        assert_eq!(end, End::Reset, "after {} bytes", received.len());
    }
    drop(bystander);
    rig.stop();
}

#[test]
fn row_43_a_flood_of_requests_whose_answers_nobody_reads_stops_being_read() {
    const REQUESTS: usize = 100_000;
    let rig = Rig::start(server(EventLoop::Epoll).write_timeout(Some(Duration::from_secs(1))), app(&Arc::default()));
    let mut bystander = rig.connect();
    let mut flood = Peer::connect_narrow(&rig.address());
    // More bytes than the kernel takes for a server that does not read them.
    let field = "x".repeat(200);
    let requests = format!("GET / HTTP/1.1\r\nHost: test\r\nX: {field}\r\n\r\n").repeat(REQUESTS).into_bytes();
    let (mut sent, mut asked) = (0, 0);
    eventually("the flood is cut", || {
        assert_eq!(bystander.get("/").text(), "hello");
        asked += 1;
        match flood.send_nowait(&requests[sent..]) {
            Ok(count) => sent += count,
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        rig.health.counts().closed_by(CloseReason::WriteTimeout) == 1
    });
    let answered = rig.health.counts().requests - asked;
    assert!(answered > 0 && answered < REQUESTS as u64, "{answered} requests were answered");
    assert!(sent < requests.len(), "the server must stop reading");
    drop((bystander, flood));
    rig.stop();
}

#[test]
fn row_38a_the_kernel_holds_little_for_peers_that_do_not_read() {
    let rig = Rig::start(server(EventLoop::Epoll).write_timeout(Some(Duration::from_secs(1))), app(&Arc::default()));
    let address = rig.address();
    let request = |path| format!("GET /{path} HTTP/1.1\r\nHost: test\r\n\r\n");
    // 24 KiB of requests each.
    let requests = ["", "pieces", "whole"].map(|path| request(path).repeat((24 << 10) / request(path).len()));
    let mut peers: Vec<Peer> = Vec::new();
    for connect in [Peer::connect, Peer::connect_narrow] {
        for requests in &requests {
            peers.push(connect(&address));
            peers.last_mut().unwrap().send(requests);
        }
    }
    // What is held when the first are about to be cut: until then nothing was on its way for a second.
    let mut last = Vec::new();
    eventually("those that were sent too much are cut", || {
        let held = bytes_held(&address);
        if held.len() == peers.len() {
            last = held;
        }
        rig.health.counts().closed_by(CloseReason::WriteTimeout) >= 4
    });
    assert!(last.iter().filter(|held| **held > 1024).count() >= 4, "too little was sent: {last:?}");
    assert!(last.iter().all(|held| *held <= KERNEL_BYTES_MAX), "{last:?}");
    drop(peers);
    rig.stop();
}

#[test]
fn row_38a_a_peer_that_takes_its_answer_too_slowly_is_reset() {
    // More than any peer takes.
    let rate = 1_000_000_000;
    let rig = Rig::start(server(EventLoop::Epoll).write_min_rate(rate), app(&Arc::default()));
    let mut peer = Peer::connect_narrow(&rig.address());
    peer.send("GET /whole HTTP/1.1\r\nHost: test\r\n\r\n");
    let is_cut = || rig.health.counts().closed_by(CloseReason::WriteTooSlow) == 1;
    eventually("it is cut", || is_cut() || peer.receive_some().is_none());
    eventually("for that", is_cut);
    drop(peer);
    rig.stop();
}
