//! More connections than the admin side has.

use axum::Router;
use baiwan::EventLoop;

use crate::rig::{Rig, server};
use crate::{admin, connect, get};

#[test]
fn slow_connections_do_not_lock_out_a_probe() {
    let rig = Rig::start(server(EventLoop::Auto).admin(admin()), Router::new());
    let mut held = Vec::new();
    for number in 0..200 {
        let mut client = connect(&rig);
        // Silent, in the middle of a head, or idle after an answer.
        match number % 3 {
            0 => {}
            1 => client.send("GET /health/live HTTP/1.1\r\nHost: localhost\r\nX: "),
            _ => assert_eq!(client.get("/health/live").status, 200),
        }
        held.push(client);
        assert_eq!(get(&rig, "/health/live").status, 200, "with {number}");
    }
    // The first of them had to go, and the last is there.
    held[0].expect_end();
    let mut last = connect(&rig);
    assert_eq!(last.get("/health/live").status, 200);
    assert_eq!(last.get("/health/live").status, 200);
}

#[test]
fn a_head_that_is_too_long_costs_its_connection_only() {
    let rig = Rig::start(server(EventLoop::Auto).admin(admin()), Router::new());
    let mut client = connect(&rig);
    let mut other = connect(&rig);
    assert_eq!(other.get("/health/live").status, 200);
    client.send(format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(64 * 1024)));
    assert_eq!(client.answer(false).status, 431);
    assert_eq!(other.get("/health/live").status, 200);
}
