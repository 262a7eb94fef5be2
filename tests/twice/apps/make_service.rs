//! A router as a maker of services.

use std::io;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;

use super::server;
use crate::stage::Stop;

pub(crate) async fn main(listener: TcpListener, stop: Stop) -> io::Result<()> {
    let app = Router::new().route("/", get(|| async { "made" }));
    server::serve(listener, app.into_make_service()).with_graceful_shutdown(stop).await
}
