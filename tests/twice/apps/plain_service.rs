//! A service without a router, behind layers that see every request, told who asks.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use axum::ServiceExt;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use http_body_util::BodyExt;
use tokio::net::TcpListener;
use tower::{ServiceBuilder, service_fn};
use tower_http::normalize_path::NormalizePathLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use super::server;

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let app = ServiceBuilder::new()
        .layer(SetResponseHeaderLayer::overriding(header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
        .layer(NormalizePathLayer::trim_trailing_slash())
        .service(service_fn(answer));
    server::serve(listener, ServiceExt::<Request>::into_make_service_with_connect_info::<SocketAddr>(app)).await
}

async fn answer(request: Request) -> Result<Response, Infallible> {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    let text = format!("{peer:?} {} {}", request.method(), request.uri());
    let length = request.into_body().collect().await.map(|body| body.to_bytes().len());
    Ok(Response::new(Body::from(format!("{text} {:?}", length.ok()))))
}
