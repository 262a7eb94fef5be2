//! A core that is asked without pause waits in its driver, not in Tokio: nobody else may wait for that in vain.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use baiwan::EventLoop;

use crate::peer::Peer;
use crate::rig::{Rig, eventually, server};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";

/// Asks on one connection, without pause, until it is told to end or the server ends. Returns how many answers came.
fn ask_without_pause(address: String, ends: Arc<AtomicBool>) -> JoinHandle<usize> {
    std::thread::spawn(move || {
        let mut peer = Peer::connect(&address);
        let mut answers = 0;
        while !ends.load(Relaxed) && peer.try_send(REQUEST.as_bytes()).is_ok() && peer.receive_some().is_some() {
            answers += 1;
        }
        answers
    })
}

#[test]
fn tasks_timers_threads_and_newcomers_have_their_turn_on_a_core_that_is_asked_without_pause() {
    let ended = Arc::new(AtomicUsize::new(0));
    let ending = Arc::clone(&ended);
    let spawn = async move || {
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            ending.fetch_add(1, Relaxed);
        });
        "spawned"
    };
    let sleep = async || {
        tokio::time::sleep(Duration::from_millis(1)).await;
        "slept"
    };
    let block = async || tokio::task::spawn_blocking(|| "blocked").await.unwrap();
    let app = Router::new()
        .route("/", get(async || "hello"))
        .route("/spawn", get(spawn))
        .route("/sleep", get(sleep))
        .route("/block", get(block));
    let rig = Rig::start(server(EventLoop::Epoll), app);
    let ends = Arc::new(AtomicBool::new(false));
    let asking = [(); 2].map(|()| ask_without_pause(rig.address(), Arc::clone(&ends)));
    let health = rig.health.clone();
    let mut asked = rig.connect();
    for round in 1..=30 {
        // Long enough for the core to notice that it is asked often.
        let before = health.counts().requests;
        eventually("the others are answered", || health.counts().requests >= before + 50);
        for (path, text) in [("/sleep", "slept"), ("/spawn", "spawned"), ("/block", "blocked"), ("/", "hello")] {
            assert_eq!(asked.get(path).text(), text);
        }
        assert_eq!(rig.connect().get("/").text(), "hello", "to whoever comes meanwhile");
        eventually("what a handler has spawned ends", || ended.load(Relaxed) == round);
    }
    drop(asked);
    ends.store(true, Relaxed);
    for thread in asking {
        assert!(thread.join().unwrap() > 0);
    }
    rig.stop();
}

#[test]
fn a_core_that_is_asked_without_pause_hears_of_its_stop() {
    let rig = Rig::start(server(EventLoop::Epoll), Router::new().route("/", get(async || "hello")));
    let asking = ask_without_pause(rig.address(), Arc::default());
    let health = rig.health.clone();
    eventually("it is asked", || health.counts().requests > 500);
    rig.begin_stop().join().unwrap().unwrap();
    assert!(asking.join().unwrap() > 500);
}
