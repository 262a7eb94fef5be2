//! Connections that one client hoards, and connections that grow old: on both event loops.

use std::net::Ipv4Addr;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use baiwan::{CloseReason, EventLoop};

use crate::peer::{End, Peer};
use crate::rig::{Client, Rig, eventually, server};

const LOOPS: [EventLoop; 2] = [EventLoop::Epoll, EventLoop::Portable];

fn app() -> Router {
    Router::new().route("/", get(|| async { "hello" }))
}

#[test]
fn row_45_one_address_has_its_share_and_takes_nobody_elses() {
    const SHARE: usize = 5;
    for event_loop in LOOPS {
        let builder = server(event_loop).workers(2).max_connections_per_ip(Some(SHARE as u32));
        let rig = Rig::start(builder, app());
        let mut held: Vec<_> = (0..SHARE).map(|_| rig.connect()).collect();
        for client in &mut held {
            assert_eq!(client.get("/").text(), "hello");
        }
        for _ in 0..50 {
            let (answer, end) = Peer::connect(&rig.address()).receive_all();
            assert!(
                answer.starts_with("HTTP/1.1 429 ") && answer.ends_with(": too-many-connections-per-client\n"),
                "{answer}"
            );
            assert_eq!(end, End::Orderly);
        }
        let mut other = Peer::connect_from(Ipv4Addr::new(127, 0, 0, 2), &rig.address());
        other.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        assert!(other.receive_all().0.ends_with("hello"));
        // However often its connections end, it has its share and no more, on whichever core they are.
        for round in 0..20 {
            held.clear();
            eventually("all have left", || rig.health.connections() == 0);
            held = (0..SHARE).map(|_| rig.connect()).collect();
            for client in &mut held {
                assert_eq!(client.get("/").text(), "hello", "in round {round}");
            }
            assert_eq!(rig.connect().head().status, 429, "in round {round}");
        }
        assert_eq!(rig.health.counts().closed_by(CloseReason::OverLimit), 0);
        drop(held);
        rig.stop();
    }
}

#[test]
fn row_45_a_flood_from_one_address_is_reset_and_the_others_are_served() {
    const FLOOD: usize = 1000;
    for event_loop in LOOPS {
        let builder =
            server(event_loop).workers(2).max_connections_per_ip(Some(10)).new_connections_per_ip(Some(10_000));
        let rig = Rig::start(builder, app());
        // The reset may be there before `connect` has returned, which then says so.
        let flood: Vec<_> = (0..FLOOD).map(|_| Peer::try_connect(&rig.address())).collect();
        let mut other = Peer::connect_from(Ipv4Addr::new(127, 0, 0, 2), &rig.address());
        other.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        assert!(other.receive_all().0.ends_with("hello"));
        let refused = || rig.health.counts().closed_by(CloseReason::ClientOverLimit);
        eventually("the others were refused", || refused() == (FLOOD - 10) as u64);
        drop(flood);
        eventually("all have left", || rig.health.connections() == 0);
        rig.stop();
    }
}

#[test]
fn row_44_connections_that_are_hoarded_end_at_their_age() {
    const HOARD: usize = 200;
    for event_loop in LOOPS {
        let age = Some(Duration::from_secs(2));
        let builder =
            server(event_loop).workers(2).max_connection_age(age).keep_alive_timeout(None).header_timeout(None);
        let rig = Rig::start(builder, app());
        let mut hoard: Vec<Client<_>> = (0..HOARD).map(|_| rig.connect()).collect();
        eventually("all are there", || rig.health.counts().accepted == HOARD as u64);
        for client in &mut hoard {
            client.expect_end();
        }
        drop(hoard);
        eventually("all have left", || rig.health.counts().closed_by(CloseReason::Age) == HOARD as u64);
        // Who asks is answered, and told; hyper may have closed between two requests.
        if event_loop == EventLoop::Portable {
            rig.stop();
            continue;
        }
        let mut client = rig.connect();
        loop {
            let answer = client.get("/");
            assert_eq!(answer.text(), "hello");
            if answer.field("connection") == Some("close") {
                break client.expect_end();
            }
        }
        drop(client);
        rig.stop();
    }
}
