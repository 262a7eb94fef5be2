//! A chat over WebSocket, written for axum: the last line of `main` knows Baiwan, and what says goodbye when the server stops.
//!
//! `cargo run -p baiwan --example websocket`, then open <http://localhost:8080/> twice. `PORT` chooses another port.

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::{Html, Response};
use axum::routing::get;
use baiwan::Ending;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Messages that a slow reader may fall behind; then it misses some.
const BEHIND_MAX: usize = 64;

const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>Chat</title>
<form><input autofocus placeholder="Say something"></form><ul></ul>
<script>
    const socket = new WebSocket(location.href.replace(/^http/, "ws") + "chat");
    const [form, input, list] = ["form", "input", "ul"].map(name => document.querySelector(name));
    const show = text => { list.prepend(document.createElement("li")); list.firstChild.textContent = text; };
    socket.onmessage = event => show(event.data);
    socket.onclose = () => show("(the server has gone)");
    form.onsubmit = event => { event.preventDefault(); socket.send(input.value); form.reset(); };
</script>"#;

/// One room for all cores: each has a clone of the router, and so of this sender.
type Room = broadcast::Sender<String>;

async fn chat(State(room): State<Room>, upgrade: WebSocketUpgrade, ending: Ending) -> Response {
    upgrade.max_message_size(16 * 1024).on_upgrade(|socket| talk(socket, room, ending))
}

async fn talk(mut socket: WebSocket, room: Room, mut ending: Ending) {
    let mut said = room.subscribe();
    loop {
        tokio::select! {
            heard = socket.recv() => match heard {
                // It fails only when nobody listens, and this socket does.
                Some(Ok(Message::Text(text))) => drop(room.send(text.to_string())),
                Some(Ok(_)) => {}
                None | Some(Err(_)) => return,
            },
            text = said.recv() => match text {
                Ok(text) => if socket.send(Message::text(text)).await.is_err() { return },
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            () = &mut ending => break,
        }
    }
    let away = CloseFrame { code: close_code::AWAY, reason: "the server restarts".into() };
    if socket.send(Message::Close(Some(away))).await.is_ok() {
        // Until the browser has said the same; the server ends one that says nothing.
        while let Some(Ok(_)) = socket.recv().await {}
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let port = std::env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    let app = Router::new().route("/", get(|| async { Html(PAGE) })).route("/chat", get(chat));
    baiwan::serve(format!("0.0.0.0:{port}"), app.with_state(broadcast::channel(BEHIND_MAX).0)).await
}
