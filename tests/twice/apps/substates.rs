//! State in parts, state of a nested router, and extensions.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::extract::{FromRef, State};
use axum::routing::get;
use axum::{Extension, Router};
use tokio::net::TcpListener;

use super::server;

#[derive(Clone)]
struct AppState {
    api: ApiState,
    visits: Arc<AtomicU64>,
}

#[derive(Clone)]
struct ApiState {
    name: &'static str,
}

impl FromRef<AppState> for ApiState {
    fn from_ref(app: &AppState) -> Self {
        app.api.clone()
    }
}

impl FromRef<AppState> for Arc<AtomicU64> {
    fn from_ref(app: &AppState) -> Self {
        Arc::clone(&app.visits)
    }
}

#[derive(Clone)]
struct Banner(&'static str);

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let state = AppState { api: ApiState { name: "the api" }, visits: Arc::default() };
    let inner = Router::new().route("/own", get(|State(number): State<u8>| async move { number.to_string() }));
    let app = Router::new()
        .route("/api", get(|State(api): State<ApiState>| async move { api.name }))
        .route("/visits", get(visits))
        .route("/banner", get(|Extension(Banner(text)): Extension<Banner>| async move { text }))
        .route("/missing", get(|Extension(number): Extension<u32>| async move { number.to_string() }))
        .nest("/inner", inner.with_state(7))
        .layer(Extension(Banner("welcome")))
        .with_state(state);
    server::serve(listener, app).await
}

async fn visits(State(visits): State<Arc<AtomicU64>>) -> String {
    (visits.fetch_add(1, Relaxed) + 1).to_string()
}
