//! Baiwan with `WORKERS` workers that share a listener (`LISTEN=shared`), or have one each (`LISTEN=each`). Each answers with its
//! number.

use axum::Router;
use axum::routing::get;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    if bench_servers::version_asked("baiwan")? {
        return Ok(());
    }
    let workers = std::env::var("WORKERS")?.parse()?;
    let builder = baiwan::Server::builder().workers(workers);
    let builder = match std::env::var("LISTEN").as_deref() {
        Ok("shared") => builder.listener(bench_servers::listener()?),
        Ok("each") => builder.bind("127.0.0.1:0"),
        other => anyhow::bail!("LISTEN is shared or each, not {other:?}"),
    };
    let server = builder.start_with(|core| Router::new().route("/", get(move || async move { core.to_string() })))?;
    for address in server.addresses() {
        bench_servers::announce(address)?;
    }
    server.wait().await?;
    Ok(())
}
