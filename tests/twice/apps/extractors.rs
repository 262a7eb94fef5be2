//! Extractors of its own: from the head, from the body by content type, and around others.

use std::io;

use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, post};
use axum::{Form, Json, RequestExt, Router};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::server;

/// The client's name for itself.
struct UserAgent(HeaderValue);

impl<S: Send + Sync> FromRequestParts<S> for UserAgent {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let agent = parts.headers.get("user-agent").cloned();
        agent.map(Self).ok_or((StatusCode::BAD_REQUEST, "`User-Agent` header is missing"))
    }
}

/// JSON or a form, as the content type says.
struct JsonOrForm<T>(T);

impl<S: Send + Sync, T: DeserializeOwned + 'static> FromRequest<S> for JsonOrForm<T> {
    type Rejection = Response;

    async fn from_request(request: Request, _: &S) -> Result<Self, Self::Rejection> {
        let kind = request.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if kind.starts_with("application/json") {
            let Json(payload) = request.extract().await.map_err(IntoResponse::into_response)?;
            return Ok(Self(payload));
        }
        if kind.starts_with("application/x-www-form-urlencoded") {
            let Form(payload) = request.extract().await.map_err(IntoResponse::into_response)?;
            return Ok(Self(payload));
        }
        Err(StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response())
    }
}

#[derive(Deserialize, Serialize)]
struct Payload {
    foo: String,
}

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let app = Router::new()
        .route("/agent", any(|UserAgent(agent): UserAgent| async move { agent.to_str().unwrap_or("?").to_owned() }))
        .route("/either", post(|JsonOrForm(payload): JsonOrForm<Payload>| async move { Json(payload) }))
        .route("/parts", any(parts))
        .route("/text", post(|text: String| async move { text.to_uppercase() }));
    server::serve(listener, app).await
}

async fn parts(method: Method, uri: Uri, version: Version, headers: HeaderMap) -> String {
    let mut names: Vec<_> = headers.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    names.sort();
    format!("{method} {uri} {version:?} {names:?}")
}
