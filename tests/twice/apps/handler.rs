//! One handler, for every method and path.

use std::io;

use axum::handler::HandlerWithoutStateExt;
use axum::http::{Method, Uri};
use tokio::net::TcpListener;

use super::server;

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    server::serve(listener, any.into_make_service()).await
}

async fn any(method: Method, uri: Uri) -> String {
    format!("{method} {uri}")
}
