//! The app on `axum::serve`, which is hyper, on Tokio's current-thread runtime. It has no deadlines by default.

use axum::serve::ListenerExt;
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    bench_servers::announce(listener.local_addr()?)?;
    // Baiwan's connections have it too.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, bench_servers::app()).await?;
    Ok(())
}
