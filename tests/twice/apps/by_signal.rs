//! An orderly stop by signals, as most programs have it.

use std::future::pending;
use std::io;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::server;
use crate::stage::Stop;

pub(crate) async fn main(listener: TcpListener, stop: Stop) -> io::Result<()> {
    let app = Router::new().route("/", get(|| async { "until a signal" }));
    server::serve(listener, app).with_graceful_shutdown(shutdown_signal(stop)).await?;
    Ok(())
}

/// The test cannot send signals to itself, so its own stop stands beside them.
async fn shutdown_signal(stop: Stop) {
    let interrupt = async {
        match signal(SignalKind::user_defined2()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => pending().await,
        }
    };
    tokio::select! {
        () = interrupt => {}
        () = stop => {}
    }
}
