//! Panics, dropping and stopping; and apps that are no `Router`.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::{TcpListener, TcpStream};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use axum::routing::get;
use baiwan::{EventLoop, Phase};
use futures_util::stream;
use http_body_util::{BodyExt, Full};
use tokio::sync::Notify;

use crate::rig::{Rig, builder, eventually, server};

const STOPS: usize = 300;

/// An app with a handler that waits for `go`, and its count of handlers that do.
fn waiting_app(go: &Arc<Notify>) -> Router {
    let go = Arc::clone(go);
    let wait = || async move {
        go.notified().await;
        "after all"
    };
    Router::new().route("/", get(|| async { "hello" })).route("/wait", get(wait))
}

pub(crate) fn a_panic_costs_its_own_request_alone(event_loop: EventLoop) {
    async fn at_once() -> &'static str {
        panic!("at once, as the test wants it")
    }
    async fn later() -> &'static str {
        tokio::task::yield_now().await;
        panic!("later, as the test wants it")
    }
    let go = Arc::new(Notify::new());
    let app = waiting_app(&go).route("/at-once", get(at_once)).route("/later", get(later));
    let rig = Rig::start(server(event_loop), app);
    let (mut idle, mut waiting) = (rig.connect(), rig.connect());
    assert_eq!(idle.get("/").text(), "hello");
    waiting.send("GET /wait HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("both are taken in", || rig.health.counts().requests == 2);
    for path in ["/at-once", "/later"] {
        assert_eq!(rig.connect().get(path).status, 500, "{path}");
    }
    assert_eq!(rig.health.counts().handler_panics, 2);
    assert_eq!(idle.get("/").text(), "hello");
    go.notify_one();
    assert_eq!(waiting.answer(false).text(), "after all");
    drop((idle, waiting));
    rig.stop();
}

pub(crate) fn a_panic_in_a_response_body_cuts_that_answer_alone(event_loop: EventLoop) {
    let body = || async {
        Body::from_stream(stream::unfold(0, |number| async move {
            tokio::task::yield_now().await;
            assert!(number < 3, "in the body, as the test wants it");
            Some((Ok::<_, Infallible>(Bytes::from_static(b"piece")), number + 1))
        }))
    };
    let app = waiting_app(&Arc::default()).route("/body", get(body));
    let rig = Rig::start(server(event_loop), app);
    let (mut idle, mut broken) = (rig.connect(), rig.connect());
    assert_eq!(idle.get("/").text(), "hello");
    broken.send("GET /body HTTP/1.1\r\nHost: test\r\n\r\n");
    let head = broken.head();
    assert_eq!((head.status, head.field("transfer-encoding")), (200, Some("chunked")));
    let end = loop {
        match broken.try_chunk() {
            Ok(Some(piece)) => assert_eq!(piece, b"piece"),
            end => break end,
        }
    };
    assert!(end.is_err(), "the answer must not look complete");
    assert_eq!(idle.get("/").text(), "hello");
    drop((idle, broken));
    rig.stop();
}

