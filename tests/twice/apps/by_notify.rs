//! An orderly stop that a route asks for, with a handler that still waits for its body.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::server;

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let stop = Arc::new(Notify::new());
    let asked = Arc::clone(&stop);
    let app = Router::new()
        .route("/", get(|| async { "up" }))
        .route("/slow", post(|body: String| async move { format!("finished all the same: {body}") }))
        .route(
            "/stop",
            post(move || async move {
                asked.notify_one();
                "stopping"
            }),
        );
    server::serve(listener, app).with_graceful_shutdown(async move { stop.notified().await }).await
}
