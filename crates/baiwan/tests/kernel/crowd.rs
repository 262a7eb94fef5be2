//! Too many connections, handlers that panic, and stops under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use baiwan::{CloseReason, EventLoop};

use crate::peer::{End, Peer};
use crate::rig::{Client, Rig, eventually, server};

const PANICS: usize = 200;
const STOPS: usize = 25;
const CLIENTS: usize = 8;

fn app() -> Router {
    async fn at_once() -> &'static str {
        // Unlike `panic!`, it prints nothing.
        std::panic::resume_unwind(Box::new("as the test wants it"))
    }
    async fn later() -> &'static str {
        tokio::task::yield_now().await;
        at_once().await
    }
    let echo = |body: Bytes| async move {
        tokio::task::yield_now().await;
        body
    };
    Router::new()
        .route("/", get(|| async { "hello" }).post(echo))
        .route("/at-once", post(at_once))
        .route("/later", post(later))
}

#[test]
fn row_97_panics_cost_their_own_requests_and_nobody_elses() {
    let rig = Rig::start(server(EventLoop::Epoll).workers(2), app());
    let over = Arc::new(AtomicBool::new(false));
    let others: Vec<JoinHandle<usize>> = (0..4)
        .map(|number| {
            let (mut client, over) = (rig.connect(), Arc::clone(&over));
            std::thread::spawn(move || {
                let mut asked = 0;
                while !over.load(Relaxed) {
                    let text = format!("{number} {asked}");
                    assert_eq!(client.post("/", &text).text(), text);
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    for number in 0..PANICS {
        let mut client = rig.connect();
        let answer = client.post(["/at-once", "/later"][number % 2], "body");
        assert_eq!((answer.status, answer.field("connection")), (500, Some("close")));
        client.expect_end();
    }
    over.store(true, Relaxed);
    assert!(others.into_iter().map(|other| other.join().unwrap()).sum::<usize>() > 0);
    assert_eq!(rig.health.counts().handler_panics, PANICS as u64);
    rig.stop();
}

#[test]
fn row_104_a_stop_under_load_loses_no_request_that_was_received() {
    for round in 0..STOPS {
        let rig = Rig::start(server(EventLoop::Epoll).workers(2), app());
        let (health, address) = (rig.health.clone(), rig.address());
        let whole = Arc::new(AtomicUsize::new(0));
        let clients: Vec<JoinHandle<()>> = (0..CLIENTS)
            .map(|_| {
                let (address, whole) = (address.clone(), Arc::clone(&whole));
                std::thread::spawn(move || {
                    let mut client = Client::connect(&address);
                    // It is asked as long as it does not say that it closes, and so none of these is sent into a close.
                    for number in 0.. {
                        let text = format!("request {number}");
                        let answer = client.post("/", &text);
                        assert_eq!((answer.status, answer.text()), (200, &text[..]));
                        whole.fetch_add(1, Relaxed);
                        if answer.field("connection") == Some("close") {
                            return client.expect_end();
                        }
                    }
                })
            })
            .collect();
        let under_way = CLIENTS * (1 + round);
        eventually("all are under way", || health.connections() == CLIENTS as u64 && whole.load(Relaxed) >= under_way);
        rig.begin_stop().join().unwrap().unwrap();
        clients.into_iter().for_each(|client| client.join().unwrap());
        let counts = health.counts();
        assert_eq!(counts.requests, whole.load(Relaxed) as u64, "received, and answered whole");
        assert_eq!(counts.closed_by(CloseReason::DrainTimeout), 0);
    }
}

#[test]
fn row_110_those_beyond_the_maximum_are_told_so_and_the_others_served() {
    const HELD: usize = 8;
    const ROUNDS: usize = 8;
    // With one that asks, fewer than are waited for.
    const BEYOND: usize = 12;
    let rig = Rig::start(server(EventLoop::Epoll).workers(2).max_connections(HELD as u64), app());
    let mut held: Vec<_> = (0..HELD).map(|_| rig.connect()).collect();
    for client in &mut held {
        assert_eq!(client.get("/").text(), "hello");
    }
    for round in 0..ROUNDS {
        // They are waited for, all at the same time.
        let silent = (0..BEYOND).map(|_| Peer::connect(&rig.address())).collect::<Vec<_>>();
        let asking = (0..BEYOND).map(|_| {
            let mut peer = Peer::connect(&rig.address());
            // It may be too late to.
            let _ = peer.try_send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n");
            peer
        });
        for mut beyond in asking.chain(silent) {
            let (answer, end) = beyond.receive_all();
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            for field in ["\r\nconnection: close\r\n", "\r\nretry-after: 1\r\n"] {
                assert!(answer.contains(field), "{answer}");
            }
            assert_eq!(end, End::Orderly);
        }
        assert_eq!(held[round % HELD].get("/").text(), "hello");
    }
    assert_eq!(rig.health.connections(), HELD as u64);
    held.pop();
    eventually("there is room again", || rig.health.is_ready());
    let mut welcome = rig.connect();
    assert_eq!(welcome.get("/").status, 200);
    eventually("those who were told are gone", || {
        let counts = rig.health.counts();
        counts.closed_by(CloseReason::OverLimit) == (2 * BEYOND * ROUNDS) as u64 && counts.slots == HELD as u64
    });
    drop((held, welcome));
    rig.stop();
}
