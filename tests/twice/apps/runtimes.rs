//! Handlers that ask where they run, and tasks that outlive the request.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::{get, post};
use futures_util::StreamExt;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::server;
use crate::stage::Stop;

/// How what goes on beyond its request has ended.
type Ended = watch::Sender<Option<&'static str>>;

pub(crate) async fn main(listener: TcpListener, stop: Stop) -> io::Result<()> {
    let app = Router::new()
        .route("/flavor", get(|| async { format!("{:?}", Handle::current().runtime_flavor()) }))
        .route("/spawned", get(|| async { tokio::spawn(async { "spawned" }).await.unwrap_or("failed") }))
        .route("/blocking", get(|| async { tokio::task::spawn_blocking(|| "blocking").await.unwrap_or("failed") }))
        .route("/in-place", get(|| async { tokio::task::block_in_place(|| "in place") }))
        .route("/local", get(local))
        .route("/read-on", post(read_on))
        .route("/undo", post(undo))
        .route("/ended", get(ended))
        .with_state(watch::channel(None).0);
    server::serve(listener, app).with_graceful_shutdown(stop).await
}

/// Several futures of one request, which yield to each other.
async fn local() -> String {
    let yielding = |text: &'static str| async move {
        tokio::task::yield_now().await;
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        text
    };
    let (one, other) = tokio::join!(yielding("one"), yielding("other"));
    format!("{one} {other}")
}

/// Reads the first piece, answers, and leaves the rest to a task.
async fn read_on(State(ended): State<Ended>, body: Body) -> &'static str {
    let mut pieces = body.into_data_stream();
    let _ = pieces.next().await;
    tokio::spawn(async move {
        let outcome = loop {
            match pieces.next().await {
                Some(Ok(_)) => {}
                Some(Err(_)) => break "an error",
                None => break "the end of the body",
            }
        };
        ended.send_replace(Some(outcome));
    });
    "reading on"
}

/// Says that it was dropped before it was done.
struct Undoing(Ended);

impl Drop for Undoing {
    fn drop(&mut self) {
        self.0.send_if_modified(|outcome| outcome.is_none() && outcome.replace("dropped").is_none());
    }
}

/// Reads until its client leaves, and then takes its time.
async fn undo(State(ended): State<Ended>, body: Body) {
    let undoing = Undoing(ended);
    let mut pieces = body.into_data_stream();
    while let Some(Ok(_)) = pieces.next().await {}
    tokio::time::sleep(Duration::from_secs(7)).await;
    undoing.0.send_replace(Some("done"));
}

async fn ended(State(ended): State<Ended>) -> &'static str {
    let mut ended = ended.subscribe();
    let outcome = ended.wait_for(Option::is_some).await;
    outcome.ok().and_then(|outcome| *outcome).unwrap_or("no task")
}
