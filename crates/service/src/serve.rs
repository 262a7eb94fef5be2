//! `baiwan serve`: starts store and engine, says what is in force, and stops them in order.
//!
//! The order is the invariant: the store opens before the first connection and closes after the last one, so that a
//! request that was received can always be stored. The engine owns signals, draining and deadlines.
//!
//! The runtime that waits for the end, and the threads of the log and the store, are there before the cores start: where each core
//! has an fd table of its own, it can wake nothing that came later.

use std::future::{Future, poll_fn};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;

use anyhow::anyhow;
use baiwan::{AccessLogFormat, Builder, CloseReason, FdTables, Running, Server};
use baiwan_task::{FailureKind, Handle, TaskGroup};
use tracing::{info, warn};

use crate::activation::{Given, Sockets};
use crate::clock::Uptime;
use crate::config::{Config, LogFormat, ReadyRequires};
use crate::logs;
use crate::notify;
use crate::orphans;
use crate::refusals::Refusals;
use crate::routes::{HandlerState, JSON_BODY_MAX, Policy, Probe, router};
use crate::shared_limit::take_shared;
use crate::signals;
use crate::startup::Startup;
use crate::stopping::Stopping;
use crate::store::{Location, Options, Store};

impl Probe for baiwan::Health {
    fn is_live(&self) -> bool {
        baiwan::Health::is_live(self)
    }

    fn is_ready(&self) -> bool {
        baiwan::Health::is_ready(self)
    }
}

/// Serves until SIGTERM or Ctrl-C; returns when the last connection is gone and the store is closed.
///
/// # Errors
///
/// What keeps it from starting or from stopping cleanly, in one line that says what to do.
pub fn run(config: &Config) -> anyhow::Result<()> {
    let sockets = Sockets::take(config.admin.host.is_some())?;
    let json = logs::start(&config.log_level, config.log_format)?;
    sockets.say();
    let _heartbeat = notify::begin();
    let uptime = Uptime::start();
    let location = config.location_here()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(baiwan::Error::Start)?;
    let ignored = runtime.block_on(async { signals::ignore() }).map_err(baiwan::Error::Signals)?;
    orphans::adopt(&runtime).map_err(baiwan::Error::Signals)?;
    let cores = config.server.worker_count();
    let store = runtime.block_on(open_store(config, &location, cores))?;
    let mut server = config.server.clone();
    server.access_log = server.access_log.format(match config.log_format {
        LogFormat::Auto => AccessLogFormat::Auto,
        LogFormat::Json => AccessLogFormat::Json,
        LogFormat::Text => AccessLogFormat::Text,
    });
    let shared_limit = take_shared(config, &mut server);
    let given = sockets.given();
    let Sockets { servers, admin, .. } = sockets;
    let builder = Server::from_settings_on(server, servers).workers(cores);
    let builder = builder.buffered_body_limit(JSON_BODY_MAX).request_ids(true);
    let builder = builder.refusal_cors(config.cors_origins.for_refusals());
    let builder = with_admin(builder, config, admin, &store);
    let health = builder.health();
    notify::watch(&health);
    let probe = Arc::new(health.clone());
    let policy = Arc::new(Policy { shared_limit: shared_limit.clone(), ..Policy::from(config) });
    let stores: Vec<_> = (0..cores).map(|core| store.for_core(core)).collect();
    let within = runtime.enter();
    signals::handle_stops().map_err(baiwan::Error::Signals)?;
    let running = builder.start_with(move |core| {
        let store = stores[core].clone();
        store.open();
        let (probe, policy) = (Arc::<baiwan::Health>::clone(&probe), Arc::clone(&policy));
        router(HandlerState { store, probe, uptime, policy })
    })?;
    drop(within);
    if running.predecessor().is_some() {
        // systemd has started another one.
        notify::main_pid(std::process::id());
    }
    let startup = startup(config, &running, given, &location);
    let mut said = Said {
        refusals: Refusals::new(health.clone(), shared_limit),
        stopping: Stopping::new(health.clone(), config, running.event_loop()),
    };
    let drained = runtime.block_on(TaskGroup::new().name("serve").scope(async |group| {
        let mut saying = Vec::new();
        for signal in ignored {
            saying.push(group.spawn(signal.say()).await);
        }
        wait(running, &mut said, || startup.announce(json)).await?;
        saying.iter().for_each(Handle::cancel);
        Ok(())
    }));
    said.refusals.say();
    let changes = store.changes();
    store.close();
    drained.map_err(|failures| match failures.into_first().into_kind() {
        FailureKind::Error(error) => anyhow::Error::new(error),
        FailureKind::Panicked(panic) => panic.resume(),
        other => anyhow!("the service was given up: {other:?}"),
    })?;
    say_the_end(&health, uptime, changes);
    Ok(())
}

