//! A list of things to do: create, read, update and delete, with shared state, and an orderly stop by a oneshot.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use axum::error_handling::HandleErrorLayer;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, patch};
use axum::{BoxError, Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_http::trace::TraceLayer;

use super::server;
use crate::stage::Stop;

#[derive(Clone, Serialize)]
struct Todo {
    id: u32,
    text: String,
    completed: bool,
}

#[derive(Default)]
struct Todos {
    last: u32,
    all: BTreeMap<u32, Todo>,
}

type Db = Arc<RwLock<Todos>>;

#[derive(Deserialize)]
struct Page {
    offset: Option<usize>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
struct CreateTodo {
    text: String,
}

#[derive(Deserialize)]
struct UpdateTodo {
    text: Option<String>,
    completed: Option<bool>,
}

pub(crate) async fn main(listener: TcpListener, stop: Stop) -> io::Result<()> {
    let (sender, stopped) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        stop.await;
        let _ = sender.send(());
    });
    let too_slow = |error: BoxError| async move {
        if error.is::<tower::timeout::error::Elapsed>() {
            Ok(StatusCode::REQUEST_TIMEOUT)
        } else {
            Err((StatusCode::INTERNAL_SERVER_ERROR, format!("unhandled internal error: {error}")))
        }
    };
    let layers = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(too_slow))
        .timeout(Duration::from_secs(10))
        .layer(TraceLayer::new_for_http())
        .into_inner();
    let app = Router::new()
        .route("/todos", get(index).post(create))
        .route("/todos/{id}", patch(update).delete(delete))
        .layer(layers)
        .with_state(Db::default());
    server::serve(listener, app)
        .with_graceful_shutdown(async {
            let _ = stopped.await;
        })
        .await
}

async fn index(page: Query<Page>, State(db): State<Db>) -> impl IntoResponse {
    let todos = db.read().unwrap();
    let all = todos.all.values().skip(page.offset.unwrap_or(0)).take(page.limit.unwrap_or(usize::MAX));
    Json(all.cloned().collect::<Vec<_>>())
}

async fn create(State(db): State<Db>, Json(input): Json<CreateTodo>) -> impl IntoResponse {
    let mut todos = db.write().unwrap();
    todos.last += 1;
    let todo = Todo { id: todos.last, text: input.text, completed: false };
    todos.all.insert(todo.id, todo.clone());
    (StatusCode::CREATED, [("location", format!("/todos/{}", todo.id))], Json(todo))
}

async fn update(
    Path(id): Path<u32>,
    State(db): State<Db>,
    Json(input): Json<UpdateTodo>,
) -> Result<impl IntoResponse, StatusCode> {
    let mut todos = db.write().unwrap();
    let todo = todos.all.get_mut(&id).ok_or(StatusCode::NOT_FOUND)?;
    todo.text = input.text.unwrap_or_else(|| todo.text.clone());
    todo.completed = input.completed.unwrap_or(todo.completed);
    Ok(Json(todo.clone()))
}

async fn delete(Path(id): Path<u32>, State(db): State<Db>) -> StatusCode {
    match db.write().unwrap().all.remove(&id) {
        Some(_) => StatusCode::NO_CONTENT,
        None => StatusCode::NOT_FOUND,
    }
}
