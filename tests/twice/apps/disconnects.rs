//! Clients that leave: what happens to the handler and to the stream that are at work for them.

use std::convert::Infallible;
use std::future::pending;
use std::io;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::routing::get;
use futures_util::stream;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::server;

/// How many handlers and streams have begun, and how many of them were dropped.
#[derive(Clone, Copy, Default)]
struct Counts {
    begun: u32,
    dropped: u32,
}

type Watched = watch::Sender<Counts>;

struct Counted(Watched);

impl Counted {
    fn begin(counts: Watched) -> Self {
        counts.send_modify(|counts| counts.begun += 1);
        Self(counts)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|counts| counts.dropped += 1);
    }
}

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let app = Router::new()
        .route("/handler", get(handler))
        .route("/stream", get(|State(counts): State<Watched>| async move { endless(Counted::begin(counts)) }))
        .route("/begun/{least}", get(|counts, least| wait(counts, least, |counts| counts.begun)))
        .route("/dropped/{least}", get(|counts, least| wait(counts, least, |counts| counts.dropped)))
        .with_state(watch::channel(Counts::default()).0);
    server::serve(listener, app).await
}

async fn handler(State(counts): State<Watched>) {
    let _guard = Counted::begin(counts);
    pending().await
}

/// One piece, and then nothing for ever.
fn endless(guard: Counted) -> Body {
    Body::from_stream(stream::unfold((guard, true), |(guard, is_first)| async move {
        if !is_first {
            pending::<()>().await;
        }
        Some((Ok::<_, Infallible>("first"), (guard, false)))
    }))
}

/// Waits until there are so many.
async fn wait(State(counts): State<Watched>, Path(least): Path<u32>, of: fn(&Counts) -> u32) -> String {
    let mut counts = counts.subscribe();
    counts.wait_for(|counts| of(counts) >= least).await.map(|counts| of(&counts).to_string()).unwrap_or_default()
}
