//! A listener of the standard library, as one gets from a supervisor or from `socket2`.

use std::io;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;

use super::server;

pub(crate) async fn main(listener: std::net::TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let app = Router::new().route("/", get(|| async { "inherited" }));
    server::serve(TcpListener::from_std(listener)?, app).await
}
