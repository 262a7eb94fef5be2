//! Server-sent events, each sent when the one before it was asked to be followed, and a stream that has an end.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use axum::routing::{get, post};
use futures_util::stream::{self, Stream};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::server;
use crate::stage::Stop;

pub(crate) async fn main(listener: TcpListener, stop: Stop) -> io::Result<()> {
    let next = Arc::new(Notify::new());
    let app = Router::new()
        .route("/events", get(events))
        .route(
            "/finite",
            get(|| async {
                Sse::new(stream::iter((0..3).map(|n| event(n).data("of three")).map(Ok::<_, Infallible>)))
            }),
        )
        .route("/next", post(|State(next): State<Arc<Notify>>| async move { next.notify_one() }))
        .with_state(next);
    server::serve(listener, app).with_graceful_shutdown(stop).await
}

fn event(number: u32) -> Event {
    Event::default().event("tick").id(number.to_string())
}

async fn events(State(next): State<Arc<Notify>>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let events = stream::unfold(0, move |number| {
        let next = Arc::clone(&next);
        async move {
            if number > 0 {
                next.notified().await;
            }
            Some((Ok(event(number).data(format!("number {number}"))), number + 1))
        }
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}
