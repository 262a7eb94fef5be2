//! The app that is probed: an axum `Router` with a route for each thing that a handler may do to an answer, and a note of
//! every request that reached it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::header::{CONNECTION, CONTENT_LENGTH, DATE, ETAG, TRAILER, TRANSFER_ENCODING};
use axum::http::{HeaderMap, Method, StatusCode, Uri, Version};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use futures_util::stream;
use http_body_util::{BodyExt, Full};

/// What the app was asked on each connection, by the address of its client: no two have the same.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<HashMap<IpAddr, Vec<String>>>>);

impl Seen {
    /// Method and target of each request of a connection, which is forgotten.
    pub(crate) fn take(&self, client: IpAddr) -> Vec<String> {
        self.0.lock().unwrap().remove(&client).unwrap_or_default()
    }
}

async fn note(
    State(seen): State<Seen>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let line = format!("{} {}", request.method(), request.uri());
    seen.0.lock().unwrap().entry(peer.ip()).or_default().push(line);
    next.run(request).await
}

pub(crate) fn app(seen: Seen) -> Router {
    Router::new()
        .route("/", get(|| async { "root" }))
        .route("/smuggled", get(|| async { "smuggled" }))
        .route("/echo", post(|body: Bytes| async { body }))
        .route("/stream", post(|body: Body| async { Body::from_stream(body.into_data_stream()) }))
        .route("/ignore", any(|| async { "ignored" }))
        .route("/trailers", post(trailers))
        .route("/request", any(request))
        .route("/slow", any(slow))
        .route("/status/{code}", any(status))
        .route("/empty/{code}", any(empty))
        .route("/chunks", any(chunks))
        .route("/announced/{length}", any(announced))
        .route("/own/{what}", any(own))
        .route("/split", any(|| async { [("x-split", "a\r\nx-smuggled: b")] }))
        .route("/panic", any(panics))
        .layer(middleware::from_fn_with_state(seen.clone(), note))
        // Behind the layer, so that it is not noted.
        .route("/fence", get(|| async { "fence" }))
        .with_state(seen)
}

/// The request as the app sees it, a line for each part.
async fn request(method: Method, target: Uri, version: Version, fields: HeaderMap, body: Bytes) -> Vec<u8> {
    let mut text = format!("{method} {target} {version:?}\n").into_bytes();
    for (name, value) in &fields {
        for part in [name.as_str().as_bytes(), b"=[", value.as_bytes(), b"]\n"] {
            text.extend_from_slice(part);
        }
    }
    text.extend_from_slice(&body);
    text
}

async fn trailers(body: Body) -> String {
    let Ok(collected) = body.collect().await else { return "failed".to_owned() };
    let fields = collected.trailers().cloned().unwrap_or_default();
    fields.iter().map(|(name, value)| format!("{name}=[{}]\n", value.to_str().unwrap())).collect()
}

/// Not ready when it is asked first.
async fn slow() -> &'static str {
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    "slow"
}

async fn status(Path(code): Path<u16>) -> (StatusCode, &'static str) {
    (StatusCode::from_u16(code).unwrap(), "some text")
}

async fn empty(Path(code): Path<u16>) -> StatusCode {
    StatusCode::from_u16(code).unwrap()
}

/// An answer whose length nobody knows before its end.
async fn chunks() -> Body {
    let pieces = ["one ", "two ", "three"].map(|piece| Ok::<_, Infallible>(Bytes::from_static(piece.as_bytes())));
    Body::from_stream(stream::iter(pieces))
}

/// A body of known length, and a trailer that the head announces.
async fn announced(Path(length): Path<usize>) -> impl IntoResponse {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", length.into());
    let body = Full::new(Bytes::from("x".repeat(length)));
    let body = body.with_trailers(async move { Some(Ok::<_, Infallible>(trailers)) });
    ([(TRAILER, "x-sum")], Body::new(body))
}

async fn panics() {
    panic!("as the probe wants it");
}

/// Answers with fields that are the server's business, right and wrong ones.
async fn own(Path(what): Path<String>) -> Response {
    match what.as_str() {
        "date" => ([(DATE, "Sun, 06 Nov 1994 08:49:37 GMT")], "text").into_response(),
        "length" => ([(CONTENT_LENGTH, "4")], "text").into_response(),
        "length-wrong" => ([(CONTENT_LENGTH, "5")], "text").into_response(),
        "length-malformed" => ([(CONTENT_LENGTH, "+4")], "text").into_response(),
        "length-of-stream" => ([(CONTENT_LENGTH, "13")], chunks().await).into_response(),
        "length-of-stream-short" => ([(CONTENT_LENGTH, "12")], chunks().await).into_response(),
        "length-of-stream-long" => ([(CONTENT_LENGTH, "14")], chunks().await).into_response(),
        "transfer-encoding" => ([(TRANSFER_ENCODING, "chunked")], "text").into_response(),
        "transfer-encoding-gzip" => ([(TRANSFER_ENCODING, "gzip")], "text").into_response(),
        "close" => ([(CONNECTION, "close")], "text").into_response(),
        "keep-alive" => ([(CONNECTION, "keep-alive")], "text").into_response(),
        "not-modified" => (StatusCode::NOT_MODIFIED, [(ETAG, "\"a\"")]).into_response(),
        "not-modified-length" => (StatusCode::NOT_MODIFIED, [(CONTENT_LENGTH, "1234")]).into_response(),
        "no-content-length" => (StatusCode::NO_CONTENT, [(CONTENT_LENGTH, "0")]).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
