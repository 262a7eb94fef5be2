//! The server's health as the admin side tells it: for people and monitors as a whole, for orchestrators one question at a time.
//!
//! | path | asks |
//! |---|---|
//! | `/health` | is anything wrong? Each check by name |
//! | `/health/live` | do the cores turn? If not, a restart would help |
//! | `/health/ready` | started, not stopping, room for more connections, and what is required is there |
//! | `/health/startup` | has it started? |
//!
//! What a scrape shows as `baiwan_live` and `baiwan_ready` is the same, by the same functions.
//!
//! The invariant: no answer waits for a core, nor for a check.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use http::StatusCode;
use serde::Serialize;
use tokio::time::Instant;

use super::answer::{Answer, json};
use super::checks::Verdict;
use super::moment::wall_ms;
use crate::dashboard::{self, Check};
use crate::status::{CoreStatus, Health};

/// The name under which the server itself stands among the checks.
const SERVER: &str = "server";

/// What holds a core up is said when it was asked for a turn this long ago.
const LATE_AFTER_MS: u64 = 2_000;
/// From here on idle connections end sooner.
const MEMORY_SHORT_PERCENT: u8 = 85;

/// What is known of the server's health.
#[derive(Debug)]
pub(super) struct Condition {
    health: Health,
    checks: Vec<Arc<Verdict>>,
    started: Instant,
}

#[derive(Serialize)]
struct Whole<'a> {
    status: &'static str,
    timestamp: String,
    uptime_seconds: u64,
    checks: BTreeMap<&'a str, &'static str>,
}

#[derive(Serialize)]
struct State {
    status: &'static str,
}

impl Condition {
    pub(super) fn new(health: Health, checks: Vec<Arc<Verdict>>) -> Self {
        Self { health, checks, started: Instant::now() }
    }

    pub(super) fn whole(&self) -> Answer {
        let mut is_healthy = is_live(&self.health);
        let mut checks = BTreeMap::from([(SERVER, if is_healthy { "ok" } else { "failed" })]);
        for check in &self.checks {
            let good = check.is_good();
            is_healthy &= good != Some(false);
            let state = match good {
                None => "unknown",
                Some(true) => "ok",
                Some(false) => "failed",
            };
            checks.insert(&check.name, state);
        }
        let whole = Whole {
            status: if is_healthy { "healthy" } else { "unhealthy" },
            timestamp: now_rfc3339(),
            uptime_seconds: self.started.elapsed().as_secs(),
            checks,
        };
        json(status_of(is_healthy), &whole)
    }

    /// As the dashboard shows it.
    pub(super) fn state(&self) -> dashboard::State {
        let check =
            |check: &Arc<Verdict>| Check { name: check.name.clone(), is_up: check.is_good(), reason: check.failure() };
        dashboard::State {
            now_ms: wall_ms(),
            phase: self.health.phase().name(),
            is_live: self.health.is_live(),
            is_ready: is_ready(&self.health, &self.checks),
            warnings: self.warnings(),
            checks: self.checks.iter().map(check).collect(),
        }
    }

    /// What is wrong with the server itself, in whole sentences.
    fn warnings(&self) -> Vec<String> {
        let Some(status) = self.health.0.get() else { return Vec::new() };
        let late_seconds = |core: &CoreStatus| {
            let late_ms = status.now_ms().saturating_sub(core.turn_asked_ms()?);
            (late_ms >= LATE_AFTER_MS).then_some(late_ms / 1000)
        };
        let late = status.cores.iter().enumerate().filter_map(|(index, core)| Some((index, core, late_seconds(core)?)));
        let warning = |(index, core, seconds): (usize, &CoreStatus, u64)| match core.is_blocked.load(Relaxed) {
            true => format!("Core {index} is blocked since {seconds} s: a handler does not return to its thread."),
            false => format!(
                "Core {index} is busy with one turn since {seconds} s: its handlers take too long, one after another."
            ),
        };
        let mut warnings: Vec<String> = late.map(warning).collect();
        if let Some(percent) = self.health.memory_percent().filter(|percent| *percent >= MEMORY_SHORT_PERCENT) {
            warnings.push(format!(
                "{percent} % of the memory that the process may have is used. Idle connections end sooner; from 95 % on requests are refused."
            ));
        }
        warnings
    }

    pub(super) fn live(&self) -> Answer {
        state(is_live(&self.health), ["live", "not live"])
    }

    pub(super) fn ready(&self) -> Answer {
        state(is_ready(&self.health, &self.checks), ["ready", "not ready"])
    }

    pub(super) fn startup(&self) -> Answer {
        state(self.is_started(), ["started", "starting"])
    }

    /// Whether every core runs.
    pub(super) fn is_started(&self) -> bool {
        self.health.is_started()
    }

    /// Whether another process has taken over the server's sockets.
    pub(super) fn is_handed_over(&self) -> bool {
        self.health.0.get().is_some_and(|status| status.succession.successor().is_some())
    }

    /// Waits until another process has taken over. The server has started.
    pub(super) async fn until_handed_over(&self) {
        match self.health.0.get() {
            Some(status) => status.succession.until_handed_over().await,
            None => std::future::pending().await,
        }
    }
}

/// Whether a restart would not help. Until the server has started there is no core that could fail.
pub(super) fn is_live(health: &Health) -> bool {
    health.is_live() || !health.is_started()
}

/// Whether new requests are welcome: the server says so, and whatever the app requires is there.
pub(super) fn is_ready(health: &Health, checks: &[Arc<Verdict>]) -> bool {
    let is_there = |check: &Arc<Verdict>| !check.is_required || check.is_good() == Some(true);
    health.is_ready() && checks.iter().all(is_there)
}

fn state(good: bool, [yes, no]: [&'static str; 2]) -> Answer {
    json(status_of(good), &State { status: if good { yes } else { no } })
}

fn status_of(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// The wall time in UTC as RFC 3339 with milliseconds, for example `2026-11-22T10:15:00.123Z`.
pub(super) fn now_rfc3339() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}
