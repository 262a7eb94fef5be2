//! A server in a task, and a program that is its own first client, as integration tests are written.

use std::io;

use axum::Router;
use axum::routing::{get, post};
use tokio::net::TcpListener;

use super::server;
use crate::stage::Stop;

pub(crate) async fn main(listener: TcpListener, stop: Stop) -> io::Result<()> {
    let app = Router::new()
        .route("/", get(|| async { "served in a task" }))
        .route("/double", post(|body: String| async move { body.repeat(2) }));
    let server = server::serve(listener, app);
    let address = server.local_addr()?;
    let serving = tokio::spawn(server.into_future());
    let client = reqwest::Client::new();
    let answer = client.post(format!("http://{address}/double")).body("twice ").send().await;
    let text = answer.map_err(io::Error::other)?.text().await.map_err(io::Error::other)?;
    if text != "twice twice " {
        return Err(io::Error::other(text));
    }
    stop.await;
    serving.abort();
    match serving.await {
        Err(error) if error.is_cancelled() => Ok(()),
        _ => Err(io::Error::other("the task was not cancelled")),
    }
}
