//! What is known of a connection as a type of the program's own.

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::extract::connect_info::Connected;
use axum::routing::get;
use tokio::net::TcpListener;

use super::server;

#[derive(Clone, Debug)]
struct Peer {
    remote: SocketAddr,
    local_port: u16,
    nodelay: bool,
}

impl Connected<axum::serve::IncomingStream<'_, TcpListener>> for Peer {
    fn connect_info(stream: axum::serve::IncomingStream<'_, TcpListener>) -> Self {
        let local_port = stream.io().local_addr().map_or(0, |address| address.port());
        Self { remote: *stream.remote_addr(), local_port, nodelay: stream.io().nodelay().unwrap() }
    }
}

/// What the other server needs; both may stand beside each other.
impl Connected<baiwan::IncomingStream<'_>> for Peer {
    fn connect_info(stream: baiwan::IncomingStream<'_>) -> Self {
        let local_port = stream.local_addr().map_or(0, |address| address.port());
        let nodelay = rustix::net::sockopt::tcp_nodelay(stream).unwrap();
        Self { remote: *stream.remote_addr(), local_port, nodelay }
    }
}

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let app = Router::new()
        .route(
            "/",
            get(|ConnectInfo(peer): ConnectInfo<Peer>| async move { format!("{} {}", peer.remote, peer.local_port) }),
        )
        .route("/nodelay", get(|ConnectInfo(peer): ConnectInfo<Peer>| async move { peer.nodelay.to_string() }));
    server::serve(listener, app.into_make_service_with_connect_info::<Peer>()).await
}
