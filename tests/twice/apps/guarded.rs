//! Requests that are validated by layers, secrets that are marked, and fields that every answer gets.

use std::io;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use axum::routing::get;
use std::iter::once;
use tokio::net::TcpListener;
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::validate_request::ValidateRequestHeaderLayer;

use super::server;

#[allow(clippy::result_large_err, reason = "the layer's own signature")]
pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let key = |request: &mut Request<Body>| match request.headers().get("x-api-key") {
        Some(value) if value == "the key" => Ok(()),
        _ => Err(Response::builder().status(StatusCode::FORBIDDEN).body(Body::from("no key")).unwrap()),
    };
    let app = Router::new()
        .route("/key", get(|| async { "opened" }).layer(ValidateRequestHeaderLayer::custom(key)))
        .route("/json", get(|| async { "json" }).layer(ValidateRequestHeaderLayer::accept("application/json")))
        .route(
            "/marked",
            get(|request: Request<Body>| async move { format!("{:?}", request.headers().get("authorization")) }),
        )
        .layer(SetSensitiveRequestHeadersLayer::new(once(header::AUTHORIZATION)))
        .layer(SetResponseHeaderLayer::if_not_present(header::SERVER, HeaderValue::from_static("mine")))
        .layer(SetResponseHeaderLayer::overriding(
            HeaderName::from_static("x-frame-options"),
            HeaderValue::from_static("DENY"),
        ));
    server::serve(listener, app).await
}
