//! Ids of requests: made where none came, handed on to the answer.

use std::io;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Request};
use axum::routing::get;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_http::propagate_header::PropagateHeaderLayer;
use tower_http::request_id::{MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer};

use super::server;

#[derive(Clone, Default)]
struct Counter(Arc<AtomicU64>);

impl MakeRequestId for Counter {
    fn make_request_id<B>(&mut self, _: &Request<B>) -> Option<RequestId> {
        let number = self.0.fetch_add(1, Relaxed) + 1;
        Some(RequestId::new(HeaderValue::from(number)))
    }
}

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let name = HeaderName::from_static("x-request-id");
    let layers = ServiceBuilder::new()
        .layer(SetRequestIdLayer::new(name.clone(), Counter::default()))
        .layer(PropagateRequestIdLayer::new(name))
        .layer(PropagateHeaderLayer::new(HeaderName::from_static("x-tenant")));
    let app = Router::new().route("/", get(|| async { "hello" })).layer(layers);
    server::serve(listener, app).await
}
