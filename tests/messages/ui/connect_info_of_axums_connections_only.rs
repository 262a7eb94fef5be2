//! A `ConnectInfo` that knows only the connections of `axum::serve`: as in axum's example of a Unix socket.

use std::sync::Arc;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::extract::connect_info::Connected;
use axum::routing::get;
use axum::serve::IncomingStream;
use tokio::net::unix::{SocketAddr, UCred};
use tokio::net::UnixListener;

async fn handler(ConnectInfo(info): ConnectInfo<UdsConnectInfo>) -> String {
    format!("{info:?}")
}

#[derive(Clone, Debug)]
#[allow(dead_code, reason = "it is only printed")]
struct UdsConnectInfo {
    peer_addr: Arc<SocketAddr>,
    peer_cred: UCred,
}

impl Connected<IncomingStream<'_, UnixListener>> for UdsConnectInfo {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let peer_addr = stream.io().peer_addr().unwrap();
        let peer_cred = stream.io().peer_cred().unwrap();
        Self { peer_addr: Arc::new(peer_addr), peer_cred }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let uds = UnixListener::bind("/run/app.sock").unwrap();
    tokio::spawn(async move {
        let app = Router::new().route("/", get(handler)).into_make_service_with_connect_info::<UdsConnectInfo>();
        baiwan::serve(uds, app).await.unwrap();
    });
}
