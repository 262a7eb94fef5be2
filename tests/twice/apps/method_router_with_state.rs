//! A router of methods with state, as a maker of services.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::routing::{MethodRouter, get};
use tokio::net::TcpListener;

use super::server;
use crate::stage::Stop;

type Counter = Arc<AtomicU64>;

pub(crate) async fn main(listener: TcpListener, stop: Stop) -> io::Result<()> {
    let app: MethodRouter = get(|State(counter): State<Counter>| async move { counter.load(Relaxed).to_string() })
        .post(add)
        .fallback(|| async { (StatusCode::NOT_IMPLEMENTED, "get or post") })
        .with_state(Counter::default());
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    server::serve(listener, app).with_graceful_shutdown(stop).await
}

async fn add(State(counter): State<Counter>, ConnectInfo(peer): ConnectInfo<SocketAddr>) -> String {
    let total = counter.fetch_add(1, Relaxed) + 1;
    format!("{total} by {}", peer.ip())
}
