//! The app that every server serves, and how a server tells the bench where it listens.
//!
//! Nothing here knows which server runs it. Allocator, profile and dependencies are the same for all, because all are
//! binaries of this package.

use std::convert::Infallible;
use std::fmt::Display;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::response::sse::Event;
use axum::response::{Response, Sse};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use serde::Serialize;

const SLEEP: Duration = Duration::from_millis(1);

/// How many handlers of `/pending` have begun; none of them ends.
type Held = Arc<AtomicU64>;

#[derive(Serialize)]
struct Message {
    message: &'static str,
    number: u32,
}

/// The app: a route for each kind of row.
pub fn app() -> Router {
    Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/json", get(|| async { Json(Message { message: "hello", number: 42 }) }))
        .route("/echo", post(|body: Bytes| async { body }))
        .route("/sleep", get(sleep))
        .route("/pending", get(pending))
        .route("/held", get(held))
        .route("/sse", get(events))
        .route("/ws", get(web_socket))
        .with_state(Held::default())
}

async fn sleep() -> &'static str {
    tokio::time::sleep(SLEEP).await;
    "slept"
}

async fn pending(State(held): State<Held>) -> &'static str {
    held.fetch_add(1, Ordering::Relaxed);
    std::future::pending().await
}

async fn held(State(held): State<Held>) -> String {
    held.load(Ordering::Relaxed).to_string()
}

/// One event, then silence.
async fn events() -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    Sse::new(stream::once(async { Ok(Event::default().data("hello")) }).chain(stream::pending()))
}

async fn web_socket(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(echo)
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}

/// Writes the address as the first line of standard output, and ties the process to its parent: a server that outlives the
/// bench would disturb whatever is measured next.
///
/// # Errors
/// When the bench is not there to read.
pub fn announce(address: impl Display) -> std::io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    say(address)
}

/// Writes a line to standard output, where the bench reads it.
///
/// # Errors
/// When the bench is not there to read.
pub fn say(line: impl Display) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}
