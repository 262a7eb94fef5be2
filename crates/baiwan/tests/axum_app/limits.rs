//! How long the heads of requests may be: limits that a program sets, far below and far above the defaults.
//!
//! No value has white space around it here, so that both event loops count the same bytes.

use std::net::TcpStream;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::Response;
use axum::routing::any;
use baiwan::{Builder, EventLoop};
use tokio::sync::Notify;

use crate::rig::{Client, Rig, eventually, server};

const START: &str = " HTTP/1.1\r\nHost:a\r\n";

/// Tells how long a target was, and how many fields came with it.
fn app(go: &Arc<Notify>) -> Router {
    let go = Arc::clone(go);
    let wait = async move || {
        go.notified().await;
        "waited"
    };
    let told = async |request: Request| format!("{} {}", request.uri().path().len(), request.headers().len());
    let switch = async |upgrade: WebSocketUpgrade| -> Response<Body> { upgrade.on_upgrade(async |_| {}) };
    Router::new().route("/wait", any(wait)).route("/switch", any(switch)).fallback(told)
}

fn small(event_loop: EventLoop) -> Builder {
    server(event_loop).head_limit(256).target_limit(10).fields_limit(3)
}

/// The greatest that there are, and numbers beyond them.
fn great(event_loop: EventLoop) -> Builder {
    server(event_loop).head_limit(64 * 1024).target_limit(usize::MAX).fields_limit(usize::MAX)
}

/// A head of this number of bytes, in one long field.
fn head_of(bytes: usize) -> String {
    let head = format!("GET /{START}A:\r\n\r\n");
    head.replace("A:", &format!("A:{}", "b".repeat(bytes - head.len())))
}

fn head_with_target_of(bytes: usize) -> String {
    format!("GET /{}{START}\r\n", "t".repeat(bytes - 1))
}

/// Host is one of them.
fn head_with_fields(fields: usize) -> String {
    format!("GET /{START}{}\r\n", "A:b\r\n".repeat(fields - 1))
}

/// What is said of a head, after which the connection goes on.
fn told(client: &mut Client<TcpStream>, head: &str) -> String {
    client.send(head);
    let answer = client.answer(false);
    assert_eq!((answer.status, answer.field("connection")), (200, None));
    answer.text().to_owned()
}

/// The status of a connection's last answer.
fn refused(rig: &Rig, head: &str) -> u16 {
    let mut client = rig.connect();
    client.send(head);
    let answer = client.answer(false);
    assert_eq!(answer.field("connection"), Some("close"));
    answer.status
}

pub(crate) fn small_limits_of_heads_hold_to_the_byte(event_loop: EventLoop) {
    let rig = Rig::start(small(event_loop), app(&Arc::default()));
    let mut client = rig.connect();
    assert_eq!(told(&mut client, &head_of(256)), "1 2");
    assert_eq!(told(&mut client, &head_with_target_of(10)), "10 1");
    assert_eq!(told(&mut client, &head_with_fields(3)), "1 3");
    // One head is limited, and not what comes at once.
    client.send(head_of(256).repeat(5));
    for _ in 0..5 {
        assert_eq!(client.answer(false).text(), "1 2");
    }
    drop(client);
    assert_eq!(refused(&rig, &head_of(257)), 431);
    assert_eq!(refused(&rig, &head_with_target_of(11)), 414);
    assert_eq!(refused(&rig, &head_with_fields(4)), 431);
    rig.stop();
}

pub(crate) fn great_limits_of_heads_hold_to_the_byte(event_loop: EventLoop) {
    let rig = Rig::start(great(event_loop), app(&Arc::default()));
    let mut client = rig.connect();
    for bytes in [16 * 1024, 16 * 1024 + 1, 40 * 1024, 64 * 1024 - 1, 64 * 1024] {
        assert_eq!(told(&mut client, &head_of(bytes)), "1 2", "{bytes}");
    }
    // What is left of a head that has such a target, and as long a method as this.
    let longest = 64 * 1024 - "GET ".len() - START.len() - "\r\n".len();
    for bytes in [8 * 1024 + 1, longest] {
        assert_eq!(told(&mut client, &head_with_target_of(bytes)), format!("{bytes} 1"));
    }
    assert_eq!(told(&mut client, &head_with_fields(101)), "1 101");
    assert_eq!(told(&mut client, &head_with_fields(255)), "1 255");
    drop(client);
    assert_eq!(refused(&rig, &head_of(64 * 1024 + 1)), 431);
    assert_eq!(refused(&rig, &head_with_target_of(longest + 1)), 431);
    assert_eq!(refused(&rig, &head_with_fields(256)), 431);
    rig.stop();
}

pub(crate) fn a_long_head_comes_in_pieces(event_loop: EventLoop) {
    let rig = Rig::start(great(event_loop), app(&Arc::default()));
    let (mut client, mut beside) = (rig.connect(), rig.connect());
    let head = head_of(40 * 1024);
    let whole = format!("{head}{}", head_of(64 * 1024));
    for piece_bytes in [999, 16 * 1024, 16 * 1024 + 1, 39 * 1024, 60 * 1024] {
        for piece in whole.as_bytes().chunks(piece_bytes) {
            client.send(piece);
            // The one core has read the piece when it answers this.
            assert_eq!(beside.get("/beside").status, 200);
        }
        for _ in 0..2 {
            assert_eq!(client.answer(false).text(), "1 2", "in pieces of {piece_bytes}");
        }
    }
    drop((client, beside));
    rig.stop();
}

pub(crate) fn long_heads_wait_behind_a_pending_answer(event_loop: EventLoop) {
    let go = Arc::new(Notify::new());
    let rig = Rig::start(great(event_loop), app(&go));
    let mut client = rig.connect();
    let wait = format!("GET /wait{START}\r\n");
    // The second is pending with a part of the next head behind it, however much of that was read.
    let mut sender = client.sender();
    let bytes = [wait.clone(), head_of(40 * 1024), wait, head_of(64 * 1024), head_of(300)].concat();
    let sending = std::thread::spawn(move || std::io::Write::write_all(&mut sender, bytes.as_bytes()).unwrap());
    for (requests, rest) in [(1, &["1 2"][..]), (3, &["1 2", "1 2"])] {
        eventually("a request is pending", || rig.health.counts().requests == requests);
        go.notify_one();
        assert_eq!(client.answer(false).text(), "waited");
        for &text in rest {
            assert_eq!(client.answer(false).text(), text);
        }
    }
    sending.join().unwrap();
    drop(client);
    rig.stop();
}

pub(crate) fn a_long_head_that_offers_another_protocol_is_taken_up(event_loop: EventLoop) {
    let rig = Rig::start(great(event_loop), app(&Arc::default()));
    let offer = "Connection:upgrade\r\nUpgrade:websocket\r\nSec-WebSocket-Version:13\r\n\
                 Sec-WebSocket-Key:dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for long in [format!("A:{}\r\n", "b".repeat(60 * 1024)), "A:b\r\n".repeat(250)] {
        let mut client = rig.connect();
        client.send(format!("GET /switch{START}{offer}{long}\r\n"));
        assert_eq!(client.head().status, 101);
        drop(client);
        // One that nobody takes up.
        let mut client = rig.connect();
        client.send(format!("GET /{START}{offer}{long}\r\n"));
        let answer = client.answer(false);
        assert!(["1 6", "1 255"].contains(&answer.text()), "{}", answer.text());
    }
    rig.stop();
}
