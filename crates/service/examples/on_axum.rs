//! The ready service on axum's own server, to be measured beside `baiwan serve`: the same settings, router and store, on one
//! thread with one current-thread runtime, as a core of Baiwan has it.
//!
//! Not a way to run the service: there are no limits, no deadlines and no orderly stop here.

use std::sync::Arc;

use anyhow::Context;
use baiwan_service::cli::{self, Command};
use baiwan_service::clock::Uptime;
use baiwan_service::routes::{HandlerState, Policy, Probe, router};
use baiwan_service::store::{Options, Store};

/// Where there is no engine, there is nobody who could say otherwise.
struct Always;

impl Probe for Always {
    fn is_live(&self) -> bool {
        true
    }

    fn is_ready(&self) -> bool {
        true
    }
}

fn main() -> anyhow::Result<()> {
    let Ok(Command::Serve(config, _)) = cli::parse(["on_axum", "serve"].map(Into::into)) else {
        anyhow::bail!("a setting is wrong: `baiwan check-config` says which");
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let location = config.location(None)?;
        let options = Options { cores: 1, connections_max: config.database_connections, reads_on_threads: false };
        let store = Store::open(&location, &options).await?;
        let core = store.for_core(0);
        core.open();
        let policy = Arc::new(Policy::from(&*config));
        let app =
            router(HandlerState { store: Arc::new(core), probe: Arc::new(Always), uptime: Uptime::start(), policy });
        let listener =
            tokio::net::TcpListener::bind(&*config.server.binding.tcp_addresses()).await.context("cannot listen")?;
        axum::serve(listener, app).await.context("cannot serve")
    })
}
