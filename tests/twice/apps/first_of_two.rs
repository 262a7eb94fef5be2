//! Two servers of which the first that ends is the end of the program.

use std::io;

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;

use super::server;
use crate::stage::Stop;

pub(crate) async fn main(one: TcpListener, other: TcpListener, stop: Stop) -> io::Result<()> {
    let app = |name: &'static str| Router::new().route("/", get(move || async move { name }));
    let endless = server::serve(one, app("one")).into_future();
    let orderly = server::serve(other, app("other")).with_graceful_shutdown(stop).into_future();
    tokio::select! {
        outcome = endless => outcome,
        outcome = orderly => outcome,
    }
}
