//! The app on Baiwan, one worker. Deadlines stay on, as in production, but no connection reaches one.

use std::time::Duration;

const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3600);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let server = baiwan::Server::builder()
        .bind("127.0.0.1:0")
        .workers(1)
        .keep_alive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .start(bench_servers::app())?;
    for address in server.addresses() {
        bench_servers::announce(address)?;
    }
    server.wait().await?;
    Ok(())
}
