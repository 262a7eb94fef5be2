//! HEAD of routes for GET, OPTIONS, methods of one's own, and answers without bodies.

use std::io;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Response, StatusCode};
use axum::response::{AppendHeaders, IntoResponse};
use axum::routing::{any, get, head};
use tokio::net::TcpListener;

use super::server;

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let app = Router::new()
        .route("/get", get(|| async { ([("x-length", "known")], "the body of GET") }))
        .route(
            "/distinct",
            get(|method: Method| async move { if method == Method::HEAD { "short" } else { "longer than HEAD" } }),
        )
        .route(
            "/streamed",
            get(|| async { Body::from_stream(futures_util::stream::iter(["a", "b"].map(Ok::<_, io::Error>))) }),
        )
        .route("/head", head(|| async { [("content-length", "1234")] }))
        .route("/any", any(|method: Method| async move { method.to_string() }))
        .route("/nothing", get(|| async {}))
        .route("/204", get(|| async { StatusCode::NO_CONTENT }))
        .route("/304", get(|| async { (StatusCode::NOT_MODIFIED, [("etag", "\"1\"")]) }))
        .route("/205", get(|| async { StatusCode::RESET_CONTENT }))
        .route("/same", get(|| async { AppendHeaders([("set-cookie", "a=1"), ("set-cookie", "b=2"), ("vary", "x")]) }))
        .route("/odd", get(odd));
    server::serve(listener, app).await
}

async fn odd(headers: HeaderMap) -> impl IntoResponse {
    let all = headers.get_all("x").iter().map(|value| format!("{value:?}")).collect::<Vec<_>>().join("|");
    let status = StatusCode::from_u16(299).unwrap();
    Response::builder()
        .status(status)
        .header("x-all", all)
        .header("x-latin", axum::http::HeaderValue::from_bytes(b"\xe9").unwrap())
        .header("x-empty", "")
        .body(Body::empty())
        .unwrap()
}
