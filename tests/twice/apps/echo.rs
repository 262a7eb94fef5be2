//! Bodies that go back as they came: collected, streamed, while they come, and trailers.

use std::convert::Infallible;
use std::io;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::routing::{any, post};
use http_body::Body as _;
use http_body_util::{BodyExt, StreamBody};
use tokio::net::TcpListener;

use super::server;

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let app = Router::new()
        .route("/bytes", post(|bytes: Bytes| async move { bytes }))
        .route("/text", post(|text: String| async move { text }))
        .route("/body", any(|body: Body| async move { body }))
        .route("/reversed", post(reversed))
        .route("/trailers", post(trailers))
        .route("/hint", any(hint));
    server::serve(listener, app).await
}

async fn reversed(bytes: Bytes) -> Body {
    let pieces =
        bytes.chunks(4).rev().map(|piece| Ok::<_, Infallible>(Bytes::copy_from_slice(piece))).collect::<Vec<_>>();
    Body::new(StreamBody::new(futures_util::stream::iter(
        pieces.into_iter().map(|piece| piece.map(http_body::Frame::data)),
    )))
}

async fn trailers(request: Request) -> String {
    let collected = request.into_body().collect().await.unwrap();
    let trailers = collected.trailers().cloned();
    format!("{} bytes, {trailers:?}", collected.to_bytes().len())
}

/// What is known of a body before it is read.
async fn hint(body: Body) -> String {
    let hint = format!("{:?} {}", body.size_hint().exact(), body.is_end_stream());
    let _ = body.collect().await;
    hint
}
