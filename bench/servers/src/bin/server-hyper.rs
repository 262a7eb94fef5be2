//! One function on hyper, on Tokio's current-thread runtime: what hyper itself costs, without axum's router. It has no deadlines. SIGTERM
//! ends it at once.

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    if bench_servers::version_asked("hyper")? {
        return Ok(());
    }
    let listener = bench_servers::listener()?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let mut terminate = signal(SignalKind::terminate())?;
    bench_servers::announce(listener.local_addr()?)?;
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            _ = terminate.recv() => return Ok(()),
        };
        tokio::spawn(async move {
            // A peer that leaves in the middle of something is an error to hyper.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(bench_servers::bare)).await;
        });
    }
}
