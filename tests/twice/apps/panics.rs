//! Handlers and bodies that panic, with a layer that catches it and without.

use std::any::Any;
use std::io;

use axum::Router;
use axum::body::Body;
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use futures_util::stream;
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;

use super::server;

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let custom = |_: Box<dyn Any + Send>| (StatusCode::INTERNAL_SERVER_ERROR, "we are sorry").into_response();
    let app = Router::new()
        .route("/caught", get(panics).layer(CatchPanicLayer::new()))
        .route("/custom", get(panics).layer(CatchPanicLayer::custom(custom)))
        .route("/bare", get(panics))
        .route(
            "/late",
            get(|| async {
                tokio::task::yield_now().await;
                panics().await
            }),
        )
        .route("/body", get(body))
        .route("/fine", get(|| async { "fine" }));
    server::serve(listener, app).await
}

async fn panics() -> Response<Body> {
    std::panic::resume_unwind(Box::new("on purpose"));
}

/// Panics when the first piece has left.
async fn body() -> Body {
    Body::from_stream(stream::unfold(0, |number| async move {
        if number == 1 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            panics().await;
        }
        Some((Ok::<_, io::Error>("begun"), number + 1))
    }))
}