/// What came out of the start.
fn startup<'a>(config: &'a Config, running: &Running, given: Given, location: &Location) -> Startup<'a> {
    let limits = running.limits();
    Startup {
        config,
        addresses: running.addresses(),
        admin: running.admin_address(),
        given,
        event_loop: running.event_loop().name().to_owned(),
        workers: running.workers(),
        connections_max: limits.max_connections,
        notes: limits.notes.clone(),
        database: location.to_string(),
    }
}

/// With the admin side, which looks after the store as well.
fn with_admin(mut builder: Builder, config: &Config, socket: Option<OwnedFd>, store: &Store) -> Builder {
    let Some(admin) = config.admin.admin(socket) else { return builder };
    let metrics = builder.metrics();
    metrics.add_part(store.collector());
    metrics.main_log_dropped(logs::lost_lines);
    let admin = admin.log_level(|| logs::log_level().unwrap_or_default(), logs::set_log_level);
    // It has a connection of its own to an SQLite file, and shares those of the first core to PostgreSQL.
    let store = Arc::new(store.for_core(0));
    let check = move || {
        let store = Arc::clone(&store);
        async move { store.watch().await }
    };
    builder.admin(match config.ready_requires {
        ReadyRequires::Store => admin.required_check("store", check),
        ReadyRequires::Nothing => admin.check("store", check),
    })
}

/// The last lines of the log.
fn say_the_end(health: &baiwan::Health, uptime: Uptime, changes: u64) {
    let cut = health.counts().closed_by(CloseReason::DrainTimeout);
    if cut > 0 {
        warn!(
            connections = cut,
            "connections were cut: the time for an orderly stop was over, or a second signal came"
        );
    }
    info!(uptime_seconds = uptime.seconds(), changes, "stopped");
}

async fn open_store(config: &Config, location: &Location, cores: usize) -> anyhow::Result<Store> {
    if config.demo {
        match Store::fill_for_demonstration(location).await? {
            0 => info!("--demo stores nothing: there are users already"),
            users => info!(users, "users for a demonstration were stored"),
        }
    }
    // SQLite must not be used in several fd tables.
    let reads_on_threads = config.server.fd_tables == FdTables::PerCore;
    let options = Options { cores, connections_max: config.database_connections, reads_on_threads };
    Ok(Store::open(location, &options).await?)
}

/// What is said while the server runs.
struct Said {
    refusals: Refusals,
    stopping: Stopping,
}

/// Waits for the end. Announces the start once somebody waits: whoever is told that the service is ready may stop it right away.
async fn wait(running: baiwan::Running, said: &mut Said, announce: impl FnOnce()) -> Result<(), baiwan::Error> {
    let Said { refusals, stopping } = said;
    let mut ended = pin!(running.wait());
    let mut refusals = pin!(refusals.say_every_minute());
    let mut announce = Some(announce);
    poll_fn(|cx| {
        let outcome = ended.as_mut().poll(cx);
        if let Some(announce) = announce.take() {
            announce();
        }
        // These go on for as long as the server does.
        let _ = refusals.as_mut().poll(cx);
        if outcome.is_pending() {
            stopping.poll(cx);
        }
        outcome
    })
    .await
}
