//! At the maximum of connections, of all or of one client: whom the server answers beyond it, and whom it turns away.

use std::num::NonZeroU32;
use std::time::Duration;

use axum::Router;
use axum::routing::get as route_get;

use super::rig::{Peer, Rig, get, statuses};
use crate::settings::Settings;
use crate::status::{CloseReason, Phase};

fn app() -> Router {
    Router::new()
        .route("/", route_get(|| async { "hello" }))
        .route("/health", route_get(|| async { "healthy" }))
        .route("/health/live", route_get(|| async { "live" }))
        .route(
            "/health/slow",
            route_get(|| async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                "slow"
            }),
        )
}

/// A server whose two places are taken.
async fn full() -> (Rig, [Peer; 2]) {
    let rig = Rig::with(app(), Settings::default(), 2, 1 << 20);
    let mut held = [rig.connect(), rig.connect()];
    for peer in &mut held {
        peer.send(get("/"));
        rig.settle().await;
        assert!(peer.receive().ends_with("hello"));
    }
    (rig, held)
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_110_health_is_answered_beyond_the_maximum_and_nothing_else() {
    let (rig, held) = full().await;
    for (path, status) in [
        ("/health", 200),
        ("/health/live", 200),
        ("/health/slow", 200),
        ("/health/missing", 404),
        ("/", 503),
        ("/healthy", 503),
    ] {
        let mut peer = rig.connect();
        peer.send(get(path));
        rig.pass(Duration::from_millis(200)).await;
        let answer = peer.receive();
        assert_eq!(statuses(&answer), [status], "{path}");
        assert!(answer.contains("connection: close") && peer.is_at_end(), "{path}: {answer}");
    }
    let mut peer = rig.connect();
    peer.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    rig.settle().await;
    let answer = peer.receive();
    assert!(statuses(&answer) == [503] && answer.ends_with("\r\n\r\n"), "{answer}");
    drop(peer);
    rig.settle().await;
    assert_eq!(rig.closed(CloseReason::OverLimit), 3);
    assert_eq!(rig.counts().connections, 2);
    drop(held);
    rig.settle().await;
    let answer = rig.exchange(&get("/")).await;
    assert!(answer.ends_with("hello") && !answer.contains("connection: close"), "places are counted right: {answer}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_110_sixteen_are_read_for_a_second_and_the_others_turned_away_at_once() {
    let (rig, _held) = full().await;
    let mut silent: Vec<_> = std::iter::repeat_with(|| rig.connect()).take(16).collect();
    // Half a head is not enough either.
    silent[0].send("GET /health/live HTTP/1.1\r\nHo");
    rig.settle().await;
    assert!(silent.iter_mut().all(|peer| peer.receive().is_empty()));
    let mut next = rig.connect();
    next.send(get("/health/live"));
    rig.settle().await;
    assert_eq!(statuses(&next.receive()), [503]);
    rig.pass(Duration::from_millis(1100)).await;
    for peer in &mut silent {
        let answer = peer.receive();
        assert!(answer.ends_with("503 Service Unavailable: too-many-connections\n"), "{answer}");
        assert!(peer.is_at_end());
    }
    // Their places are free for whoever asks next, once they have lingered.
    assert_eq!(rig.closed(CloseReason::OverLimit), 1);
    rig.pass(Duration::from_millis(1100)).await;
    assert_eq!(rig.closed(CloseReason::OverLimit), 17);
    let answer = rig.exchange(&get("/health/live")).await;
    assert!(answer.ends_with("live"), "{answer}");
}

/// A list of proxies of which none is here.
const NOBODY: &str = "203.0.113.1";

/// A server of which a client may hold `open` connections, and open `new` a second. Every peer has the same address.
fn sharing(open: u32, new: u32, proxies: &str, turned_away_max: usize) -> Rig {
    let settings = Settings {
        max_connections_per_ip: NonZeroU32::new(open),
        new_connections_per_ip: NonZeroU32::new(new),
        proxies: proxies.parse().unwrap(),
        turned_away_max,
        ..Settings::default()
    };
    Rig::with(app(), settings, 1000, 1 << 20)
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_45_a_client_beyond_its_share_is_told_so_and_others_are_reset() {
    let rig = sharing(2, 0, NOBODY, 6);
    let mut held = [rig.connect(), rig.connect()];
    for peer in &mut held {
        peer.send(get("/"));
        rig.settle().await;
        assert!(peer.receive().ends_with("hello"));
    }
    // Nothing is read of it, not even a request for the health.
    let mut told: Vec<_> = std::iter::repeat_with(|| rig.connect()).take(3).collect();
    told[0].send(get("/health/live"));
    rig.settle().await;
    let mut reset = rig.connect();
    rig.settle().await;
    for peer in &mut told {
        let answer = peer.receive();
        assert_eq!(statuses(&answer), [429]);
        assert!(answer.ends_with(": too-many-connections-per-client\n") && peer.is_at_end(), "{answer}");
        assert!(!peer.0.is_reset());
    }
    assert!(reset.0.is_reset() && reset.receive().is_empty());
    assert_eq!(rig.counts().connections, 2);
    drop((told, reset));
    rig.settle().await;
    assert_eq!(rig.closed(CloseReason::ClientOverLimit), 4);
    // A place that is left is one that can be taken, once.
    let [first, second] = held;
    drop(first);
    rig.settle().await;
    assert!(rig.exchange(&get("/")).await.ends_with("hello"));
    rig.settle().await;
    let third = rig.connect();
    rig.settle().await;
    assert_eq!(statuses(&rig.exchange(&get("/")).await), [429]);
    drop((second, third));
    rig.pass(Duration::from_secs(2)).await;
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_45_however_a_connection_ends_its_client_has_its_place_back() {
    let rig = sharing(1, 0, NOBODY, 64);
    for round in 0..8 {
        let mut peer = rig.connect();
        match round % 8 {
            0 => peer.send("GET / HTTP/1.1\r\n\r\n"),
            1 => peer.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
            2 => peer.send(get("/health/slow")),
            3 => peer.send("GET"),
            4 => {
                peer.send(get("/health/slow"));
                rig.settle().await;
                peer.0.reset();
                rig.settle().await;
                continue;
            }
            5 => peer.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: b\r\n\r\n"),
            _ => {}
        }
        rig.settle().await;
        assert_ne!(statuses(&peer.receive()), [429], "in round {round} there is a place");
        drop(peer);
        rig.pass(Duration::from_secs(2)).await;
    }
    // A stop, too, after which nobody is left.
    let _held = rig.connect();
    rig.settle().await;
    rig.status.advance(Phase::Stopping);
    rig.settle().await;
    rig.assert_empty_but_endpoints();
    assert_eq!(rig.status.bounds.clients.holders(), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_45_new_connections_have_a_rate() {
    let rig = sharing(0, 5, NOBODY, 64);
    for _ in 0..5 {
        assert!(rig.exchange(&get("/")).await.ends_with("hello"));
    }
    assert_eq!(statuses(&rig.exchange(&get("/")).await), [429]);
    rig.pass(Duration::from_millis(250)).await;
    assert!(rig.exchange(&get("/")).await.ends_with("hello"));
    assert_eq!(statuses(&rig.exchange(&get("/")).await), [429], "a fifth of a second for each");
}

/// A server that trusted proxies connect to, which say for whom. A client may hold two connections, and three are told that it has them.
fn behind_proxy() -> Rig {
    let settings = Settings {
        max_connections_per_ip: NonZeroU32::new(2),
        proxies: "127.0.0.0/8".parse().unwrap(),
        proxy_protocol: true,
        turned_away_max: 6,
        ..Settings::default()
    };
    Rig::with(app(), settings, 1000, 1 << 20)
}

/// A connection of a proxy for this client, which asks at once.
async fn connect_for(rig: &Rig, client: &str) -> Peer {
    let mut peer = rig.connect();
    peer.send(format!("PROXY TCP4 {client} 198.51.100.1 56324 80\r\n{}", get("/")));
    rig.settle().await;
    peer
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_45_a_client_behind_the_proxy_protocol_has_its_share_and_its_proxy_has_none() {
    let rig = behind_proxy();
    let mut held = vec![];
    for client in ["192.0.2.1", "192.0.2.1", "192.0.2.2", "127.0.0.9", "127.0.0.9", "127.0.0.9"] {
        let mut peer = connect_for(&rig, client).await;
        assert!(peer.receive().ends_with("hello"), "{client}");
        held.push(peer);
    }
    // A proxy that has not said for whom it comes, and one that speaks for itself.
    let mut unnamed: Vec<_> = std::iter::repeat_with(|| rig.connect()).take(3).collect();
    for peer in &mut unnamed {
        peer.send(format!("PROXY UNKNOWN\r\n{}", get("/")));
        rig.settle().await;
        assert!(peer.receive().ends_with("hello"));
    }
    let mut told = Vec::new();
    for _ in 0..3 {
        let mut peer = connect_for(&rig, "192.0.2.1").await;
        let answer = peer.receive();
        assert_eq!(statuses(&answer), [429]);
        assert!(answer.ends_with(": too-many-connections-per-client\n") && peer.is_at_end(), "{answer}");
        told.push(peer);
    }
    let mut reset = connect_for(&rig, "192.0.2.1").await;
    assert!(reset.0.is_reset() && reset.receive().is_empty());
    assert_eq!(rig.counts().connections, 9);
    drop((told, reset));
    rig.settle().await;
    assert_eq!(rig.closed(CloseReason::ClientOverLimit), 4);
    // A place that is left is one that can be taken, once.
    drop(held.remove(0));
    rig.settle().await;
    let mut third = connect_for(&rig, "192.0.2.1").await;
    assert!(third.receive().ends_with("hello"));
    assert_eq!(statuses(&connect_for(&rig, "192.0.2.1").await.receive()), [429]);
    drop((held, unnamed, third));
    rig.pass(Duration::from_secs(2)).await;
    rig.assert_empty();
    assert_eq!(rig.status.bounds.clients.holders(), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_45_however_a_connection_behind_a_proxy_ends_its_client_has_its_place_back() {
    let rig = behind_proxy();
    for round in 0..12 {
        let mut peer = rig.connect();
        let header = "PROXY TCP4 192.0.2.1 198.51.100.1 56324 80\r\n";
        match round % 6 {
            0 => peer.send(format!("{header}GET / HTTP/1.1\r\n\r\n")),
            1 => peer.send(format!("{header}GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: b\r\n\r\n")),
            2 => peer.send(format!("{header}{}", get("/health/slow"))),
            3 => peer.send(&header[..9]),
            4 => peer.send(format!("{header}GET")),
            _ => {
                peer.send(header);
                rig.settle().await;
                peer.0.reset();
                rig.settle().await;
                continue;
            }
        }
        rig.settle().await;
        assert_ne!(statuses(&peer.receive()), [429], "in round {round} there is a place");
        drop(peer);
        rig.pass(Duration::from_secs(2)).await;
    }
    rig.assert_empty();
    assert_eq!(rig.status.bounds.clients.holders(), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_45_a_trusted_proxy_speaks_for_many() {
    let rig = sharing(1, 1, "127.0.0.0/8", 64);
    let mut peers: Vec<_> = std::iter::repeat_with(|| rig.connect()).take(20).collect();
    for peer in &mut peers {
        peer.send(get("/"));
        rig.settle().await;
        assert!(peer.receive().ends_with("hello"));
    }
    drop(peers);
    rig.settle().await;
    rig.assert_empty();
}
