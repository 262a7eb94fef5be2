//! Peers that die: with a RST, with a FIN, halfway; and others that get their files.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::routing::{get, post};
use baiwan::{CloseReason, Counts, EventLoop};
use futures_util::stream;
use tokio::sync::Notify;

use crate::peer::{End, Peer, sockets_held};
use crate::rig::{Rig, eventually, server};

const STORM_THREADS: usize = 4;
const STORM_CONNECTIONS: usize = 1_250;
const REUSE_THREADS: usize = 4;
const REUSE_ROUNDS: usize = 500;

/// Handlers that are waiting, counted as long as they do.
#[derive(Clone, Default)]
struct Waiting(Arc<AtomicUsize>);

struct Waits(Arc<AtomicUsize>);

impl Waiting {
    fn begin(&self) -> Waits {
        self.0.fetch_add(1, Relaxed);
        Waits(Arc::clone(&self.0))
    }

    fn count(&self) -> usize {
        self.0.load(Relaxed)
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Answers at once, never, with a body without end, with what came, and with the number that was asked for after a while.
fn app(waiting: &Waiting, go: &Arc<Notify>) -> Router {
    let (in_wait, in_endless, go) = (waiting.clone(), waiting.clone(), Arc::clone(go));
    let wait = || async move {
        let _waits = in_wait.begin();
        go.notified().await;
        "after all"
    };
    let endless = || async move {
        let piece = Bytes::from(vec![b'e'; 16 * 1024]);
        Body::from_stream(stream::unfold((piece, in_endless.begin()), |(piece, waits)| async move {
            tokio::task::yield_now().await;
            Some((Ok::<_, Infallible>(piece.clone()), (piece, waits)))
        }))
    };
    let number = |Path(number): Path<u64>| async move {
        for _ in 0..number % 8 {
            tokio::task::yield_now().await;
        }
        number.to_string()
    };
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/wait", get(wait))
        .route("/endless", get(endless))
        .route("/body", post(|body: Bytes| async move { body.len().to_string() }))
        .route("/number/{number}", get(number))
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")
}

/// Connects and resets, at one of the moments that a connection has.
fn connect_and_reset(address: &str, moment: usize) {
    let mut peer = Peer::connect(address);
    match moment {
        // Before anything is sent; inside of the head; inside of the body; before the answer.
        0 => {}
        1 => peer.send("GET / HTTP/1.1\r\nHo"),
        2 => peer.send("POST /body HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\nsome of it"),
        3 => peer.send(request("/")),
        4 => peer.send(request("/wait")),
        // Inside of the answer, read in part and not at all.
        5 => {
            peer.send(request("/endless"));
            peer.receive_some().unwrap();
        }
        6 => peer.send(request("/endless").repeat(3)),
        // After the answer.
        _ => {
            peer.send(request("/"));
            peer.receive_some().unwrap();
        }
    }
    peer.reset();
}

fn ended(counts: &Counts) -> u64 {
    counts.closed.iter().map(|(_, count)| count).sum()
}

#[test]
fn row_50_a_storm_of_resets_leaves_nothing_behind() {
    let waiting = Waiting::default();
    let rig = Rig::start(server(EventLoop::Epoll).workers(2), app(&waiting, &Arc::default()));
    let address = rig.address();
    let mut bystander = rig.connect();
    assert_eq!(bystander.get("/").text(), "hello");
    let storm: Vec<_> = (0..STORM_THREADS)
        .map(|thread| {
            let address = address.clone();
            std::thread::spawn(move || {
                (0..STORM_CONNECTIONS).for_each(|number| connect_and_reset(&address, (number + thread) % 8));
            })
        })
        .collect();
    while storm.iter().any(|thread| !thread.is_finished()) {
        assert_eq!(bystander.get("/").text(), "hello");
    }
    storm.into_iter().for_each(|thread| thread.join().unwrap());
    let connections = (STORM_THREADS * STORM_CONNECTIONS) as u64;
    eventually("all that is left is the bystander", || {
        let counts = rig.health.counts();
        let left = (counts.connections, counts.slots, counts.exchanges, counts.deadlines);
        left == (1, 1, 0, 1) && waiting.count() == 0 && sockets_held(&address) == 1
    });
    let counts = rig.health.counts();
    // One that is reset in the backlog is accepted all the same.
    assert_eq!((counts.accepted, ended(&counts)), (connections + 1, connections));
    assert!(counts.closed_by(CloseReason::Reset) > connections / 2, "{counts:?}");
    assert_eq!(bystander.get("/").text(), "hello");
    drop(bystander);
    rig.stop();
}

#[test]
fn row_51_a_peer_that_is_dead_ends_its_connection_alone() {
    let waiting = Waiting::default();
    // Its FIN alone must not end the answer here, so that the server goes on to write.
    let rig = Rig::start(server(EventLoop::Epoll).half_close(true), app(&waiting, &Arc::default()));
    let address = rig.address();
    let mut bystander = rig.connect();
    for round in 0..20 {
        let mut peer = Peer::connect(&address);
        peer.send(request("/endless"));
        peer.receive_some().unwrap();
        match round % 2 {
            0 => peer.reset(),
            // A FIN; and as nobody is left, the kernel answers what still comes with a RST.
            _ => drop(peer),
        }
        eventually("the connection is closed", || sockets_held(&address) == 1 && waiting.count() == 0);
        assert_eq!(bystander.get("/").text(), "hello");
    }
    assert_eq!(rig.health.counts().closed_by(CloseReason::Reset), 20);
    drop(bystander);
    rig.stop();
}

#[test]
fn row_52_a_peer_that_ends_its_direction_is_gone_by_default() {
    let waiting = Waiting::default();
    let rig = Rig::start(server(EventLoop::Epoll), app(&waiting, &Arc::default()));
    // What was sent before the FIN is answered, as long as nobody has to wait for it.
    let mut peer = Peer::connect(&rig.address());
    peer.send(request("/").repeat(3));
    peer.end_direction();
    let (answers, end) = peer.receive_all();
    assert_eq!((answers.matches("hello").count(), end), (3, End::Orderly), "{answers}");

    let mut peer = Peer::connect(&rig.address());
    peer.send([request("/"), request("/wait")].concat());
    eventually("the handler waits", || waiting.count() == 1);
    peer.end_direction();
    let (answers, end) = peer.receive_all();
    assert_eq!((answers.matches("HTTP/1.1").count(), end), (1, End::Orderly), "{answers}");
    eventually("the handler is dropped", || waiting.count() == 0);
    assert_eq!(rig.health.counts().closed_by(CloseReason::PeerClosed), 2);
    rig.stop();
}

#[test]
fn row_52_a_peer_that_ends_its_direction_is_answered_if_that_is_wanted() {
    let (waiting, go) = (Waiting::default(), Arc::new(Notify::new()));
    let rig = Rig::start(server(EventLoop::Epoll).half_close(true), app(&waiting, &go));
    let mut peer = Peer::connect(&rig.address());
    peer.send([request("/"), request("/wait"), request("/")].concat());
    eventually("the handler waits", || waiting.count() == 1);
    peer.end_direction();
    // The core has had time to see the FIN when it has answered others that came later.
    (0..100).for_each(|_| assert_eq!(rig.connect().get("/").text(), "hello"));
    assert_eq!(waiting.count(), 1);
    go.notify_one();
    let (answers, end) = peer.receive_all();
    assert_eq!((answers.matches("hello").count(), end), (2, End::Orderly), "{answers}");
    assert!(answers.find("after all") > answers.find("hello"), "{answers}");
    rig.stop();
}

#[test]
fn row_55_a_file_that_is_used_again_at_once_gets_no_answer_of_another() {
    let rig = Rig::start(server(EventLoop::Epoll), app(&Waiting::default(), &Arc::default()));
    let address = rig.address();
    let threads: Vec<_> = (0..REUSE_THREADS)
        .map(|thread| {
            let address = address.clone();
            std::thread::spawn(move || {
                for round in 0..REUSE_ROUNDS {
                    let number = (thread * REUSE_ROUNDS + round) * 10;
                    // Its answer, or what becomes of it, is late: the file may have its next user then.
                    let mut gone = Peer::connect(&address);
                    gone.send(request(&format!("/number/{}", number + round % 8)));
                    match round % 3 {
                        0 => gone.reset(),
                        1 => gone.end_direction(),
                        _ => drop(gone),
                    }
                    let mut client = crate::rig::Client::connect(&address);
                    for wanted in [number + 8, number + 9] {
                        assert_eq!(client.get(&format!("/number/{wanted}")).text(), wanted.to_string());
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let counts = rig.health.counts();
    assert_eq!(counts.accepted, 2 * (REUSE_THREADS * REUSE_ROUNDS) as u64);
    rig.stop();
}
