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
use std::sync::{Arc, Once};

use anyhow::anyhow;
use baiwan::{AdminToken, Builder, CloseReason, FdTables, Running};
use baiwan_task::{FailureKind, Handle, TaskGroup};
use tokio::signal::unix::Signal;
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::activation::{Given, Sockets};
use crate::clock::Uptime;
use crate::config::{Config, Reading, ReadyRequires};
use crate::logs;
use crate::notify;
use crate::orphans;
use crate::refusals::Refusals;
use crate::reload::{Policies, Reload};
use crate::reload_outcome::{Outcome, OutcomeCollector};
use crate::routes::{HandlerState, Policy, Probe, router};
use crate::server;
use crate::shared_limit::SharedLimits;
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
pub fn run(config: &Config, reading: Reading) -> anyhow::Result<()> {
    let sockets = Sockets::take(config.admin.host.is_some(), config.server.takeover.is_some())?;
    let json = logs::start(&config.log_level, config.log_format)?;
    sockets.say();
    let _heartbeat = notify::begin();
    let uptime = Uptime::start();
    let location = config.location_here()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(baiwan::Error::Start)?;
    let (ignored, hangups) =
        runtime.block_on(async { Ok((signals::ignore()?, signals::hangups()?)) }).map_err(baiwan::Error::Signals)?;
    orphans::adopt(&runtime).map_err(baiwan::Error::Signals)?;
    let cores = config.server.worker_count();
    let store = runtime.block_on(open_store(config, &location, cores))?;
    let mut settings = config.server.clone();
    let shared_limit = SharedLimits::open(config);
    let limit = shared_limit.as_ref().and_then(|limits| limits.take(&mut settings));
    let outcome = Outcome::of_start();
    let given = sockets.given();
    let Sockets { servers, admin, .. } = sockets;
    let builder = server::of(config, settings, servers).workers(cores);
    let (builder, admin_token) = with_admin(builder, config, admin, &store, shared_limit.as_deref(), &outcome);
    let health = builder.health();
    notify::watch(&health);
    let probe = Arc::new(health.clone());
    let policies = Policies::new(Policy { shared_limit: limit, ..Policy::from(config) });
    let stores: Vec<_> = (0..cores).map(|core| (Arc::new(store.for_core(core)), Once::new())).collect();
    let within = runtime.enter();
    signals::handle_stops().map_err(baiwan::Error::Signals)?;
    let of_routes = Arc::clone(&policies);
    // Called once more by each core when the settings have changed.
    let running = builder.start_with(move |core| {
        let (store, opened) = &stores[core];
        opened.call_once(|| store.open());
        let (store, probe, policy) = (Arc::clone(store), Arc::<baiwan::Health>::clone(&probe), of_routes.now());
        router(HandlerState { store, probe, uptime, policy })
    })?;
    drop(within);
    if running.predecessor().is_some() {
        // systemd has started another one.
        notify::main_pid(std::process::id());
    }
    let startup = startup(config, &running, given, &location);
    let reload = Reload {
        again: Arc::new(reading.again),
        config: config.clone(),
        traces: reading.traces,
        reloader: running.reloader(),
        policies,
        admin_token,
        shared_limit,
        outcome,
        health: health.clone(),
        status: startup.status(),
    };
    let mut said = Said {
        refusals: Refusals::new(health.clone()),
        stopping: Stopping::new(health.clone(), config, running.event_loop()),
    };
    let heard = Heard { ignored, reload: hangups.map(|hangups| (hangups, reload)) };
    let drained = runtime.block_on(until_stopped(running, &mut said, heard, || startup.announce(json)));
    said.refusals.say();
    let changes = store.changes();
    store.close();
    drained?;
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

/// With the admin side, which looks after the store as well, and the token that it demands.
fn with_admin(
    mut builder: Builder,
    config: &Config,
    socket: Option<OwnedFd>,
    store: &Store,
    shared_limit: Option<&SharedLimits>,
    outcome: &Arc<Outcome>,
) -> (Builder, Option<AdminToken>) {
    let Some(admin) = config.admin.admin(socket) else { return (builder, None) };
    let metrics = builder.metrics();
    metrics.add_part(store.collector());
    if let Some(limits) = shared_limit {
        metrics.add_part(limits.collector());
    }
    metrics.add_part(OutcomeCollector(Arc::clone(outcome)));
    metrics.main_log_dropped(logs::lost_lines);
    let token = admin.token_in_force();
    let admin = admin.log_level(|| logs::log_level().unwrap_or_default(), logs::set_log_level);
    // It has a connection of its own to an SQLite file, and shares those of the first core to PostgreSQL.
    let store = Arc::new(store.for_core(0));
    let check = move || {
        let store = Arc::clone(&store);
        async move { store.watch().await }
    };
    let builder = builder.admin(match config.ready_requires {
        ReadyRequires::Store => admin.required_check("store", check),
        ReadyRequires::Nothing => admin.check("store", check),
    });
    (builder, Some(token))
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

/// The signals that are followed while the server runs.
struct Heard {
    ignored: Vec<signals::Ignored>,
    reload: Option<(Signal, Reload)>,
}

/// Waits for the end, and follows signals meanwhile.
async fn until_stopped(
    running: baiwan::Running,
    said: &mut Said,
    heard: Heard,
    announce: impl FnOnce(),
) -> anyhow::Result<()> {
    let outcome = TaskGroup::new().name("serve").scope(async |group| {
        let mut followed = Vec::new();
        for signal in heard.ignored {
            followed.push(group.spawn(signal.say()).await);
        }
        let started = Arc::new(Notify::new());
        if let Some((hangups, reload)) = heard.reload {
            followed.push(group.spawn(reload.follow(hangups, Arc::clone(&started))).await);
        }
        let announce = || {
            announce();
            started.notify_one();
        };
        wait(running, said, announce).await?;
        followed.iter().for_each(Handle::cancel);
        Ok(())
    });
    outcome.await.map_err(|failures| match failures.into_first().into_kind() {
        FailureKind::Error(error) => anyhow::Error::new(error),
        FailureKind::Panicked(panic) => panic.resume(),
        other => anyhow!("the service was given up: {other:?}"),
    })
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
