//! The app on `axum::serve`, which is hyper, on Tokio's current-thread runtime. It has no deadlines by default. SIGTERM stops it
//! in order, as it stops Baiwan.

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    if bench_servers::version_asked("axum")? {
        return Ok(());
    }
    let listener = bench_servers::listener()?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let mut terminate = signal(SignalKind::terminate())?;
    bench_servers::announce(listener.local_addr()?)?;
    let stop = async move {
        terminate.recv().await;
    };
    axum::serve(listener, bench_servers::app()).with_graceful_shutdown(stop).await?;
    Ok(())
}
