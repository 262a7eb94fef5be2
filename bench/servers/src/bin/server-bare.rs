//! One function on Baiwan, one worker: what the server itself costs, without axum's router. It is a program of its own, because two kinds
//! of apps in one program are compiled otherwise than one.

use std::time::Duration;

const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3600);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    if bench_servers::version_asked("baiwan")? {
        return Ok(());
    }
    let address = std::env::var("ADDRESS").unwrap_or_else(|_| "127.0.0.1:0".to_owned());
    let builder = baiwan::Server::builder().bind(address).workers(1).keep_alive_timeout(Some(KEEP_ALIVE_TIMEOUT));
    let server = builder.start(tower::service_fn(bench_servers::bare))?;
    for address in server.addresses() {
        bench_servers::announce(address)?;
    }
    server.wait().await?;
    Ok(())
}
