//! A router of methods alone, for every path.

use std::io;

use axum::routing::get;
use tokio::net::TcpListener;

use super::server;

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let app = get(|| async { "for every path" }).post(|body: String| async move { format!("posted {body}") });
    server::serve(listener, app).await
}
