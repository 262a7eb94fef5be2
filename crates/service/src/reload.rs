//! What happens at SIGHUP: the settings are read anew, and those that can change come into force together, or, where one is wrong, none.
//!
//! ```text
//!   SIGHUP ─► Reading ─► Change ─► log level, routes' policy, admin side's token, engine
//!                │ wrong: a line each, and what is in force stays
//! ```
//!
//! Which settings can change, and what an operator is told of the others, is `config`'s business. The invariant: everything that can fail is
//! done before anything changes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use baiwan::{AdminToken, Health, Phase, Reloader};
use tokio::signal::unix::Signal;
use tokio::sync::Notify;
use tracing::{error, info, warn};

use crate::config::{Again, Change, Config, Traces};
use crate::logs;
use crate::notify;
use crate::reload_outcome::Outcome;
use crate::routes::Policy;
use crate::server;
use crate::shared_limit::SharedLimits;

/// Between two readings, at least: signals that come meanwhile become one.
const PAUSE: Duration = Duration::from_millis(250);

/// What a service needs to change its settings while it runs.
pub(crate) struct Reload {
    pub(crate) again: Arc<Again>,
    /// What is in force.
    pub(crate) config: Config,
    /// Of what was read last and was right.
    pub(crate) traces: Traces,
    pub(crate) reloader: Reloader,
    pub(crate) policies: Arc<Policies>,
    /// None where there is no admin side.
    pub(crate) admin_token: Option<AdminToken>,
    pub(crate) shared_limit: Option<Arc<SharedLimits>>,
    pub(crate) outcome: Arc<Outcome>,
    pub(crate) health: Health,
    /// What systemd shows of a service that is ready.
    pub(crate) status: String,
}

/// What the operator has decided about the routes, which each core reads when it makes its router.
#[derive(Debug)]
pub(crate) struct Policies(Mutex<Arc<Policy>>);

impl Policies {
    pub(crate) fn new(policy: Policy) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Arc::new(policy))))
    }

    pub(crate) fn now(&self) -> Arc<Policy> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set(&self, policy: Policy) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }
}

impl Reload {
    /// Reads the settings anew whenever a signal has come, from when the service has started. Never ends.
    pub(crate) async fn follow(mut self, mut hangups: Signal, started: Arc<Notify>) -> Result<(), baiwan::Error> {
        started.notified().await;
        while hangups.recv().await.is_some() {
            match self.health.phase() {
                Phase::Serving => self.reload().await,
                _ => info!("SIGHUP changes nothing: the service stops"),
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    async fn reload(&mut self) {
        notify::reloading();
        let outcome = self.change().await;
        self.outcome.note(outcome.is_ok());
        match outcome {
            Ok(change) => say(&change),
            Err(wrong) => {
                for line in &wrong {
                    error!("{line}");
                }
                error!(wrong = wrong.len(), "the settings were refused as a whole: those in force stay");
            }
        }
        // A failure is in the log and in the metrics: systemd knows none of a reload. To a service that stops meanwhile it is told no more.
        if self.health.phase() == Phase::Serving {
            notify::ready(&self.status);
        }
    }

    /// Puts in force what was changed.
    ///
    /// # Errors
    ///
    /// A line for each setting that is wrong.
    async fn change(&mut self) -> Result<Change, Vec<String>> {
        let again = Arc::clone(&self.again);
        // A pipe may keep it waiting for seconds.
        let read = tokio::task::spawn_blocking(move || again.read()).await;
        let (read, values) = read.map_err(|error| vec![format!("the settings could not be read: {error}")])??;
        let traces = Traces::of(&values);
        let change = Change::between((&self.config, &self.traces), (&read, &traces), &values)?;
        self.put_in_force(&change.config)?;
        (self.config, self.traces) = (change.config.clone(), traces);
        Ok(change)
    }

    fn put_in_force(&self, config: &Config) -> Result<(), Vec<String>> {
        // One that the admin side has set stays, unless the setting has changed.
        if config.log_level != self.config.log_level {
            logs::set_log_level(&config.log_level)
                .map_err(|allowed| vec![format!("LOG_LEVEL: allowed is {allowed}")])?;
        }
        let mut settings = config.server.clone();
        let shared_limit = self.shared_limit.as_ref().and_then(|limits| limits.take(&mut settings));
        self.policies.set(Policy { shared_limit, ..Policy::from(config) });
        if let Some(token) = &self.admin_token {
            token.set(config.admin.token.clone());
        }
        let server = server::of(config, settings, Vec::new());
        // What could be wrong with it was looked at before.
        self.reloader.reload_what_can_change(&server, true).map(drop).map_err(|error| vec![error.to_string()])
    }
}

/// Says what comes into force last, so that whoever sees that has seen all.
fn say(change: &Change) {
    for line in change.needs_restart.iter().chain(&change.overridden) {
        warn!("{line}");
    }
    match change.changed.is_empty() {
        true => info!("the settings were read anew: none that can change without a restart has changed"),
        false => info!(changed = change.changed.join(", "), "the settings were read anew and are in force"),
    }
}
