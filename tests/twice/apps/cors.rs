//! Cross-origin requests: preflights and the fields of answers.

use std::io;

use axum::http::{HeaderValue, Method};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tower_http::cors::{Any, CorsLayer};

use super::server;

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let strict = CorsLayer::new()
        .allow_origin("http://localhost:3000".parse::<HeaderValue>().unwrap())
        .allow_methods([Method::GET, Method::DELETE])
        .allow_credentials(true);
    let open = CorsLayer::new().allow_origin(Any).allow_methods(Any).allow_headers(Any);
    let app = Router::new()
        .route("/json", get(|| async { Json(["one", "two"]) }).layer(strict))
        .route("/open", get(|| async { "open" }).layer(open));
    server::serve(listener, app).await
}
