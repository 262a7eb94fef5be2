//! A core that waits for its driver directly, because requests come one soon after the other.

use std::sync::Arc;
use std::task::Poll;

use axum::Router;
use axum::routing::get as route_get;
use baiwan_driver::sim::{Call, SimDriver, SimNet};

use super::rig::{Peer, address, get, statuses};
use crate::engine::{Engine, receive_area};
use crate::reload::InForce;
use crate::settings::Settings;
use crate::status::{Phase, Status};

/// A core whose turns are taken by hand: no task is alive beside it, so it may wait directly.
struct Core {
    net: SimNet,
    engine: Engine<SimDriver, Router>,
    area: Vec<u8>,
}

impl Core {
    fn new(settings: Settings) -> Self {
        let net = SimNet::new(64 * 1024);
        let status = Status::with(settings.bounds(), 1, 1000, u64::MAX);
        status.advance(Phase::Serving);
        let in_force = InForce::new(Arc::new(settings.in_force()));
        let app = Router::new().route("/", route_get(|| async { "hello" }));
        let engine = Engine::new(net.driver(), app, &in_force, status, 0, vec![net.bind(address())]).unwrap();
        net.let_wait_directly();
        Self { net, engine, area: receive_area() }
    }

    /// Takes a turn, and those that follow direct waits.
    async fn turn(&mut self) {
        std::future::poll_fn(|cx| Poll::Ready(self.engine.turn(&mut self.area, cx).is_ready())).await;
    }

    /// Has it answer so many requests, one after the other, without time passing.
    async fn answer(&mut self, requests: usize) {
        let mut peer = Peer(self.net.connect(address()).unwrap());
        for _ in 0..requests {
            peer.send(get("/"));
            self.turn().await;
            assert_eq!(statuses(&peer.receive()), [200]);
        }
    }

    fn connect(&self) -> Peer {
        let mut peer = Peer(self.net.connect(address()).unwrap());
        peer.send(get("/"));
        peer
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_crowd_is_not_left_waiting_where_the_core_waits_directly() {
    let mut core = Core::new(Settings::default());
    core.answer(100).await;
    let accepts = core.net.calls(Call::Accept);
    let mut crowd: Vec<_> = (0..200).map(|_| core.connect()).collect();
    for _ in 0..4 {
        core.turn().await;
    }
    for peer in &mut crowd {
        assert_eq!(statuses(&peer.receive()), [200]);
    }
    let accepts = core.net.calls(Call::Accept) - accepts;
    assert!((8..20).contains(&accepts), "{accepts} accepts, of one each while it waits directly and no crowd shows");
    let accepts = core.net.calls(Call::Accept);
    for _ in 0..90 {
        let mut peer = core.connect();
        core.turn().await;
        assert_eq!(statuses(&peer.receive()), [200]);
    }
    let accepts = core.net.calls(Call::Accept) - accepts;
    assert!((90..105).contains(&accepts), "{accepts} accepts of 90 connections that came one by one");
}

#[cfg(feature = "metrics")]
#[tokio::test(flavor = "local", start_paused = true)]
async fn each_turn_is_counted_once_where_the_core_waits_directly() {
    let metrics = crate::metrics::Metrics::default();
    let mut core = Core::new(Settings { metrics: Some(metrics.clone()), ..Settings::default() });
    core.answer(100).await;
    assert_eq!(metrics.snapshot().cores[0].turns.count(), 100);
}
