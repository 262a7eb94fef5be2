//! Values in paths: plain, typed, several, wildcards, an enum for the version, and percent-encoding.

use std::collections::BTreeMap;
use std::io;

use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{RequestPartsExt, Router};
use serde::Deserialize;
use tokio::net::TcpListener;

use super::server;

#[derive(Deserialize)]
struct Team {
    team_id: u32,
    member: String,
}

#[derive(Debug)]
enum Version {
    V1,
    V2,
}

impl<S: Send + Sync> FromRequestParts<S> for Version {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let parameters: Path<BTreeMap<String, String>> = parts.extract().await.map_err(IntoResponse::into_response)?;
        match parameters.get("version").map(String::as_str) {
            Some("v1") => Ok(Self::V1),
            Some("v2") => Ok(Self::V2),
            _ => Err((StatusCode::NOT_FOUND, "unknown version").into_response()),
        }
    }
}

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let app = Router::new()
        .route("/users/{id}", get(|Path(id): Path<u32>| async move { format!("user {id}") }))
        .route(
            "/teams/{team_id}/members/{member}",
            get(|Path(team): Path<Team>| async move { format!("{} {}", team.team_id, team.member) }),
        )
        .route("/pairs/{a}/{b}", get(|Path((a, b)): Path<(String, i8)>| async move { format!("{a:?} {b}") }))
        .route("/files/{*path}", get(|Path(path): Path<String>| async move { path }))
        .route("/{version}/status", get(|version: Version| async move { format!("{version:?}") }));
    server::serve(listener, app).await
}
