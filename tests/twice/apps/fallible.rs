//! A tower service whose errors become answers: `HandleError`, load shedding, and a service that is not axum's.

use std::convert::Infallible;
use std::io;

use axum::Router;
use axum::body::Body;
use axum::error_handling::{HandleError, HandleErrorLayer};
use axum::extract::Request;
use axum::http::{Method, Response, StatusCode, Uri};
use axum::routing::{any_service, get};
use tokio::net::TcpListener;
use tower::{BoxError, ServiceBuilder, service_fn};

use super::server;

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let fallible = service_fn(|request: Request| async move {
        match request.uri().query() {
            Some("fail") => Err(anyhow::anyhow!("it failed")),
            query => Ok(Response::new(Body::from(format!("{query:?}")))),
        }
    });
    let handled = HandleError::new(fallible, |method: Method, uri: Uri, error: anyhow::Error| async move {
        (StatusCode::BAD_GATEWAY, format!("{method} {uri}: {error}"))
    });
    let plain = service_fn(|_: Request| async { Ok::<_, Infallible>(Response::new(Body::from("a plain service"))) });
    let layers = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(
            |error: BoxError| async move { (StatusCode::SERVICE_UNAVAILABLE, error.to_string()) },
        ))
        .load_shed()
        .concurrency_limit(100);
    let app = Router::new()
        .route_service("/fallible", handled)
        .route("/plain", any_service(plain))
        .route("/limited", get(|| async { "within the limit" }).layer(layers));
    server::serve(listener, app).await
}
