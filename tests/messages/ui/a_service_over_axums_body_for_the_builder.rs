//! A layer that is written for axum's body, around a router, for the builder.

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use tower::Layer;

async fn pass(request: Request, next: Next) -> Response {
    next.run(request).await
}

fn main() {
    let app = from_fn(pass).layer(Router::new());
    let _server = baiwan::Server::builder().bind("127.0.0.1:0").start(app);
}
