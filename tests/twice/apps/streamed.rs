//! Answers that are streams: released piece by piece, of known length, empty, and one that fails.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use axum::routing::{get, post};
use futures_util::stream;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::server;

type Gate = State<Arc<Notify>>;

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let app = Router::new()
        .route("/gated", get(|State(gate): Gate| async move { gated(gate, &["first,", "second,", "third"]) }))
        .route("/open", post(|State(gate): Gate| async move { gate.notify_one() }))
        .route(
            "/known",
            get(|| async { Response::builder().header("content-length", "6").body(pieces(&["abc", "def"])).unwrap() }),
        )
        .route("/empty", get(|| async { pieces(&[]) }))
        .route("/holes", get(|| async { pieces(&["", "a", "", "b", ""]) }))
        .route(
            "/many",
            get(|| async { Body::from_stream(stream::iter((0..20_000).map(|n| Ok::<_, io::Error>(format!("{n},"))))) }),
        )
        .route("/fails", get(fails))
        .with_state(Arc::new(Notify::new()));
    server::serve(listener, app).await
}

fn pieces(pieces: &'static [&'static str]) -> Body {
    Body::from_stream(stream::iter(pieces.iter().map(|piece| Ok::<_, io::Error>(*piece))))
}

/// Waits before each piece but the first.
fn gated(gate: Arc<Notify>, pieces: &'static [&'static str]) -> Body {
    Body::from_stream(stream::unfold((gate, 0), move |(gate, number)| async move {
        let piece = pieces.get(number)?;
        if number > 0 {
            gate.notified().await;
        }
        Some((Ok::<_, io::Error>(*piece), (gate, number + 1)))
    }))
}

async fn fails(State(gate): Gate) -> Body {
    Body::from_stream(stream::unfold(0, move |number| {
        let gate = Arc::clone(&gate);
        async move {
            if number == 0 {
                return Some((Ok("so far, so good"), 1));
            }
            gate.notified().await;
            Some((Err(io::Error::other("the source is gone")), 2))
        }
    }))
}