pub(crate) fn dropping_the_server_cuts_its_connections(event_loop: EventLoop) {
    let rig = Rig::start(server(event_loop).workers(2), waiting_app(&Arc::default()));
    let address = rig.address();
    let (mut idle, mut waiting) = (rig.connect(), rig.connect());
    assert_eq!(idle.get("/").text(), "hello");
    waiting.send("GET /wait HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("both are taken in", || rig.health.counts().requests == 2);
    let health = rig.health.clone();
    drop(rig);
    idle.expect_end();
    waiting.expect_end();
    eventually("nobody listens any more", || TcpStream::connect(&address).is_err());
    eventually("every connection is closed", || health.connections() == 0);
    assert!(!health.is_ready());
}

pub(crate) fn a_stop_answers_what_was_received(event_loop: EventLoop) {
    let go = Arc::new(Notify::new());
    let rig = Rig::start(server(event_loop), waiting_app(&go));
    let (address, health) = (rig.address(), rig.health.clone());
    let mut waiting = rig.connect();
    waiting.send("GET /wait HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("the request is taken in", || health.counts().requests == 1);
    let stopping = rig.begin_stop();
    eventually("nobody listens any more", || TcpStream::connect(&address).is_err());
    assert!(!health.is_ready() && !stopping.is_finished(), "it waits for the answer");
    go.notify_one();
    assert_eq!(waiting.answer(false).text(), "after all");
    waiting.expect_end();
    drop(waiting);
    stopping.join().unwrap().unwrap();
    assert_eq!(health.connections(), 0);
}

pub(crate) fn whoever_polls_a_server_sees_each_step_of_its_stop(event_loop: EventLoop) {
    let builder = server(event_loop).shutdown(std::future::ready(()));
    let health = builder.health();
    let mut seen = vec![health.phase()];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let running = builder.start(waiting_app(&Arc::default())).unwrap();
        seen.push(health.phase());
        let mut ended = pin!(running.wait());
        let look = |cx: &mut Context<'_>| {
            let outcome = ended.as_mut().poll(cx);
            seen.extend(outcome.is_pending().then(|| health.phase()));
            outcome
        };
        poll_fn(look).await.unwrap();
    });
    seen.dedup();
    assert_eq!(seen, [Phase::Starting, Phase::Serving, Phase::NotReady, Phase::Draining]);
}

pub(crate) fn a_stop_leaves_a_listener_that_somebody_else_holds(event_loop: EventLoop) {
    let go = Arc::new(Notify::new());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // As a supervisor does that hands its socket to the next server.
    let held = listener.try_clone().unwrap();
    let rig = Rig::start(builder(event_loop).workers(2).listener(listener), waiting_app(&go));
    let (address, health) = (rig.address(), rig.health.clone());
    let mut waiting = rig.connect();
    waiting.send("GET /wait HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("the request is taken in", || health.counts().requests == 1);
    let stopping = rig.begin_stop();
    eventually("the server stops", || !health.is_ready());
    // Whoever comes now, for a while, may still be answered; and then waits for the next server.
    let mut left = None;
    eventually("a connection is left in the backlog", || {
        let before = health.counts().accepted;
        left = Some(TcpStream::connect(&address).unwrap());
        std::thread::park_timeout(Duration::from_millis(20));
        health.counts().accepted == before
    });
    go.notify_one();
    assert_eq!(waiting.answer(false).text(), "after all");
    drop(waiting);
    stopping.join().unwrap().unwrap();
    assert!(held.accept().is_ok(), "the next server finds it");
}

pub(crate) fn a_stop_is_seen_whenever_it_comes(event_loop: EventLoop) {
    for round in 0..STOPS {
        let rig = Rig::start(server(event_loop).workers(2), waiting_app(&Arc::default()));
        // Sometimes the cores have slept for a while, sometimes they are about to.
        if round % 3 == 0 {
            assert_eq!(rig.connect().get("/").text(), "hello");
        }
        rig.begin_stop().join().unwrap().unwrap();
    }
}

pub(crate) fn a_plain_tower_service_is_an_app(event_loop: EventLoop) {
    let app = tower::service_fn(|request: Request<baiwan::Body>| async {
        let body = request.into_body().collect().await?.to_bytes();
        Ok::<_, baiwan::BodyError>(Response::new(Full::new(body)))
    });
    let rig = Rig::start(server(event_loop), app);
    let mut client = rig.connect();
    assert_eq!(client.post("/", "there and back").text(), "there and back");
    assert_eq!(client.post("/", &"long ".repeat(100_000)).text(), "long ".repeat(100_000));
    drop(client);
    rig.stop();
}

pub(crate) fn an_app_that_cannot_leave_its_thread_is_served(event_loop: EventLoop) {
    let rig = Rig::start_with(server(event_loop), |core| {
        let requests = Rc::new(Cell::new(0));
        tower::service_fn(move |_: Request<baiwan::Body>| {
            let requests = Rc::clone(&requests);
            async move {
                requests.set(requests.get() + 1);
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(format!("{core} {}", requests.get())))))
            }
        })
    });
    assert_eq!(rig.connect().get("/").text(), "0 1");
    assert_eq!(rig.connect().get("/").text(), "0 2");
    rig.stop();
}
