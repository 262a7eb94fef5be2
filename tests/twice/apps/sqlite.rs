//! A database: sqlx with SQLite, a pool of `main`, as state and as an extractor, a transaction, and its close at the
//! end.

use std::io;

use axum::Router;
use axum::extract::{FromRef, FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::routing::{get, post};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{Sqlite, SqlitePool};
use tokio::net::TcpListener;

use super::server;
use crate::stage::Stop;

struct Connection(PoolConnection<Sqlite>);

impl<S: Send + Sync> FromRequestParts<S> for Connection
where
    SqlitePool: FromRef<S>,
{
    type Rejection = (StatusCode, String);

    async fn from_request_parts(_: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        SqlitePool::from_ref(state).acquire().await.map(Self).map_err(internal)
    }
}

pub(crate) async fn main(listener: TcpListener, stop: Stop) -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    let options = SqliteConnectOptions::new().filename(folder.path().join("users.db")).create_if_missing(true);
    let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options).await.map_err(io::Error::other)?;
    let create = "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)";
    sqlx::query(create).execute(&pool).await.map_err(io::Error::other)?;
    let app = Router::new()
        .route("/users/{name}", post(insert))
        .route("/users", get(list))
        .route("/both/{one}/{other}", post(both))
        .with_state(pool.clone());
    server::serve(listener, app).with_graceful_shutdown(stop).await?;
    pool.close().await;
    Ok(())
}

async fn insert(
    State(pool): State<SqlitePool>,
    Path(name): Path<String>,
) -> Result<(StatusCode, String), (StatusCode, String)> {
    let insert = sqlx::query("INSERT INTO users (name) VALUES (?)").bind(name);
    let outcome = insert.execute(&pool).await;
    outcome.map(|done| (StatusCode::CREATED, done.last_insert_rowid().to_string())).map_err(internal)
}

async fn list(Connection(mut connection): Connection) -> Result<String, (StatusCode, String)> {
    let names: Vec<(String,)> =
        sqlx::query_as("SELECT name FROM users ORDER BY name").fetch_all(&mut *connection).await.map_err(internal)?;
    Ok(names.into_iter().map(|(name,)| name).collect::<Vec<_>>().join(","))
}

/// Both or none.
async fn both(
    State(pool): State<SqlitePool>,
    Path((one, other)): Path<(String, String)>,
) -> Result<(), (StatusCode, String)> {
    let mut transaction = pool.begin().await.map_err(internal)?;
    for name in [one, other] {
        let insert = sqlx::query("INSERT INTO users (name) VALUES (?)").bind(name);
        insert.execute(&mut *transaction).await.map_err(internal)?;
    }
    transaction.commit().await.map_err(internal)
}

fn internal(error: sqlx::Error) -> (StatusCode, String) {
    match error {
        sqlx::Error::Database(error) if error.is_unique_violation() => (StatusCode::CONFLICT, "taken".to_owned()),
        error => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}
