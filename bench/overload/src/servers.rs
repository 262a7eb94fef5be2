//! The servers, each on one core, and what each does against overload.

use std::time::Duration;

use anyhow::{Context, bail};
use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::http::StatusCode;
use axum::routing::get;
use baiwan::{Admin, Overload};
use baiwan_limits::ConcurrencyLimit;
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;

use crate::load::CONNECTIONS;
use crate::work::{POOL, computing, waiting};

/// Time in the queue for the pool, and its length: as many as leave it in that time.
const WAIT_MAX: Duration = Duration::from_millis(30);
const QUEUE: usize = 12;

/// Serves until the process is killed. `variant` is `off`, `auto` (Baiwan, without and with all it has), or `axum` (`axum::serve` with
/// tower's layers); `work` is `computing` or `waiting`.
pub(crate) async fn serve(variant: &str, work: &str) -> anyhow::Result<()> {
    let app = match work {
        "computing" => computing(),
        "waiting" => waiting(),
        _ => bail!("no such work: {work}"),
    };
    match (variant, work) {
        ("off", _) => serve_with_baiwan(app, Overload::Off).await,
        ("auto", "waiting") => {
            let limit = ConcurrencyLimit::share(100, POOL).queue(QUEUE).wait(WAIT_MAX);
            serve_with_baiwan(app.layer(limit), Overload::Auto).await
        }
        ("auto", _) => serve_with_baiwan(app, Overload::Auto).await,
        ("axum", _) => serve_with_axum(app).await,
        _ => bail!("no such variant: {variant}"),
    }
}

/// The generator takes every connection: whoever asks for the health is one too many.
async fn serve_with_baiwan(app: Router, overload: Overload) -> anyhow::Result<()> {
    let builder = baiwan::Server::builder().bind("127.0.0.1:0").admin(Admin::bind("127.0.0.1:0"));
    let builder = builder.workers(1).overload(overload).max_connections(CONNECTIONS as u64);
    let running = builder.start(with_health(app))?;
    let admin = running.admin_address().context("it has no admin side")?;
    say_addresses(running.addresses().first().context("it listens nowhere")?, &admin.to_string());
    Ok(running.wait().await?)
}

/// Its health is beside what is limited.
fn with_health(app: Router) -> Router {
    app.route("/health", get(async || "healthy"))
}

async fn serve_with_axum(app: Router) -> anyhow::Result<()> {
    let overloaded = HandleErrorLayer::new(async |_: tower::BoxError| StatusCode::SERVICE_UNAVAILABLE);
    // `axum::serve` layers a router anew for each connection, so a `ConcurrencyLimitLayer` would count for each connection.
    let limit = GlobalConcurrencyLimitLayer::new(POOL);
    let limits = ServiceBuilder::new().layer(overloaded).load_shed().layer(limit);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    say_addresses(&listener.local_addr()?.to_string(), "-");
    Ok(axum::serve(listener, with_health(app.layer(limits))).await?)
}

#[expect(clippy::print_stdout, reason = "whoever has started the server reads it")]
fn say_addresses(address: &str, admin: &str) {
    println!("{address} {admin}");
}
