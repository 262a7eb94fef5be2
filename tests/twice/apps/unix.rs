//! A Unix socket instead of a port.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::{get, post};
use tokio::net::UnixListener;

use super::server;
use crate::stage::Stop;

pub(crate) async fn main(listener: UnixListener, stop: Stop) -> io::Result<()> {
    let app = Router::new()
        .route("/", get(|| async { "over a file" }))
        .route("/peer", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.to_string() }))
        .route("/echo", post(|body: String| async move { body }));
    server::serve(listener, app).with_graceful_shutdown(stop).await
}
