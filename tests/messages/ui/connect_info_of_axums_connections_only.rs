//! A `ConnectInfo` that knows only the connections of `axum::serve`.

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::net::TcpListener;

#[derive(Clone)]
struct Caller;

impl Connected<IncomingStream<'_, TcpListener>> for Caller {
    fn connect_info(_: IncomingStream<'_, TcpListener>) -> Self {
        Self
    }
}

fn main() {
    let app = Router::new().into_make_service_with_connect_info::<Caller>();
    let _server = baiwan::serve("127.0.0.1:0", app);
}
