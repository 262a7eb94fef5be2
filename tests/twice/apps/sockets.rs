//! WebSockets: an echo of every kind of message, a subprotocol, and one that the server closes with a code.

use std::io;

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::{any, get};
use tokio::net::TcpListener;

use super::server;

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let app = Router::new()
        .route("/echo", any(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(echo) }))
        .route("/protocol", any(protocol))
        .route("/closes", any(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(close) }))
        .route("/plain", get(|| async { "no socket" }));
    server::serve(listener, app).await
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn protocol(upgrade: WebSocketUpgrade) -> Response {
    let upgrade = upgrade.protocols(["graphql-ws", "chat.v2"]);
    let chosen = upgrade.selected_protocol().map(|value| format!("{value:?}"));
    upgrade.on_upgrade(|mut socket| async move {
        let _ = socket.send(Message::from(format!("{chosen:?}"))).await;
    })
}

async fn close(mut socket: WebSocket) {
    let _ = socket.recv().await;
    let frame = CloseFrame { code: 4000, reason: "enough".into() };
    let _ = socket.send(Message::Close(Some(frame))).await;
    while let Some(Ok(_)) = socket.recv().await {}
}
