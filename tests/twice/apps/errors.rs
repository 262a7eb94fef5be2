//! Errors with `?`: one type of errors for the program, and anything that `anyhow` takes.

use std::io;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;

use super::server;

struct AppError(anyhow::Error);

impl IntoResponse for AppError {
    fn into_response(self) -> Response {
        (StatusCode::INTERNAL_SERVER_ERROR, format!("Something went wrong: {}", self.0)).into_response()
    }
}

impl<E: Into<anyhow::Error>> From<E> for AppError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

enum UserError {
    NotFound,
    Invalid { field: &'static str },
}

impl IntoResponse for UserError {
    fn into_response(self) -> Response {
        let (status, error) = match self {
            Self::NotFound => (StatusCode::NOT_FOUND, "no such user".to_owned()),
            Self::Invalid { field } => (StatusCode::UNPROCESSABLE_ENTITY, format!("{field} is invalid")),
        };
        (status, Json(serde_json::json!({ "error": error }))).into_response()
    }
}

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let app = Router::new()
        .route("/parse/{number}", get(parse))
        .route("/users/{id}", get(user))
        .route("/teapot", get(|| async { Err::<(), _>(StatusCode::IM_A_TEAPOT) }));
    server::serve(listener, app).await
}

async fn parse(Path(text): Path<String>) -> Result<String, AppError> {
    let number: i32 = text.parse()?;
    if number == 13 {
        return Err(anyhow::anyhow!("unlucky").into());
    }
    Ok(number.to_string())
}

async fn user(Path(id): Path<i64>) -> Result<String, UserError> {
    match id {
        0 => Err(UserError::NotFound),
        ..0 => Err(UserError::Invalid { field: "id" }),
        _ => Ok(format!("user {id}")),
    }
}
