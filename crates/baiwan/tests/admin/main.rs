//! The admin side of an app of one's own, over real sockets.
//!
//! | file | part |
//! |---|---|
//! | `blocked` | handlers that block every core, and how long that counts as alive |
//! | `access` | who may see what, as it comes over the wire |
//! | `checks` | checks that fail, hang, block and panic |
//! | `dashboard` | the page, and the numbers that it shows |
//! | `crowd` | more connections than it has |
//! | `life` | ports in use, the stop, and the end |
//!
//! Server and client are those of the tests in `axum_app`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod access;
mod blocked;
mod checks;
mod crowd;
mod dashboard;
mod life;
#[path = "../axum_app/rig.rs"]
#[allow(dead_code, reason = "it is shared, and not all of it is needed here")]
mod rig;

use std::net::TcpStream;

use baiwan::Admin;

use self::rig::{Answer, Client, Rig};

/// An admin side on a free port.
fn admin() -> Admin {
    Admin::bind("127.0.0.1:0")
}

/// A new connection to the admin side.
fn connect(rig: &Rig) -> Client<TcpStream> {
    Client::connect(&rig.running.admin_address().unwrap().to_string())
}

/// Asks on a new connection; each of `fields` ends with `\r\n`.
fn ask(rig: &Rig, method: &str, path: &str, fields: &str, body: &str) -> Answer {
    let mut client = connect(rig);
    let length = body.len();
    client.send(format!("{method} {path} HTTP/1.1\r\n{fields}Content-Length: {length}\r\n\r\n{body}"));
    client.answer(method == "HEAD")
}

/// Asks as `curl` on the same machine does.
fn get(rig: &Rig, path: &str) -> Answer {
    ask(rig, "GET", path, "Host: localhost\r\n", "")
}

/// The JSON that an answer holds.
fn json(answer: &Answer) -> serde_json::Value {
    serde_json::from_slice(&answer.body).unwrap()
}
