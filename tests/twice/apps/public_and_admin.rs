//! Two servers of one program, one public and one for the operator, which share state and end together.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, put};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::server;
use crate::stage::Stop;

pub(crate) async fn main(public: TcpListener, admin: TcpListener, stop: Stop) -> io::Result<()> {
    let open = Arc::new(AtomicBool::new(true));
    let app = Router::new().route("/", get(visit)).with_state(Arc::clone(&open));
    let operator = Router::new()
        .route("/open", put(|State(open): State<Arc<AtomicBool>>| async move { open.store(true, Relaxed) }))
        .route("/closed", put(|State(open): State<Arc<AtomicBool>>| async move { open.store(false, Relaxed) }))
        .with_state(open);
    let (ending, ended) = watch::channel(false);
    tokio::spawn(async move {
        stop.await;
        let _ = ending.send(true);
    });
    let signal = |mut ended: watch::Receiver<bool>| async move {
        let _ = ended.wait_for(|ended| *ended).await;
    };
    let public = server::serve(public, app).with_graceful_shutdown(signal(ended.clone()));
    let admin = server::serve(admin, operator).with_graceful_shutdown(signal(ended));
    let (public, admin) = tokio::join!(public.into_future(), admin.into_future());
    public.and(admin)
}

async fn visit(State(open): State<Arc<AtomicBool>>) -> Result<&'static str, StatusCode> {
    if open.load(Relaxed) { Ok("welcome") } else { Err(StatusCode::SERVICE_UNAVAILABLE) }
}
