//! JSON in and out, and what axum says of JSON that is wrong.

use std::io;

use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::server;

#[derive(Deserialize)]
struct CreateUser {
    username: String,
    #[serde(default)]
    age: u8,
}

#[derive(Serialize)]
struct User {
    id: u64,
    username: String,
    age: u8,
}

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let app = Router::new()
        .route("/users", post(create_user))
        .route("/checked", post(create_checked))
        .route("/value", get(|| async { Json(serde_json::json!({"nested": {"list": [1, 2.5, null, "é"]}})) }));
    server::serve(listener, app).await
}

async fn create_user(Json(payload): Json<CreateUser>) -> (StatusCode, Json<User>) {
    (StatusCode::CREATED, Json(User { id: 1337, username: payload.username, age: payload.age }))
}

/// The same with an error of its own.
async fn create_checked(payload: Result<Json<CreateUser>, JsonRejection>) -> Response {
    match payload {
        Ok(Json(payload)) => Json(User { id: 1, username: payload.username, age: payload.age }).into_response(),
        Err(rejection) => {
            let problem = serde_json::json!({ "origin": "the body", "message": rejection.body_text() });
            (rejection.status(), Json(problem)).into_response()
        }
    }
}
