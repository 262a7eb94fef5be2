//! A listener that wraps another one, as `axum::serve` takes it.

use std::net::SocketAddr;

use axum::Router;
use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};

struct Mine(TcpListener);

impl Listener for Mine {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        self.0.accept().await.unwrap()
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

async fn serve(listener: TcpListener) -> std::io::Result<()> {
    baiwan::serve(Mine(listener), Router::new()).await
}

fn main() {
    let _ = serve;
}
