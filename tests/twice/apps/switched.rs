//! A protocol of its own behind `Upgrade`, through hyper's upgrades.

use std::io;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Response, StatusCode};
use axum::routing::get;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::server;

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let app = Router::new().route("/shout", get(shout)).route("/", get(|| async { "plain" }));
    server::serve(listener, app).await
}

/// Answers every line in capitals.
async fn shout(mut request: Request) -> Response<Body> {
    if request.headers().get("upgrade").is_none_or(|protocol| protocol != "shout") {
        return Response::builder()
            .status(StatusCode::UPGRADE_REQUIRED)
            .header("upgrade", "shout")
            .body(Body::empty())
            .unwrap();
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let mut stream = BufReader::new(TokioIo::new(upgraded));
        let mut line = String::new();
        while stream.read_line(&mut line).await.is_ok_and(|count| count > 0) {
            if stream.write_all(line.to_uppercase().as_bytes()).await.is_err() {
                return;
            }
            line.clear();
        }
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("upgrade", "shout")
        .header("connection", "upgrade")
        .body(Body::empty())
        .unwrap()
}
