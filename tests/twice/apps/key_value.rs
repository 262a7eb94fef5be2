//! A store of keys and values with limits of bodies, compression, and an admin part behind a token.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, RwLock};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::handler::Handler;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use tokio::net::TcpListener;
use tower_http::compression::CompressionLayer;
use tower_http::limit::RequestBodyLimitLayer;

use super::server;

type Db = Arc<RwLock<BTreeMap<String, Bytes>>>;

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let db = Db::default();
    let set = kv_set.layer((DefaultBodyLimit::disable(), RequestBodyLimitLayer::new(5_000)));
    let app = Router::new()
        .route("/{key}", get(kv_get.layer(CompressionLayer::new())).post_service(set.with_state(Arc::clone(&db))))
        .route("/keys", get(list_keys))
        .nest("/admin", admin_routes())
        .with_state(db);
    server::serve(listener, app).await
}

async fn kv_get(Path(key): Path<String>, State(db): State<Db>) -> Result<Bytes, StatusCode> {
    db.read().unwrap().get(&key).cloned().ok_or(StatusCode::NOT_FOUND)
}

async fn kv_set(Path(key): Path<String>, State(db): State<Db>, bytes: Bytes) {
    db.write().unwrap().insert(key, bytes);
}

async fn list_keys(State(db): State<Db>) -> String {
    db.read().unwrap().keys().map(String::as_str).collect::<Vec<_>>().join("\n")
}

fn admin_routes() -> Router<Db> {
    Router::new()
        .route("/keys", delete(|State(db): State<Db>| async move { db.write().unwrap().clear() }))
        .route("/key/{key}", delete(remove_key))
        .layer(middleware::from_fn(bearer))
}

async fn remove_key(Path(key): Path<String>, State(db): State<Db>) -> StatusCode {
    db.write().unwrap().remove(&key).map_or(StatusCode::NOT_FOUND, |_| StatusCode::OK)
}

async fn bearer(headers: HeaderMap, request: axum::extract::Request, next: Next) -> Response {
    match headers.get("authorization").and_then(|value| value.to_str().ok()) {
        Some("Bearer secret-token") => next.run(request).await,
        _ => (StatusCode::UNAUTHORIZED, [("www-authenticate", "Bearer")]).into_response(),
    }
}
