//! Middleware around the whole router, which sees paths before they are routed: trailing slashes, and a rewritten
//! target.

use std::io;

use axum::extract::{OriginalUri, Request};
use axum::http::Uri;
use axum::routing::get;
use axum::{Router, ServiceExt};
use tokio::net::TcpListener;
use tower::{Layer, util::MapRequestLayer};
use tower_http::normalize_path::NormalizePathLayer;

use super::server;

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let router = Router::new()
        .route("/", get(|| async { "root" }))
        .route("/foo", get(|OriginalUri(original): OriginalUri, uri: Uri| async move { format!("{original} {uri}") }))
        .route("/new/{name}", get(|uri: Uri| async move { uri.to_string() }));
    let app = MapRequestLayer::new(rewrite).layer(NormalizePathLayer::trim_trailing_slash().layer(router));
    server::serve(listener, ServiceExt::<Request>::into_make_service(app)).await
}

fn rewrite(mut request: Request) -> Request {
    if let Some(rest) = request.uri().path().strip_prefix("/old/") {
        *request.uri_mut() = format!("/new/{rest}").parse().unwrap();
    }
    request
}
