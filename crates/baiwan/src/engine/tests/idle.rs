//! What an idle connection owns.

use std::sync::Arc;
use std::task::Poll;

use axum::Router;
use axum::routing::get as route_get;
use baiwan_driver::sim::SimNet;

use super::rig::{Peer, address, get};
use crate::engine::{Engine, receive_area};
use crate::reload::InForce;
use crate::settings::Settings;
use crate::status::{Phase, Status};

#[tokio::test(flavor = "local", start_paused = true)]
async fn promise_2_an_idle_connection_owns_its_slot_and_nothing_else() {
    let app = Router::new().route("/", route_get(|| async { "hello" })).route(
        "/later",
        route_get(|| async {
            tokio::task::yield_now().await;
            "later"
        }),
    );
    let net = SimNet::new(64 * 1024);
    let status = Status::new(1, 1000, u64::MAX);
    status.advance(Phase::Serving);
    let (in_force, bound) = (InForce::new(Arc::new(Settings::default())), vec![net.bind(address())]);
    let mut engine = Engine::new(net.driver(), app, &in_force, status, 0, bound).unwrap();
    let mut area = receive_area();
    let mut held_after_a_turn = async || {
        std::future::poll_fn(|cx| Poll::Ready(engine.turn(&mut area, cx).is_ready())).await;
        tokio::task::yield_now().await;
        (engine.table.len(), engine.table.busy_len())
    };
    let mut peer = Peer(net.connect(address()).unwrap());
    assert_eq!(held_after_a_turn().await, (1, 0), "before its first request");
    for path in ["/", "/later"] {
        let request = get(path);
        let (begin, end) = request.split_at(10);
        peer.send(begin);
        assert_eq!(held_after_a_turn().await, (1, 1), "half a head is kept");
        peer.send(end);
        let mut held = held_after_a_turn().await;
        assert_eq!(held, (1, usize::from(path == "/later")), "an answer that is not there is waited for");
        for _ in 0..4 {
            held = held_after_a_turn().await;
        }
        assert_eq!(held, (1, 0), "after its answer");
        assert!(peer.receive().ends_with(&path.replace("/later", "later").replace('/', "hello")));
    }
}
