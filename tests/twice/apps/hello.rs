//! The smallest program: a router with one route, on a listener.

use std::io;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;

use super::server;

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let app = Router::new().route("/", get(|| async { "Hello, World!" }));
    server::serve(listener, app).await
}
