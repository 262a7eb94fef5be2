//! One handler with state, which is told who asks.

use std::io;
use std::net::SocketAddr;

use axum::extract::{ConnectInfo, State};
use axum::handler::Handler;
use tokio::net::TcpListener;

use super::server;

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let app = who.with_state("you are");
    server::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await
}

async fn who(State(text): State<&'static str>, ConnectInfo(peer): ConnectInfo<SocketAddr>) -> String {
    format!("{text} {peer}")
}
