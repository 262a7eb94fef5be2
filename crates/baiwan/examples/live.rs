//! What lives for hours behind a proxy: a stream of events, and a WebSocket that sends back what it receives. Both say goodbye when the server
//! stops. And an upload that is refused while it is still being sent, if it is too large.
//!
//! `cargo run -p baiwan --example live`, then `curl -N localhost:8080/events`. Every setting of the server is an environment variable, such as
//! `PORT` and `TRUSTED_PROXIES`; `docs/deploying.md` has the proxy's side, and `tests/proxies/run` tries both together with this app.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::http::StatusCode;
use axum::response::Response;
use axum::response::sse::{Event, Sse};
use axum::routing::{get, post};
use baiwan::{ClientIp, Ending, Health, RouteLimits, Server};
use futures_util::{Stream, StreamExt, stream};

/// Also the heartbeat: well below the time after which proxies give up a stream that is silent.
const INTERVAL: Duration = Duration::from_secs(1);
const UPLOAD_BYTES_MAX: u64 = 1 << 20;

async fn whoami(ClientIp(client): ClientIp) -> String {
    format!("{client}\n")
}

async fn events(ending: Ending) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let numbers = stream::unfold((0_u64, tokio::time::interval(INTERVAL)), |(number, mut interval)| async move {
        interval.tick().await;
        Some((Event::default().id(number.to_string()).data("tick"), (number + 1, interval)))
    });
    // The browser comes back after two seconds, and finds another instance then.
    let last = stream::once(async { Event::default().retry(Duration::from_secs(2)) });
    Sse::new(numbers.take_until(ending).chain(last).map(Ok))
}

async fn uploaded(body: String) -> String {
    format!("{} bytes\n", body.len())
}

async fn echo(upgrade: WebSocketUpgrade, ending: Ending) -> Response {
    upgrade.max_message_size(16 * 1024).on_upgrade(|socket| repeat(socket, ending))
}

async fn repeat(mut socket: WebSocket, mut ending: Ending) {
    loop {
        let received = tokio::select! {
            received = socket.recv() => received,
            () = &mut ending => break,
        };
        match received {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => {
                if socket.send(message).await.is_err() {
                    return;
                }
            }
            // A ping is answered by axum.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            _ => return,
        }
    }
    let away = CloseFrame { code: close_code::AWAY, reason: "the server restarts".into() };
    if socket.send(Message::Close(Some(away))).await.is_ok() {
        while let Some(Ok(_)) = socket.recv().await {}
    }
}

/// What a load balancer asks: 503 from SIGTERM on.
async fn ready(State(health): State<Health>) -> StatusCode {
    if health.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

#[tokio::main]
async fn main() -> Result<(), baiwan::Error> {
    let server = Server::from_env()?;
    let app = Router::new()
        .route("/", get(whoami))
        .route("/events", get(events))
        .route("/socket", get(echo))
        .route("/upload", post(uploaded).layer(RouteLimits::new().body_limit(UPLOAD_BYTES_MAX)))
        .route("/health/ready", get(ready))
        .with_state(server.health());
    server.serve(app).await
}
