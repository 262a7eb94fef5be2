//! How much of a body is taken: axum's own limit, tower-http's, and none.

use std::io;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::DefaultBodyLimit;
use axum::routing::post;
use futures_util::StreamExt;
use tokio::net::TcpListener;
use tower_http::limit::RequestBodyLimitLayer;

use super::server;

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let count = |bytes: Bytes| async move { bytes.len().to_string() };
    let app = Router::new()
        .route("/default", post(count))
        .route("/ten", post(count).layer(DefaultBodyLimit::max(10)))
        .route("/off", post(count).layer(DefaultBodyLimit::disable()))
        .route("/streamed", post(streamed))
        .route("/layer", post(count).layer(RequestBodyLimitLayer::new(10)))
        .route("/layer/streamed", post(streamed).layer(RequestBodyLimitLayer::new(10)));
    server::serve(listener, app).await
}

async fn streamed(body: Body) -> String {
    let mut pieces = body.into_data_stream();
    let mut count = 0;
    while let Some(piece) = pieces.next().await {
        match piece {
            Ok(piece) => count += piece.len(),
            Err(error) => return error.to_string(),
        }
    }
    count.to_string()
}
