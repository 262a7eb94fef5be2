//! The axum app that Baiwan and `axum::serve` serve: a route for each kind of row.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::http::StatusCode;
use axum::response::sse::Event;
use axum::response::{Response, Sse};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt, TryStreamExt};

use crate::answers::{self, HELLO, Message, SLEEP, SLEPT};

/// The app.
pub fn app() -> Router {
    let lengths = answers::LENGTHS.into_iter().fold(Router::new(), |router, length| {
        router.route(&format!("/bytes/{length}"), get(move || async move { answers::bytes(length) }))
    });
    lengths
        .route("/", get(|| async { HELLO }))
        .route("/json", get(|| async { Json(Message::HELLO) }))
        .route("/large", get(|| async { answers::large() }))
        .route("/echo", post(|body: Bytes| async { body }))
        .route("/sleep", get(sleep))
        .route("/pending", get(pending))
        .route("/held", get(|| async { answers::held() }))
        .route("/sse", get(events))
        .route("/ws", get(web_socket))
        .route("/ws-small", get(small_web_socket))
        .route("/mixed", get(|| async { answers::mixed() }))
        .route("/work", get(|| async { answers::work() }))
        .route("/count", post(count))
}

async fn sleep() -> &'static str {
    tokio::time::sleep(SLEEP).await;
    SLEPT
}

/// How many bytes came: a body of any length is read as it comes, and not kept.
async fn count(body: Body) -> Result<String, StatusCode> {
    let count = body.into_data_stream().try_fold(0, |count, bytes| async move { Ok(count + bytes.len()) });
    count.await.map(|count| count.to_string()).map_err(|_| StatusCode::BAD_REQUEST)
}

async fn pending() -> &'static str {
    answers::hold();
    std::future::pending().await
}

/// One event, then silence.
async fn events() -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    Sse::new(stream::once(async { Ok(Event::default().data(HELLO)) }).chain(stream::pending()))
}

async fn web_socket(upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(echo)
}

/// With as small a buffer as messages of a few kilobytes need.
async fn small_web_socket(upgrade: WebSocketUpgrade) -> Response {
    upgrade.read_buffer_size(4096).on_upgrade(echo)
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}
