//! Connections that are received from before they are watched, and how many are accepted at once.

use std::sync::Arc;
use std::task::Poll;

use axum::Router;
use axum::routing::get as route_get;
use baiwan_driver::sim::{Call, Fault, Faults, SimNet};

use super::rig::{Peer, Rig, address, get, statuses};
use crate::engine::{Engine, receive_area};
use crate::reload::InForce;
use crate::settings::Settings;
use crate::status::{CloseReason, Phase, Status};

fn app() -> Router {
    Router::new()
        .route("/", route_get(|| async { "hello" }))
        .route("/large", route_get(|| async { vec![b'x'; 100_000] }))
        .route("/never", route_get(|| async { std::future::pending::<()>().await }))
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_request_that_is_there_is_answered_in_the_turn_of_the_accept_and_then_its_connection_is_watched() {
    let net = SimNet::new(64 * 1024);
    let status = Status::new(1, 1000, u64::MAX);
    status.advance(Phase::Serving);
    let (in_force, bound) = (InForce::new(Arc::new(Settings::default())), vec![net.bind(address())]);
    let mut engine = Engine::new(net.driver(), app(), &in_force, status, 0, bound).unwrap();
    let mut area = receive_area();
    let mut turn = async || std::future::poll_fn(|cx| Poll::Ready(engine.turn(&mut area, cx).is_ready())).await;
    let mut peer = Peer(net.connect(address()).unwrap());
    peer.send(get("/"));
    turn().await;
    assert_eq!(statuses(&peer.receive()), [200]);
    assert_eq!(net.calls(Call::Watch), 1, "it stays");
    peer.send(get("/"));
    turn().await;
    assert_eq!(statuses(&peer.receive()), [200]);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_newcomer_that_sends_nothing_is_watched_and_answered_later() {
    let rig = Rig::new(app());
    let mut peers = Vec::new();
    for _ in 0..10 {
        peers.extend((0..5).map(|_| rig.connect()));
        rig.settle().await;
    }
    assert_eq!(rig.net.calls(Call::Watch), 50);
    let receives = rig.net.calls(Call::Receive);
    assert!((1..20).contains(&receives), "{receives} receives that found nothing");
    for peer in &mut peers {
        peer.send(get("/"));
    }
    rig.settle().await;
    for peer in &mut peers {
        assert_eq!(statuses(&peer.receive()), [200]);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_answer_that_its_peer_has_no_room_for_goes_on_when_there_is_room() {
    let rig = Rig::with(app(), Settings::default(), 1000, 1024);
    let mut peer = rig.connect();
    peer.send(get("/large"));
    let mut answer = String::new();
    for _ in 0..200 {
        rig.settle().await;
        answer += &peer.receive();
    }
    assert!(answer.len() > 100_000, "{}", answer.len());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_peer_that_leaves_while_its_first_answer_is_waited_for_is_noticed() {
    let rig = Rig::new(app());
    let mut peer = rig.connect();
    peer.send(get("/never"));
    rig.settle().await;
    assert_eq!(rig.counts().exchanges, 1);
    drop(peer);
    rig.settle().await;
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn one_accept_takes_one_connection_where_they_come_one_by_one_and_a_crowd_is_not_left_waiting() {
    let rig = Rig::new(app());
    rig.settle().await;
    for _ in 0..10 {
        let accepts = rig.net.calls(Call::Accept);
        assert_eq!(statuses(&rig.exchange(&get("/")).await), [200]);
        assert_eq!(rig.net.calls(Call::Accept), accepts + 1);
    }
    let mut crowd: Vec<_> = (0..200).map(|_| rig.connect()).collect();
    let accepts = rig.net.calls(Call::Accept);
    for peer in &mut crowd {
        peer.send(get("/"));
    }
    rig.settle().await;
    for peer in &mut crowd {
        assert_eq!(statuses(&peer.receive()), [200]);
    }
    let accepts = rig.net.calls(Call::Accept) - accepts;
    assert!(accepts < 10, "{accepts} accepts of one each would be as many turns");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn who_asks_for_the_end_is_never_watched_and_its_connection_is_closed_with_the_answer() {
    let rig = Rig::new(app());
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: Close\r\n\r\n",
    ] {
        let mut peer = rig.connect();
        peer.send(request);
        rig.settle().await;
        assert_eq!(statuses(&peer.receive()), [200]);
        assert!(peer.is_at_end() && !peer.0.is_reset());
        assert_eq!((rig.counts().slots, rig.net.calls(Call::Watch)), (0, 0), "{request}");
    }
    assert_eq!(rig.closed(CloseReason::Complete), 3);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn who_sends_on_after_its_last_request_can_read_the_answer_all_the_same() {
    let rig = Rig::with(app(), Settings::default(), 1000, 1024);
    let close = "Host: a\r\nConnection: close\r\n";
    for (request, more) in [
        (format!("GET / HTTP/1.1\r\n{close}\r\n"), get("/")),
        (format!("POST / HTTP/1.1\r\n{close}Content-Length: 2\r\n\r\nab"), "\r\n".to_owned()),
    ] {
        let mut peer = rig.connect();
        peer.send(request + &more);
        rig.settle().await;
        peer.send("more");
        rig.settle().await;
        assert_eq!(statuses(&peer.receive()).len(), 1);
        assert!(peer.is_at_end() && !peer.0.is_reset());
        drop(peer);
        rig.settle().await;
        rig.assert_empty();
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_peer_that_has_not_said_close_and_sends_on_can_read_its_last_answer() {
    fn stops(rig: &Rig) {
        rig.status.advance(Phase::Draining);
    }
    fn is_short_of_memory(rig: &Rig) {
        rig.status.set_memory_pressure(rig.status.memory_pressure().next(93, 100));
    }
    fn nothing(_: &Rig) {}
    let http_1_0 = "GET / HTTP/1.0\r\n\r\n".to_owned();
    for (happens, request) in
        [(stops as fn(&Rig), get("/")), (is_short_of_memory, get("/")), (nothing, http_1_0.clone()), (stops, http_1_0)]
    {
        let rig = Rig::new(app());
        let (mut peer, _other) = (rig.connect(), rig.connect());
        rig.settle().await;
        happens(&rig);
        peer.send(&request);
        rig.settle().await;
        peer.send(get("/"));
        rig.settle().await;
        let answer = peer.receive();
        assert!(statuses(&answer) == [200] && answer.contains("connection: close"), "{request}: {answer}");
        assert!(peer.is_at_end() && !peer.0.is_reset(), "{request}");
        drop((peer, _other));
        rig.settle().await;
        rig.assert_empty();
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_newcomer_that_cannot_be_watched_for_the_rest_of_its_answer_is_the_system_s_failure() {
    let rig = Rig::with(app(), Settings::default(), 1000, 1024);
    rig.net.set_faults(Faults::at_call(Call::Watch, 0, Fault::Error(12)));
    let mut peer = rig.connect();
    peer.send(get("/large"));
    rig.settle().await;
    assert!(peer.0.is_reset(), "its answer is not complete");
    assert_eq!((rig.closed(CloseReason::System), rig.closed(CloseReason::Reset)), (1, 0));
    assert_eq!(rig.counts().accept_failures, 1);
    assert_eq!(statuses(&rig.exchange(&get("/")).await), [200]);
    drop(peer);
    rig.settle().await;
    rig.assert_empty();
}
