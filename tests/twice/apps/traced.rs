//! `TraceLayer`, whose callbacks are counted, and the counts read by a route.

use std::io;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{MatchedPath, Request};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use tokio::net::TcpListener;
use tower_http::trace::TraceLayer;
use tracing::Span;

use super::server;

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let log: Arc<Mutex<Vec<String>>> = Arc::default();
    let line = |log: &Arc<Mutex<Vec<String>>>| {
        let log = Arc::clone(log);
        move |text: String| log.lock().unwrap().push(text)
    };
    let (request, response, chunk, end, failure) = (line(&log), line(&log), line(&log), line(&log), line(&log));
    let trace = TraceLayer::new_for_http()
        .make_span_with(|request: &Request| {
            let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
            tracing::info_span!("request", method = %request.method(), path)
        })
        .on_request(move |it: &Request, _: &Span| request(format!("> {} {}", it.method(), it.uri())))
        .on_response(move |it: &Response, _: _, _: &Span| response(format!("< {}", it.status())))
        .on_body_chunk(move |it: &Bytes, _: _, _: &Span| chunk(format!("  {} bytes", it.len())))
        .on_eos(move |_: Option<&HeaderMap>, _: _, _: &Span| end("  end".to_owned()))
        .on_failure(move |error: _, _: _, _: &Span| {
            let error: tower_http::classify::ServerErrorsFailureClass = error;
            failure(format!("! {error}"));
        });
    let app = Router::new()
        .route("/", get(|| async { "hello" }))
        .route("/fails", get(|| async { axum::http::StatusCode::INTERNAL_SERVER_ERROR }))
        .layer(trace)
        .route("/log", get(move || async move { log.lock().unwrap().join("\n") }));
    server::serve(listener, app).await
}
