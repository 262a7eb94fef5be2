//! Answers that come in the middle of an upload, for clients that send all before they read, as most do.

use std::io::{Read, Write};
use std::net::TcpStream;

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use baiwan::EventLoop;

use crate::rig::{Rig, server};

const UPLOAD_BYTES: usize = 20_000_000;
const ROUNDS: usize = 5;

fn app() -> Router {
    Router::new()
        .route("/forbidden", post(|| async { StatusCode::UNAUTHORIZED }))
        .route("/late", post(late))
        .route("/too-large", post(|body: Bytes| async move { body.len().to_string() }))
}

async fn late() -> StatusCode {
    tokio::task::yield_now().await;
    StatusCode::UNPROCESSABLE_ENTITY
}

#[test]
fn row_38b_who_sends_20_megabytes_before_it_reads_can_read_an_early_answer() {
    for event_loop in [EventLoop::Epoll, EventLoop::Portable] {
        let rig = Rig::start(server(event_loop), app());
        let framed = [format!("Content-Length: {UPLOAD_BYTES}"), "Transfer-Encoding: chunked".to_owned()];
        for (path, status) in [("/forbidden", 401), ("/late", 422), ("/too-large", 413), ("/missing", 404)] {
            for framing in &framed {
                for _ in 0..ROUNDS {
                    let mut client = TcpStream::connect(rig.address()).unwrap();
                    client
                        .write_all(format!("POST {path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n").as_bytes())
                        .unwrap();
                    let body = vec![b'x'; UPLOAD_BYTES];
                    if framing.starts_with("Transfer") {
                        client.write_all(format!("{UPLOAD_BYTES:x}\r\n").as_bytes()).unwrap();
                    }
                    client.write_all(&body).unwrap();
                    let mut answer = [0; 12];
                    client.read_exact(&mut answer).unwrap();
                    let expected = format!("HTTP/1.1 {status}");
                    assert_eq!(String::from_utf8_lossy(&answer), expected, "{event_loop:?} {path} {framing}");
                }
            }
        }
        rig.stop();
    }
}
