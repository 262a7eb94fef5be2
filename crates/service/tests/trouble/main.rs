//! The service and its store in trouble: locks, full disks, damage, servers that stand still, end, are far away or not there.
//!
//! What must hold in all of it: an answer comes in time, nothing is acknowledged that was not stored, what can be served is
//! served, and when the trouble is over nobody has to restart anything. The tests run one at a time ([`alone`]): what they look at
//! is another process's time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod connections;
mod disks;
mod files;
mod network;
mod others;
mod outages;
mod pooler;
#[path = "../stores/postgres.rs"]
#[allow(dead_code, reason = "other tests need other parts of it")]
mod postgres;
mod proxy;
#[path = "../process/running.rs"]
#[allow(dead_code, reason = "other tests need other parts of it")]
mod running;

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;

use postgres::Database;
use running::{Answer, Running, command};

/// A request is answered within this, whatever the store does. Its store gives up after 1.5 s; half a second more is for
/// everything else on a machine that does nothing but this test, where it takes a few milliseconds.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Held by a test for as long as it wants the machine for itself.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    // A test that failed has left nothing behind.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `baiwan serve` with its users in that database: two cores, each with four connections for changes and four for reads.
fn command_with(database: &Database, directory: &Path) -> Command {
    let mut command = command(directory);
    command.env("DATABASE_URL", &database.url).env("WORKERS", "2").env("DATABASE_CONNECTIONS", "16");
    command
}

/// Asks on a new connection, and demands that the answer comes in time.
fn ask(service: &Running, method: &str, path: &str, body: &str) -> Answer {
    let mut client = service.connect();
    #[expect(clippy::disallowed_methods, reason = "what is measured is another process's time")]
    let begin = std::time::Instant::now();
    let answer = client.ask(method, path, body).unwrap();
    let took = begin.elapsed();
    assert!(took < ANSWER_MAX, "{method} {path} was answered after {took:?}: {answer:?}");
    answer
}

fn get(service: &Running, path: &str) -> u16 {
    ask(service, "GET", path, "").status
}

fn create(service: &Running, name: &str) -> Answer {
    ask(service, "POST", "/api/users", &json!({"name": name}).to_string())
}

/// Checks that an answer says that the store is not there, and when to come again.
fn assert_unavailable(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.head.contains("\r\nretry-after: 1\r\n"), "{}", answer.head);
    assert!(answer.head.contains("\r\ncontent-type: application/problem+json\r\n"), "{}", answer.head);
    let body = String::from_utf8_lossy(&answer.body).to_lowercase();
    let inside = ["sql", "postgres", "127.0.0.1", "connection", "space left", "malformed"];
    assert!(!inside.iter().any(|word| body.contains(word)), "it says what is wrong inside: {body}");
}

/// What needs no store is served.
fn assert_the_rest_is_served(service: &Running) {
    for path in ["/", "/health/live", "/docs", "/openapi.json"] {
        assert_eq!(get(service, path), 200, "{path}");
    }
    assert_eq!(ask(service, "POST", "/echo", "hello").body, b"Echo: hello");
}
