//! What HTTP/1.1 itself asks of a server, seen by an app that says what arrived.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::routing::{any, get, post};
use tokio::net::TcpListener;

use super::server;
use crate::stage::Stop;

pub(crate) async fn main(listener: TcpListener, stop: Stop) -> io::Result<()> {
    let calls = Arc::new(AtomicU64::new(0));
    // Whatever reaches the app is counted, as `TraceLayer` would see it.
    let seen_total = Arc::new(AtomicU64::new(0));
    let total = Arc::clone(&seen_total);
    let app = Router::new()
        .route("/seen", any(seen))
        .route("/count", any(move || async move { calls.fetch_add(1, Relaxed).to_string() }))
        .route("/echo", post(|bytes: Bytes| async move { bytes }))
        .route("/unread", post(|| async { "not read" }))
        .route(
            "/slow",
            get(|| async {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                "slow"
            }),
        )
        .route("/never", get(std::future::pending::<()>))
        .route("/close", get(|| async { ([("connection", "close")], "the last") }))
        .fallback(seen)
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            seen_total.fetch_add(1, Relaxed);
            next.run(request)
        }))
        .route("/seen/total", get(move || async move { total.load(Relaxed).to_string() }));
    server::serve(listener, app).with_graceful_shutdown(stop).await
}

async fn seen(request: Request) -> String {
    let mut fields: Vec<_> = request.headers().iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
    fields.sort();
    format!("{} {} {:?} {fields:?}", request.method(), request.uri(), request.version())
}
