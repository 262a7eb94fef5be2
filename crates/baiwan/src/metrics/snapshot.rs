//! The numbers of a server at one moment, as plain values: for a dashboard, or a test.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::core::DENIALS;
use super::failures::{FAILURES_MAX, Failed};
use super::histogram::Distribution;
use super::shared::Shared;
use super::sums::{Requests, Sums};
use crate::route_table::{RouteNumber, RouteTable};
use crate::status::{CloseReason, ConnectionState, Counts};

/// What a server has counted so far: [`Metrics::snapshot`](super::Metrics::snapshot). The numbers are those of a scrape, added up over
/// cores; each is exact, but they are not taken at one instant.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Snapshot {
    /// Open connections by state: `idle`, `receiving`, `handling`, `sending`, `upgraded`, `closing`.
    pub connections: Vec<(&'static str, u64)>,
    /// The maximum of connections in force.
    pub connections_max: u64,
    /// Connections that were accepted.
    pub opened: u64,
    /// Connections that have ended, by reason.
    pub closed: Vec<(CloseReason, u64)>,
    /// Requests whose handler is waited for, or whose answer is being sent.
    pub in_flight: u64,
    /// Exchanges that have ended, by status, ascending; 0 is those that nothing was answered to.
    pub statuses: Vec<(u16, u64)>,
    /// How long they took, but for streams and for what has switched protocols.
    pub durations: Distribution,
    /// The same by route, in the order of their names.
    pub routes: Vec<Route>,
    /// How long streams and connections that have switched protocols lasted.
    pub streams: Distribution,
    /// By number of the core.
    pub cores: Vec<CoreTurns>,
    /// Requests that broke a rule of HTTP, by its name.
    pub refused: Vec<(&'static str, u64)>,
    /// What limits did not let through, by name.
    pub denied: Vec<(&'static str, u64)>,
    /// Bytes of requests whose exchange has ended.
    pub received_bytes: u64,
    /// Bytes of answers whose exchange has ended.
    pub sent_bytes: u64,
    /// The last exchanges that were answered with 500 or above, the newest first: at most 50, and one in 10 ms of each core.
    pub failures: Vec<Failure>,
    /// Everything else that is counted.
    pub counts: Counts,
}

/// What was asked of one route.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Route {
    /// Its template, `unmatched` or `other`.
    pub route: String,
    /// Exchanges that have ended.
    pub requests: u64,
    /// Those of them that were answered with 500 or above.
    pub failures: u64,
    /// How long they took, but for streams.
    pub durations: Distribution,
}

/// How the loop of a core turned.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CoreTurns {
    /// How long what was ready may have waited for the loop to look.
    pub lag: Distribution,
    /// How long its turns took.
    pub turns: Distribution,
}

/// An exchange that was answered with 500 or above.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// When it ended.
    pub at: SystemTime,
    /// None where no head was read.
    pub method: Option<String>,
    /// The template of its route.
    pub route: String,
    /// What was answered.
    pub status: u16,
    /// From the head of the request to the end.
    pub duration: Duration,
    /// Where the server gives ids.
    pub request_id: Option<String>,
    /// The number of its core.
    pub core: usize,
}

impl Snapshot {
    pub(super) fn of(shared: &Shared) -> Self {
        let Some(status) = shared.status() else { return Self::default() };
        let cores = shared.cores();
        let sums = Sums::of(&cores);
        let states = status.connections_by_state();
        let counts = status.counts();
        let failed = cores.iter().flat_map(|core| core.failures()).collect();
        let (statuses, durations) = by_status(&sums);
        let mut streams = Distribution::default();
        sums.streams.values().for_each(|durations| streams.add(durations));
        Self {
            connections: ConnectionState::ALL.map(|state| (state.name(), states[state as usize])).to_vec(),
            connections_max: status.connections_max,
            opened: counts.accepted,
            closed: counts.closed.clone(),
            in_flight: states[ConnectionState::Handling as usize] + states[ConnectionState::Sending as usize],
            statuses,
            durations,
            routes: by_route(&sums, &status.routes),
            streams,
            cores: sums.lags.into_iter().zip(sums.turns).map(|(lag, turns)| CoreTurns { lag, turns }).collect(),
            refused: counts.refused.clone(),
            denied: DENIALS.into_iter().zip(sums.denied).collect(),
            received_bytes: sums.received_bytes,
            sent_bytes: sums.sent_bytes,
            failures: newest(failed, &status.routes),
            counts,
        }
    }
}

fn by_status(sums: &Sums) -> (Vec<(u16, u64)>, Distribution) {
    let (mut statuses, mut all) = (BTreeMap::new(), Distribution::default());
    for (labels, Requests { count, durations }) in &sums.requests {
        *statuses.entry(labels.status().number()).or_default() += count;
        all.add(durations);
    }
    (statuses.into_iter().collect(), all)
}

fn by_route(sums: &Sums, templates: &RouteTable) -> Vec<Route> {
    let mut routes: BTreeMap<RouteNumber, Route> = BTreeMap::new();
    for (labels, Requests { count, durations }) in &sums.requests {
        let route = routes.entry(labels.route).or_default();
        route.requests += count;
        if labels.status().code().is_some_and(|status| status.is_server_error()) {
            route.failures += count;
        }
        route.durations.add(durations);
    }
    let named =
        routes.into_iter().map(|(number, route)| Route { route: templates.template(number).to_owned(), ..route });
    let mut named: Vec<Route> = named.collect();
    named.sort_by(|one, other| one.route.cmp(&other.route));
    named
}

fn newest(mut failed: Vec<Failed>, templates: &RouteTable) -> Vec<Failure> {
    failed.sort_by_key(|failed| std::cmp::Reverse(failed.ended));
    failed.truncate(FAILURES_MAX);
    #[expect(
        clippy::disallowed_methods,
        reason = "an operator compares it with the wall clock, and nothing is decided by it"
    )]
    let (wall, now) = (SystemTime::now(), tokio::time::Instant::now().into_std());
    let failure = |failed: Failed| Failure {
        at: wall - now.saturating_duration_since(failed.ended),
        method: failed.method,
        route: templates.template(failed.route).to_owned(),
        status: failed.status.as_u16(),
        duration: failed.duration,
        request_id: failed.request_id,
        core: failed.core,
    };
    failed.into_iter().map(failure).collect()
}
