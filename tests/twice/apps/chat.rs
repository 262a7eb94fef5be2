//! A chat room over WebSockets: a broadcast channel, a task for each direction, and names that may be taken.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::routing::{any, get};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio::sync::broadcast;

use super::server;

struct Room {
    users: Mutex<HashSet<String>>,
    messages: broadcast::Sender<String>,
}

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let room = Arc::new(Room { users: Mutex::default(), messages: broadcast::channel(100).0 });
    let app = Router::new()
        .route("/", get(|| async { axum::response::Html("<title>Chat</title>") }))
        .route(
            "/socket",
            any(|upgrade: WebSocketUpgrade, State(room): State<Arc<Room>>| async move {
                upgrade.on_upgrade(|socket| join(socket, room))
            }),
        )
        .with_state(room);
    server::serve(listener, app).await
}

async fn join(socket: WebSocket, room: Arc<Room>) {
    let (mut sender, mut receiver) = socket.split();
    let Some(Ok(Message::Text(name))) = receiver.next().await else { return };
    let name = name.to_string();
    if !room.users.lock().unwrap().insert(name.clone()) {
        let _ = sender.send(Message::from("Username already taken.")).await;
        return;
    }
    let mut messages = room.messages.subscribe();
    let _ = room.messages.send(format!("{name} joined."));
    let mut sending = tokio::spawn(async move {
        while let Ok(message) = messages.recv().await {
            if sender.send(Message::from(message)).await.is_err() {
                return;
            }
        }
    });
    let (said, by) = (room.messages.clone(), name.clone());
    let mut receiving = tokio::spawn(async move {
        while let Some(Ok(Message::Text(text))) = receiver.next().await {
            let _ = said.send(format!("{by}: {text}"));
        }
    });
    tokio::select! {
        _ = &mut sending => receiving.abort(),
        _ = &mut receiving => sending.abort(),
    }
    room.users.lock().unwrap().remove(&name);
    let _ = room.messages.send(format!("{name} left."));
}
