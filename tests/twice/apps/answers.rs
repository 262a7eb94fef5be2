//! Answers that say something of themselves which is not so, and others at the edge of what an app may say.

use std::io;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use axum::routing::get;
use futures_util::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::ext::ReasonPhrase;
use tokio::net::TcpListener;

use super::server;

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let app = Router::new()
        .route("/{status}/{name}/{value}", get(with_field))
        .route("/{status}/stream/{name}/{value}", get(stream_with_field))
        .route(
            "/twice",
            get(|| async {
                Response::builder()
                    .header("content-length", "5")
                    .header("content-length", "5")
                    .body(Body::from("hello"))
                    .unwrap()
            }),
        )
        .route("/reason", get(reason))
        .route("/trailers", get(|| async { trailers(false) }))
        .route("/trailers/announced", get(|| async { trailers(true) }))
        .route("/many", get(many));
    server::serve(listener, app).await
}

/// `hello`, with a status and a field.
async fn with_field(Path((status, name, value)): Path<(u16, String, String)>) -> Response<Body> {
    let body = if matches!(status, 100..200) { Body::empty() } else { Body::from("hello") };
    Response::builder().status(status).header(name, value).body(body).unwrap()
}

async fn stream_with_field(Path((status, name, value)): Path<(u16, String, String)>) -> Response<Body> {
    let pieces = stream::iter(["hel", "lo"].map(Ok::<_, io::Error>));
    Response::builder().status(status).header(name, value).body(Body::from_stream(pieces)).unwrap()
}

async fn reason() -> Response<Body> {
    let mut response = Response::new(Body::from("why"));
    *response.status_mut() = StatusCode::CREATED;
    response.extensions_mut().insert(ReasonPhrase::from_static(b"Made by Hand"));
    response
}

fn trailers(announced: bool) -> Response<Body> {
    let fields = HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("7"))]);
    let frames = [Frame::data("body".into()), Frame::trailers(fields)].map(Ok::<Frame<axum::body::Bytes>, io::Error>);
    let mut response = Response::new(Body::new(StreamBody::new(stream::iter(frames))));
    if announced {
        response.headers_mut().insert("trailer", HeaderValue::from_static("x-sum"));
    }
    response
}

/// More fields than a request may have, and a long one.
async fn many() -> Response<Body> {
    let mut response = Response::new(Body::from("many"));
    for number in 0..150 {
        response.headers_mut().append("x-number", HeaderValue::from(number));
    }
    response.headers_mut().insert("x-long", "y".repeat(20_000).parse().unwrap());
    response
}
