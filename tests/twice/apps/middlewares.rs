//! Middleware made of functions: with state, that read and replace bodies, that answer themselves, in their order.

use std::io;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;

use super::server;

#[derive(Clone)]
struct Prefix(&'static str);

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let app = Router::new()
        .route("/", post(|body: Bytes| async move { body }))
        .route("/hidden", get(|| async { "secret" }))
        .route_layer(middleware::from_fn(guard))
        .layer(middleware::from_fn_with_state(Prefix("seen: "), rewrite_body))
        .layer(middleware::map_response(|mut response: Response| async move {
            response.headers_mut().append("x-order", "outer".parse().unwrap());
            response
        }))
        .layer(middleware::from_fn(|request: Request, next: Next| async {
            let mut response = next.run(request).await;
            response.headers_mut().append("x-order", "outermost".parse().unwrap());
            response
        }));
    server::serve(listener, app).await
}

async fn rewrite_body(State(Prefix(prefix)): State<Prefix>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let Ok(bytes) = to_bytes(body, 10_000).await else { return StatusCode::PAYLOAD_TOO_LARGE.into_response() };
    parts.headers.remove("content-length");
    let request = Request::from_parts(parts, Body::from([prefix.as_bytes(), &bytes].concat()));
    let mut response = next.run(request).await;
    response.headers_mut().append("x-order", "inner".parse().unwrap());
    response
}

async fn guard(request: Request, next: Next) -> Result<Response, StatusCode> {
    if request.uri().path() == "/hidden" && !request.headers().contains_key("x-pass") {
        return Err(StatusCode::FORBIDDEN);
    }
    Ok(next.run(request).await)
}
