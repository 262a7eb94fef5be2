//! Apps that belong to one connection each: which connection is served by which, and what a panic in one costs.

use std::cell::Cell;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::ConnectInfo;
use axum::extract::connect_info::Connected;
use axum::routing::get as route_get;
use baiwan_driver::sim::{Call, Fault, Faults, SimNet};

use super::failing::Bomb;
use super::rig::{Peer, Rig, address, get, statuses};
use crate::app::App;
use crate::engine::{Engine, receive_area};
use crate::observe::{Exchange, Observer};
use crate::reload::InForce;
use crate::settings::Settings;
use crate::status::{CloseReason, Phase, Status};
use crate::{IncomingStream, axum_app};

thread_local! {
    /// Whether the next ones panic when they are made, and whether they do when they are dropped. A test has its own thread.
    static FAILS: [Cell<bool>; 2] = const { [Cell::new(false), Cell::new(false)] };
    /// How many are there.
    static LIVE: Cell<usize> = const { Cell::new(0) };
}

fn fails(when_made: bool, when_dropped: bool) {
    FAILS.with(|[made, dropped]| (made.set(when_made), dropped.set(when_dropped)));
}

/// What the app makes of a connection; its clones share it.
#[derive(Clone)]
struct Caller(Arc<Shared>);

struct Shared(SocketAddr);

impl Connected<IncomingStream<'_>> for Caller {
    fn connect_info(stream: IncomingStream<'_>) -> Self {
        if FAILS.with(|[made, _]| made.get()) {
            // Unlike `panic!`, it prints nothing.
            resume_unwind(Box::new("made"));
        }
        LIVE.set(LIVE.get() + 1);
        Self(Arc::new(Shared(*stream.remote_addr())))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        LIVE.set(LIVE.get() - 1);
        if FAILS.with(|[_, dropped]| dropped.get()) && !std::thread::panicking() {
            resume_unwind(Box::new("dropped"));
        }
    }
}

fn app() -> impl App {
    let router = Router::new()
        .route("/", route_get(|ConnectInfo(Caller(shared)): ConnectInfo<Caller>| async move { shared.0.to_string() }))
        .route("/bomb", route_get(|| async { Bytes::from_owner(Bomb(vec![b'x'; 100_000])) }));
    axum_app(router.into_make_service_with_connect_info::<Caller>())
}

