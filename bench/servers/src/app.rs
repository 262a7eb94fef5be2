//! The axum app that Baiwan and `axum::serve` serve: a route for each kind of row.

use std::convert::Infallible;

use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::response::sse::Event;
use axum::response::{Response, Sse};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};

use crate::answers::{self, HELLO, Message, SLEEP, SLEPT};

/// The app.
pub fn app() -> Router {
    Router::new()
        .route("/", get(|| async { HELLO }))
        .route("/json", get(|| async { Json(Message::HELLO) }))
        .route("/large", get(|| async { answers::large() }))
        .route("/echo", post(|body: Bytes| async { body }))
        .route("/sleep", get(sleep))
        .route("/pending", get(pending))
        .route("/held", get(|| async { answers::held() }))
        .route("/sse", get(events))
        .route("/ws", get(web_socket))
        .route("/mixed", get(|| async { answers::mixed() }))
}

async fn sleep() -> &'static str {
    tokio::time::sleep(SLEEP).await;
    SLEPT
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

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if socket.send(message).await.is_err() {
            return;
        }
    }
}
