//! An app that existed before, moved over: a guestbook with state, an SQLite pool, a background task and a tower layer.
//!
//! `cargo run -p baiwan --example guestbook`, then open <http://localhost:8080/>. `PORT` chooses another port. The entries are in
//! `guestbook.db` in the system's directory for temporary files.
//!
//! # What changed
//!
//! One word in `main`: `axum::serve` became [`baiwan::serve`]. And one call less, because SIGTERM and Ctrl-C stop the server in order
//! by themselves; the old line stands above as a comment.
//! With them went `into_make_service_with_connect_info`, since `ConnectInfo` is always there, and `with_graceful_shutdown`,
//! since SIGTERM and Ctrl-C stop a Baiwan server in order by default. What follows `serve` runs as before, when the last
//! request is answered.
//!
//! # What did not change
//!
//! The router, the handlers, the state, the layers, the SQL. Each core gets a clone of the router; what is behind an `Arc`, the
//! pool too, is one for all cores.
//!
//! # Why the pool and the background task stay in `main`
//!
//! Each core has a Tokio runtime of its own, and what needs a runtime belongs to the one in which it was made. A task that is
//! spawned in `main` runs once, beside the cores, and lives until `main` ends it; spawned by a handler it would run on that
//! handler's core and end with it. The pool is made in `main` because it must be one for all cores, and must outlive them:
//! it is closed when the last request is answered. A connection that a handler makes the pool open belongs to that handler's
//! core, and all cores live until the server has stopped. (For a pool for each core, see `Builder::serve_with`.)

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Context;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::response::{Html, Redirect};
use axum::routing::get;
use axum::{Form, Router};
use serde::Deserialize;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use tower_http::timeout::TimeoutLayer;

const ENTRIES_MAX: i64 = 100;
const TEXT_CHARACTERS_MAX: usize = 500;
const PRUNE_INTERVAL: Duration = Duration::from_secs(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// What the handlers share.
struct Guestbook {
    pool: SqlitePool,
    /// Since the start, over all cores.
    visits: AtomicU64,
}

#[derive(Deserialize)]
struct Entry {
    text: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let pool = open().await.context("cannot open the guestbook")?;
    let pruning = tokio::spawn(prune_forever(pool.clone()));
    let app = app(pool.clone());

    let port = std::env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    eprintln!("http://localhost:{port}/ is the guestbook; Ctrl-C ends it");

    let listener = tokio::net::TcpListener::bind(format!("0.0.0.0:{port}")).await?;
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    // axum::serve(listener, app).with_graceful_shutdown(ctrl_c_or_sigterm()).await?;
    baiwan::serve(listener, app).await?;

    pruning.abort();
    pool.close().await;
    Ok(())
}

async fn open() -> sqlx::Result<SqlitePool> {
    let options = SqliteConnectOptions::new()
        .filename(std::env::temp_dir().join("guestbook.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(REQUEST_TIMEOUT);
    let pool = SqlitePoolOptions::new().max_connections(8).connect_with(options).await?;
    let create = "CREATE TABLE IF NOT EXISTS entries (id INTEGER PRIMARY KEY, peer TEXT NOT NULL, text TEXT NOT NULL)";
    sqlx::query(create).execute(&pool).await?;
    Ok(pool)
}

fn app(pool: SqlitePool) -> Router {
    Router::new()
        .route("/", get(show).post(sign))
        .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, REQUEST_TIMEOUT))
        .with_state(Arc::new(Guestbook { pool, visits: AtomicU64::new(0) }))
}

async fn show(State(guestbook): State<Arc<Guestbook>>) -> Result<Html<String>, StatusCode> {
    let visits = guestbook.visits.fetch_add(1, Relaxed) + 1;
    let select = "SELECT peer, text FROM entries ORDER BY id DESC LIMIT ?";
    let entries: Vec<(String, String)> =
        sqlx::query_as(select).bind(ENTRIES_MAX).fetch_all(&guestbook.pool).await.map_err(unavailable)?;
    let entries: String =
        entries.iter().map(|(peer, text)| format!("<li>{} <small>{peer}</small></li>", escape(text))).collect();
    Ok(Html(format!(
        "<!doctype html><title>Guestbook</title><h1>Guestbook</h1><p>{visits} visits</p>\
         <form method=post><input name=text required maxlength={TEXT_CHARACTERS_MAX}><button>Sign</button></form>\
         <ul>{entries}</ul>"
    )))
}

async fn sign(
    State(guestbook): State<Arc<Guestbook>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Form(entry): Form<Entry>,
) -> Result<Redirect, StatusCode> {
    let text = entry.text.trim();
    if text.is_empty() || text.chars().count() > TEXT_CHARACTERS_MAX {
        return Err(StatusCode::UNPROCESSABLE_ENTITY);
    }
    let insert = sqlx::query("INSERT INTO entries (peer, text) VALUES (?, ?)").bind(peer.ip().to_string()).bind(text);
    insert.execute(&guestbook.pool).await.map_err(unavailable)?;
    Ok(Redirect::to("/"))
}

/// Keeps the newest entries, for as long as the server runs.
async fn prune_forever(pool: SqlitePool) {
    let mut interval = tokio::time::interval(PRUNE_INTERVAL);
    loop {
        interval.tick().await;
        let delete = "DELETE FROM entries WHERE id <= (SELECT max(id) FROM entries) - ?";
        if let Err(error) = sqlx::query(delete).bind(ENTRIES_MAX).execute(&pool).await {
            eprintln!("cannot prune the guestbook: {error}");
        }
    }
}

fn unavailable(error: sqlx::Error) -> StatusCode {
    eprintln!("the database failed: {error}");
    StatusCode::SERVICE_UNAVAILABLE
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
