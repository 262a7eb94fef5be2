//! A Unix socket, and who is at its other end.

use std::io;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::extract::connect_info::Connected;
use axum::routing::get;
use tokio::net::UnixListener;
use tokio::net::unix::UCred;

use super::server;

#[derive(Clone, Debug)]
struct Peer {
    credentials: UCred,
    is_unnamed: bool,
}

impl Connected<axum::serve::IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: axum::serve::IncomingStream<'_, UnixListener>) -> Self {
        Self { credentials: stream.io().peer_cred().unwrap(), is_unnamed: stream.remote_addr().is_unnamed() }
    }
}

/// What the other server needs; both may stand beside each other.
impl Connected<baiwan::IncomingStream<'_>> for Peer {
    fn connect_info(stream: baiwan::IncomingStream<'_>) -> Self {
        let is_unnamed = stream.unix_peer_addr().is_ok_and(|address| address.is_unnamed());
        Self { credentials: stream.peer_cred().unwrap(), is_unnamed }
    }
}

pub(crate) async fn main(listener: UnixListener) -> io::Result<()> {
    let app = Router::new().route(
        "/",
        get(|ConnectInfo(peer): ConnectInfo<Peer>| async move {
            format!("{:?} {}", peer.credentials.pid(), peer.is_unnamed)
        }),
    );
    server::serve(listener, app.into_make_service_with_connect_info::<Peer>()).await
}
