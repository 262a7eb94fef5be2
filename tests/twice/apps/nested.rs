//! Routers in routers, services in routers, what is left over, and methods that are not allowed.

use std::io;

use axum::Router;
use axum::extract::{MatchedPath, NestedPath, OriginalUri, Path, Request};
use axum::http::{Method, StatusCode, Uri};
use axum::routing::{MethodFilter, get, on, post};
use tokio::net::TcpListener;
use tower::service_fn;

use super::server;

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let users = Router::new()
        .route("/", get(|| async { "users" }))
        .route("/{id}", get(user).delete(|Path((_, id)): Path<(String, u32)>| async move { format!("deleted {id}") }))
        .fallback(|uri: Uri| async move { (StatusCode::NOT_FOUND, format!("no user at {uri}")) });
    let echo = service_fn(|request: Request| async move {
        Ok::<_, std::convert::Infallible>(axum::response::Response::new(axum::body::Body::from(
            request.uri().to_string(),
        )))
    });
    let app = Router::new()
        .nest("/tenants/{tenant}/users", users)
        .nest_service("/service", echo)
        .merge(Router::new().route("/merged", post(|| async { "merged" })))
        .route(
            "/either",
            on(MethodFilter::PUT.or(MethodFilter::PATCH), |method: Method| async move { method.to_string() }),
        )
        .method_not_allowed_fallback(|method: Method| async move {
            (StatusCode::METHOD_NOT_ALLOWED, format!("not {method}"))
        })
        .fallback(|| async { (StatusCode::NOT_FOUND, "nothing here") });
    server::serve(listener, app).await
}

async fn user(
    Path((tenant, id)): Path<(String, u32)>,
    matched: MatchedPath,
    nested: NestedPath,
    OriginalUri(original): OriginalUri,
    uri: Uri,
) -> String {
    format!("{tenant} {id} {} {} {original} {uri}", matched.as_str(), nested.as_str())
}
