//! A server on a network in memory, and peers that talk to it.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use baiwan_driver::sim::{SimNet, SimPeer};

use crate::app::App;
use crate::engine::Engine;
use crate::reload::{InForce, Remake};
use crate::settings::Settings;
use crate::status::{CloseReason, Counts, Health, Phase, Status};

pub(super) struct Rig {
    net: SimNet,
    pub(super) status: Arc<Status>,
    pub(super) health: Health,
    pub(super) in_force: Arc<InForce>,
    pub(super) engine: tokio::task::JoinHandle<std::io::Result<()>>,
}

pub(super) fn address() -> SocketAddr {
    "127.0.0.1:80".parse().unwrap()
}

impl Rig {
    pub(super) fn new(app: Router) -> Self {
        Self::with(app, Settings::default(), 1000, 64 * 1024)
    }

    pub(super) fn with_settings(app: Router, settings: Settings) -> Self {
        Self::with(app, settings, 1000, 64 * 1024)
    }

    pub(super) fn serving(app: impl App) -> Self {
        Self::with(app, Settings::default(), 1000, 64 * 1024)
    }

    pub(super) fn with(app: impl App, settings: Settings, connections_max: u64, inbox_bytes_max: usize) -> Self {
        Self::start(app, None, settings, connections_max, inbox_bytes_max)
    }

    /// One whose app can be made anew.
    pub(super) fn remaking<A: App>(make: impl Fn() -> A + 'static, settings: Settings) -> Self {
        Self::start(make(), Some(Box::new(make)), settings, 1000, 64 * 1024)
    }

    fn start<A: App>(
        app: A,
        remake: Option<Remake<A>>,
        settings: Settings,
        connections_max: u64,
        inbox_bytes_max: usize,
    ) -> Self {
        let net = SimNet::new(inbox_bytes_max);
        let status = Status::with(settings.bounds(), 1, connections_max, u64::MAX);
        let bound = vec![net.bind(address())];
        let in_force = InForce::new(Arc::new(settings.in_force()));
        let engine = Engine::new(net.driver(), app, &in_force, Arc::clone(&status), 0, bound).unwrap();
        let engine = tokio::task::spawn_local(engine.remaking(remake).run());
        status.advance(Phase::Serving);
        let health = Health(Arc::new(OnceLock::new()));
        health.0.set(Arc::clone(&status)).unwrap();
        Self { net, status, health, in_force, engine }
    }

    pub(super) fn connect(&self) -> Peer {
        Peer(self.net.connect(address()).unwrap())
    }

    /// Changes the settings while the server runs, and lets its core take them.
    pub(super) async fn reload(&self, remakes_apps: bool, change: impl FnOnce(&mut Settings)) {
        let changed = self.in_force.change(remakes_apps, |before| {
            let mut new = before.clone();
            change(&mut new);
            Ok::<_, ()>((before.changed_to(&new), ()))
        });
        changed.unwrap();
        self.status.wake_cores();
        self.settle().await;
    }

    /// Lets everything run that can run without time passing.
    pub(super) async fn settle(&self) {
        for _ in 0..64 {
            tokio::task::yield_now().await;
        }
    }

    /// Lets so much time pass, step by step, so that every deadline comes at its own moment.
    pub(super) async fn pass(&self, time: Duration) {
        let step = Duration::from_millis(50);
        let mut left = time;
        while !left.is_zero() {
            let now = step.min(left);
            tokio::time::advance(now).await;
            self.settle().await;
            left -= now;
        }
    }

    /// Sends a request on a connection of its own; returns all that comes back.
    pub(super) async fn exchange(&self, request: &str) -> String {
        let mut peer = self.connect();
        peer.send(request);
        self.settle().await;
        peer.receive()
    }

    pub(super) fn counts(&self) -> Counts {
        self.health.counts()
    }

    pub(super) fn closed(&self, reason: CloseReason) -> u64 {
        self.counts().closed_by(reason)
    }

    /// As below, and every peer has left too.
    pub(super) fn assert_empty(&self) {
        self.assert_empty_but_endpoints();
        assert_eq!(self.net.endpoints(), 0);
    }

    /// Nothing is left in the server: no connection, no task, no slot, no deadline; and every connection had one reason.
    pub(super) fn assert_empty_but_endpoints(&self) {
        let counts = self.counts();
        assert_eq!(counts.connections, 0, "{counts:?}");
        assert_eq!((counts.slots, counts.exchanges, counts.deadlines), (0, 0, 0), "{counts:?}");
        assert_eq!(counts.closed.iter().map(|(_, count)| count).sum::<u64>(), counts.accepted);
    }
}

pub(super) struct Peer(pub(super) SimPeer);

impl Peer {
    /// Sends all of it; the server must have room.
    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        assert_eq!(self.0.send(bytes).unwrap(), bytes.len(), "the server has room");
    }

    pub(super) fn receive(&mut self) -> String {
        String::from_utf8(self.0.receive()).unwrap()
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.0.is_at_end()
    }
}

/// The status codes of the answers in `text`, in order.
pub(super) fn statuses(text: &str) -> Vec<u16> {
    text.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().unwrap()).collect()
}

/// A GET of a path.
pub(super) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}
