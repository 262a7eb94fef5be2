//! The last exchanges that were answered with 500 or above, for whoever looks at the dashboard; what a limit refused is not among them.
//!
//! A storm of errors costs nothing: of many within 10 ms, the first is kept.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use http::StatusCode;

use crate::observe::Exchange;
use crate::route_table::RouteNumber;

/// Those that a core keeps.
pub(super) const FAILURES_MAX: usize = 50;
/// Between two that are kept.
const PAUSE: Duration = Duration::from_millis(10);

/// The failures of a core.
#[derive(Debug, Default)]
pub(super) struct Failures {
    kept: VecDeque<Failed>,
}

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    pub(super) ended: Instant,
    pub(super) method: Option<String>,
    pub(super) route: RouteNumber,
    pub(super) status: StatusCode,
    pub(super) duration: Duration,
    pub(super) request_id: Option<String>,
    pub(super) core: usize,
}

impl Failures {
    /// Whether an exchange is one of those.
    #[inline]
    pub(super) fn is_one(exchange: &Exchange<'_>) -> bool {
        // What a limit refuses under load is no failure, and would leave no room for those that are.
        exchange.denied.is_none() && exchange.status.is_some_and(|status| status.is_server_error())
    }

    /// Notes an exchange, if it is one of those.
    pub(super) fn note(&mut self, exchange: &Exchange<'_>, duration: Duration) {
        if let Some(status) = exchange.status
            && Self::is_one(exchange)
        {
            self.keep(exchange, status, duration);
        }
    }

    fn keep(&mut self, exchange: &Exchange<'_>, status: StatusCode, duration: Duration) {
        if self.kept.back().is_some_and(|last| exchange.ended.saturating_duration_since(last.ended) < PAUSE) {
            return;
        }
        if self.kept.len() == FAILURES_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back(Failed {
            ended: exchange.ended,
            method: exchange.method.map(ToString::to_string),
            route: exchange.route_number,
            status,
            duration,
            request_id: exchange.id.map(ToString::to_string),
            core: exchange.core,
        });
    }

    pub(super) fn kept(&self) -> impl Iterator<Item = &Failed> {
        self.kept.iter()
    }
}
