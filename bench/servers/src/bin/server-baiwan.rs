//! The app on Baiwan, one worker unless `WORKERS` says otherwise. Deadlines stay on, as in production. Only rows with stalled connections come near one, and
//! may set it (`HEADER_TIMEOUT`, `BODY_TIMEOUT`). Clients are limited if `RATE_LIMIT` says so; requests are
//! counted if `METRICS` is set and the feature `metrics` is on, and have ids and lines in the file `ACCESS_LOG`. Several processes may
//! share one `ADDRESS`
//! (`REUSE_PORT`). After the stop it says how many requests it has received.

use std::time::Duration;

use anyhow::Context;

const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3600);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    if bench_servers::version_asked("baiwan")? {
        return Ok(());
    }
    let address = std::env::var("ADDRESS").unwrap_or_else(|_| "127.0.0.1:0".to_owned());
    let reuse_port = std::env::var_os("REUSE_PORT").is_some();
    let workers = std::env::var("WORKERS").map_or(Ok(1), |text| text.parse()).context("WORKERS is a number")?;
    let mut builder = baiwan::Server::builder()
        .bind(address)
        .reuse_port(reuse_port)
        .workers(workers)
        .keep_alive_timeout(Some(KEEP_ALIVE_TIMEOUT));
    if let Some(timeout) = deadline("HEADER_TIMEOUT")? {
        builder = builder.header_timeout(Some(timeout));
    }
    if let Some(timeout) = deadline("BODY_TIMEOUT")? {
        builder = builder.body_timeout(Some(timeout));
    }
    if let Ok(quota) = std::env::var("RATE_LIMIT") {
        builder = builder.rate_limit(Some(quota.parse()?));
    }
    if let Some(path) = std::env::var_os("ACCESS_LOG") {
        builder = builder.request_ids(true).access_log(baiwan::AccessLog::file(path).sample_above(None));
    }
    #[cfg(feature = "metrics")]
    if std::env::var_os("METRICS").is_some() {
        builder.metrics();
    }
    let health = builder.health();
    // As `baiwan::serve` does it.
    let server = builder.start(baiwan::axum_app(bench_servers::app()))?;
    for address in server.addresses() {
        bench_servers::announce(address)?;
    }
    server.wait().await?;
    bench_servers::say(health.counts().requests)?;
    Ok(())
}

/// A deadline that the bench wants, if any.
fn deadline(variable: &str) -> anyhow::Result<Option<Duration>> {
    let Ok(text) = std::env::var(variable) else { return Ok(None) };
    baiwan::parse_timeout(&text).map_err(|allowed| anyhow::anyhow!("{variable} is {allowed}, not {text}"))
}
