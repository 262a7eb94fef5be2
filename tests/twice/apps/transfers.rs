//! Large answers and uploads, and answers that come before the upload is read.

use std::io;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post, put};
use futures_util::{StreamExt, stream};
use tokio::net::TcpListener;

use super::server;

const LARGE: usize = 8 << 20;

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let app = Router::new()
        .route("/whole", get(|| async { large() }))
        .route("/pieces", get(|| async { pieces() }))
        .route("/collected", post(|bytes: Bytes| async move { sum(&bytes).to_string() }))
        .route("/stored", put(stored))
        .route("/unread", post(|| async { "not read" }))
        .route("/denied", post(denied))
        .layer(DefaultBodyLimit::max(LARGE));
    server::serve(listener, app).await
}

fn large() -> Bytes {
    (0..LARGE).map(|number| (number % 251) as u8).collect()
}

fn pieces() -> Body {
    let all = large();
    let pieces =
        (0..LARGE).step_by(60_000).map(move |begin| Ok::<_, io::Error>(all.slice(begin..LARGE.min(begin + 60_000))));
    Body::from_stream(stream::iter(pieces))
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

/// Into a file, piece by piece.
async fn stored(body: Body) -> Result<(StatusCode, String), (StatusCode, String)> {
    let failed = |error: io::Error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
    let folder = tempfile::tempdir().map_err(failed)?;
    let path = folder.path().join("upload");
    let mut file = tokio::fs::File::create(&path).await.map_err(failed)?;
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
        tokio::io::AsyncWriteExt::write_all(&mut file, &piece).await.map_err(failed)?;
    }
    tokio::io::AsyncWriteExt::flush(&mut file).await.map_err(failed)?;
    let bytes = tokio::fs::read(&path).await.map_err(failed)?;
    Ok((StatusCode::CREATED, format!("{} bytes, {}", bytes.len(), sum(&bytes))))
}

/// Refuses before the body is read.
async fn denied(headers: HeaderMap, _body: Body) -> StatusCode {
    if headers.contains_key("authorization") { StatusCode::OK } else { StatusCode::UNAUTHORIZED }
}
