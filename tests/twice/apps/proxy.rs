//! A reverse proxy: one server hands requests on to another of the same program, with reqwest, and streams the answers
//! back.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use tokio::net::TcpListener;

use super::server;

#[derive(Clone)]
struct Upstream {
    client: reqwest::Client,
    address: SocketAddr,
}

pub(crate) async fn main(front: TcpListener, back: TcpListener) -> io::Result<()> {
    let upstream = Upstream { client: reqwest::Client::new(), address: back.local_addr()? };
    let origin = Router::new()
        .route(
            "/hello/{name}",
            get(|Path(name): Path<String>| async move { ([("x-origin", "yes")], format!("hello {name}")) }),
        )
        .route(
            "/sum",
            post(|body: Bytes| async move { body.iter().map(|byte| u64::from(*byte)).sum::<u64>().to_string() }),
        )
        .route("/long", get(|| async { "x".repeat(200_000) }))
        .route("/missing", get(|| async { StatusCode::GONE }));
    let proxy = Router::new().route("/{*path}", any(forward)).with_state(upstream);
    tokio::spawn(async move { server::serve(back, origin).await });
    server::serve(front, proxy).await
}

async fn forward(State(upstream): State<Upstream>, request: Request) -> Result<Response, StatusCode> {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let url = format!("http://{}{target}", upstream.address);
    let answer = upstream
        .client
        .request(parts.method, url)
        .body(reqwest::Body::wrap_stream(body.into_data_stream()))
        .send()
        .await
        .map_err(|_| StatusCode::BAD_GATEWAY)?;
    let mut response = (answer.status(), [("via", "1.1 test")]).into_response();
    if let Some(value) = answer.headers().get("x-origin") {
        response.headers_mut().insert("x-origin", value.clone());
    }
    *response.body_mut() = Body::from_stream(answer.bytes_stream());
    Ok(response)
}
