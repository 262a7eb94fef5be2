//! A program that drops its server when it is told to, and goes on with another one, as some do to read their settings
//! again.

use std::io;

use axum::Router;
use axum::routing::{get, post};
use tokio::net::TcpListener;

use super::server;
use crate::stage::Stop;

pub(crate) async fn main(first: TcpListener, second: TcpListener, stop: Stop) -> io::Result<()> {
    let app = |name: &'static str| {
        Router::new()
            .route("/", get(move || async move { name }))
            .route("/echo", post(|body: String| async move { body }))
    };
    tokio::select! {
        outcome = server::serve(first, app("first")).into_future() => outcome?,
        () = stop => {}
    }
    server::serve(second, app("second")).await
}