/// Asks who it is on an open connection.
async fn ask(rig: &Rig, peer: &mut Peer) -> String {
    peer.send(get("/"));
    rig.settle().await;
    let answer = peer.receive();
    assert_eq!(statuses(&answer), [200], "{answer}");
    answer.split("\r\n\r\n").nth(1).unwrap().to_owned()
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_slot_that_is_used_again_has_an_app_of_its_own() {
    let rig = Rig::serving(app());
    let mut one = rig.connect();
    let first = ask(&rig, &mut one).await;
    assert_eq!(ask(&rig, &mut one).await, first);
    drop(one);
    rig.settle().await;
    assert_eq!((LIVE.get(), rig.counts().slots), (0, 0));
    let mut other = rig.connect();
    assert_ne!(ask(&rig, &mut other).await, first);
    assert_eq!((LIVE.get(), rig.counts().slots), (1, 1));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_loop_that_begins_anew_makes_new_apps() {
    let rig = Rig::with(app(), Settings::default(), 1000, 1 << 20);
    let (mut idle, mut bomb) = (rig.connect(), rig.connect());
    let first = ask(&rig, &mut idle).await;
    bomb.send(get("/bomb"));
    rig.settle().await;
    assert_eq!((rig.counts().core_panics, LIVE.get()), (1, 0));
    let mut later = rig.connect();
    assert_ne!(ask(&rig, &mut later).await, first);
    assert_eq!(LIVE.get(), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_panics_when_it_is_dropped_costs_nobody_anything() {
    let mut rig = Rig::with(app(), Settings::default(), 1000, 1 << 20);
    fails(false, true);
    let (mut one, mut other, mut bomb) = (rig.connect(), rig.connect(), rig.connect());
    ask(&rig, &mut one).await;
    ask(&rig, &mut other).await;
    drop(one);
    rig.settle().await;
    assert_eq!(LIVE.get(), 1, "at the end of its connection");
    ask(&rig, &mut other).await;
    assert_eq!(rig.counts().core_panics, 0);
    bomb.send(get("/bomb"));
    rig.settle().await;
    assert_eq!((rig.counts().core_panics, LIVE.get()), (1, 0), "after a panic of the loop");
    let (mut one, mut other) = (rig.connect(), rig.connect());
    ask(&rig, &mut one).await;
    ask(&rig, &mut other).await;
    rig.status.advance(Phase::Stopping);
    rig.settle().await;
    (&mut rig.engine).await.expect("the core does not panic").unwrap();
    assert_eq!(LIVE.get(), 0, "where the stop cuts");
    fails(false, false);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_request_whose_app_cannot_be_made_is_counted_recorded_and_answered_as_its_method_wants() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = Arc::clone(&told);
    let observer = Observer::new(move |exchange: &Exchange<'_>| {
        let (method, status) =
            (exchange.method.map(ToString::to_string), exchange.status.map(|status| status.as_u16()));
        telling.lock().unwrap().push((method, status, exchange.bytes_in, exchange.bytes_out));
    });
    let settings = Settings { observer: Some(observer), ..Settings::default() };
    let rig = Rig::with(app(), settings, 1000, 1 << 20);
    let mut bystander = rig.connect();
    ask(&rig, &mut bystander).await;
    fails(true, false);
    told.lock().unwrap().clear();
    for (number, method) in ["GET", "HEAD"].into_iter().enumerate() {
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = rig.exchange(&request).await;
        assert_eq!(statuses(&answer), [500]);
        assert_eq!(answer.ends_with("\r\n\r\n"), method == "HEAD", "{answer}");
        assert_eq!(rig.counts().requests, number as u64 + 2);
        let expected = (Some(method.to_owned()), Some(500), request.len() as u64, answer.len() as u64);
        assert_eq!(std::mem::take(&mut *told.lock().unwrap()), [expected]);
    }
    assert_eq!(rig.counts().handler_panics, 2);
    rig.pass(Duration::from_secs(5)).await;
    assert_eq!(rig.closed(CloseReason::HandlerFailed), 2);
    ask(&rig, &mut bystander).await;
    fails(false, false);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_room_of_a_crowd_that_has_left_is_given_back() {
    let net = SimNet::new(64 * 1024);
    let status = Status::new(1, 10_000, u64::MAX);
    status.advance(Phase::Serving);
    let (in_force, bound) = (InForce::new(Arc::new(Settings::default())), vec![net.bind(address())]);
    let mut engine = Engine::new(net.driver(), app(), &in_force, status, 0, bound).unwrap();
    let mut area = receive_area();
    let mut room_after_turns = async |turns: usize| {
        for _ in 0..turns {
            std::future::poll_fn(|cx| Poll::Ready(engine.turn(&mut area, cx).is_ready())).await;
        }
        engine.apps.room()
    };
    let mut crowd = Vec::new();
    for _ in 0..100 {
        for _ in 0..50 {
            crowd.push(net.connect(address()).unwrap());
            crowd.last_mut().unwrap().send(get("/").as_bytes()).unwrap();
        }
        room_after_turns(2).await;
    }
    let room = room_after_turns(10).await;
    assert!(room >= 5000 && LIVE.get() == 5000, "{room}");
    crowd.truncate(2000);
    let kept = room_after_turns(20).await;
    assert!(kept >= 2000 && LIVE.get() == 2000, "{kept}");
    drop(crowd);
    let kept = room_after_turns(20).await;
    assert!(kept < 2500 && LIVE.get() == 0, "{kept} of {room}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_app_of_a_connection_that_cannot_be_watched_goes_with_it() {
    let rig = Rig::with(app(), Settings::default(), 1000, 1 << 20);
    rig.settle().await;
    rig.net.set_faults(Faults::at_call(Call::Watch, 0, Fault::Error(12)));
    let answer = rig.exchange(&get("/")).await;
    assert_eq!(statuses(&answer), [200]);
    assert_eq!((rig.closed(CloseReason::System), LIVE.get()), (1, 0));
}
