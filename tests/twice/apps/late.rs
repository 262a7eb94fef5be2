//! Timeouts of layers: around a handler that never answers.

use std::future::pending;
use std::io;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tower_http::timeout::TimeoutLayer;

use super::server;

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let layer = |status| TimeoutLayer::with_status_code(status, Duration::from_millis(50));
    let app = Router::new()
        .route("/never", get(pending::<()>).layer(layer(StatusCode::REQUEST_TIMEOUT)))
        .route("/gateway", get(pending::<()>).layer(layer(StatusCode::GATEWAY_TIMEOUT)))
        .route(
            "/soon",
            get(|| async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                "in time"
            }),
        );
    server::serve(listener, app).await
}
