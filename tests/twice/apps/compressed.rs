//! Answers that are compressed for those who ask, and requests that come compressed.

use std::io;

use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_http::compression::CompressionLayer;
use tower_http::decompression::RequestDecompressionLayer;

use super::server;

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let layers = ServiceBuilder::new().layer(RequestDecompressionLayer::new()).layer(CompressionLayer::new());
    let app = Router::new()
        .route("/", post(|Json(value): Json<Value>| async move { Json(json!({ "data": value })) }))
        .route("/long", get(|| async { "compress me ".repeat(500) }))
        .route("/short", get(|| async { "short" }))
        .layer(layers);
    server::serve(listener, app).await
}
