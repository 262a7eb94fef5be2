//! The app on `axum::serve`, which is hyper, on Tokio's current-thread runtime. It has no deadlines by default. SIGTERM stops it
//! in order, as it stops Baiwan.

use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut terminate = signal(SignalKind::terminate())?;
    bench_servers::announce(listener.local_addr()?)?;
    // Baiwan's connections have it too.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    let stop = async move {
        terminate.recv().await;
    };
    axum::serve(listener, bench_servers::app()).with_graceful_shutdown(stop).await?;
    Ok(())
}
