//! Which routes were asked most in the last minute, how long they took and how often they failed.
//!
//! Sums since the start are remembered every [`STEP_MS`]; the last minute is what has come since the oldest of them, so it is
//! between 60 and 70 seconds long, and says which.
//!
//! The invariant: at most [`STEPS_MAX`] sums are remembered; with the 1,002 routes that a server counts apart at most, those are 800 KB.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::quantile::quantile;

/// Bounds in seconds of the histogram of durations: `http_request_duration_seconds`.
pub(crate) const BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const STEP_MS: u64 = 10_000;
const WINDOW_MS: u64 = 60_000;
const STEPS_MAX: usize = (WINDOW_MS / STEP_MS) as usize + 1;
/// Routes that are shown.
const TOP: usize = 20;

/// What was counted of one route since the start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RouteCounts {
    /// The template.
    pub(crate) route: Arc<str>,
    pub(crate) requests: u64,
    /// Those of them that were answered with 5xx.
    pub(crate) errors: u64,
    /// Durations by bucket, not added up; streams are not among them.
    pub(crate) durations: [u32; BOUNDS.len() + 1],
}

/// One route in the last minute.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct TopRoute {
    pub(super) route: Arc<str>,
    pub(super) requests: u64,
    pub(super) errors: u64,
    /// In microseconds. None where no request has ended but streams.
    pub(super) p99_us: Option<u64>,
}

/// The sums that are remembered.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// The oldest first.
    steps: VecDeque<(u64, Vec<RouteCounts>)>,
    now: (u64, Vec<RouteCounts>),
}

impl Routes {
    pub(super) fn handle_moment(&mut self, monotonic_ms: u64, routes: &[RouteCounts]) {
        self.now = (monotonic_ms, routes.to_vec());
        let last = self.steps.back().map(|(at_ms, _)| *at_ms);
        if last.is_none_or(|last| monotonic_ms >= last + STEP_MS) {
            if self.steps.len() == STEPS_MAX {
                self.steps.pop_front();
            }
            self.steps.push_back(self.now.clone());
        }
    }

    /// How long the last minute was, in milliseconds.
    pub(super) fn window_ms(&self) -> u64 {
        self.steps.front().map_or(0, |(begin_ms, _)| self.now.0 - begin_ms)
    }

    /// Those that were asked most, the first first.
    pub(super) fn top(&self) -> Vec<TopRoute> {
        let before: HashMap<&str, &RouteCounts> =
            self.steps.front().iter().flat_map(|(_, routes)| routes).map(|counts| (&*counts.route, counts)).collect();
        let routes = self.now.1.iter().map(|counts| since(before.get(&*counts.route).copied(), counts));
        let mut top: Vec<TopRoute> = routes.filter(|route| route.requests > 0).collect();
        top.sort_by(|one, other| other.requests.cmp(&one.requests).then_with(|| one.route.cmp(&other.route)));
        top.truncate(TOP);
        top
    }
}

fn since(before: Option<&RouteCounts>, now: &RouteCounts) -> TopRoute {
    let durations: Vec<u64> = (0..now.durations.len())
        .map(|at| now.durations[at].wrapping_sub(before.map_or(0, |before| before.durations[at])).into())
        .collect();
    TopRoute {
        route: Arc::clone(&now.route),
        requests: now.requests.saturating_sub(before.map_or(0, |before| before.requests)),
        errors: now.errors.saturating_sub(before.map_or(0, |before| before.errors)),
        p99_us: quantile(&BOUNDS, &durations, 0.99).map(|seconds| (seconds * 1e6).round() as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(route: &str, requests: u64, errors: u64) -> RouteCounts {
        let mut durations = [0; BOUNDS.len() + 1];
        durations[1] = u32::try_from(requests).unwrap();
        RouteCounts { route: route.into(), requests, errors, durations }
    }

    #[test]
    fn the_last_minute_is_what_has_come_since() {
        let mut routes = Routes::default();
        for second in 0..=100 {
            routes.handle_moment(second * 1000, &[counts("/a", second * 10, second), counts("/b", second * 20, 0)]);
        }
        assert_eq!((routes.window_ms(), routes.steps.len()), (60_000, STEPS_MAX));
        let top = routes.top();
        assert_eq!(top.iter().map(|route| &*route.route).collect::<Vec<_>>(), ["/b", "/a"]);
        assert_eq!((top[1].requests, top[1].errors), (600, 60));
        // All in the bucket from 5 to 10 ms: 99 % of the way through.
        assert_eq!(top[1].p99_us, Some(9_950));
    }

    #[test]
    fn a_route_that_is_new_counts_from_its_start_and_one_that_is_silent_is_not_shown() {
        let mut routes = Routes::default();
        routes.handle_moment(0, &[counts("/old", 5, 0)]);
        routes.handle_moment(1_000, &[counts("/old", 5, 0), counts("/new", 3, 1)]);
        let top = routes.top();
        assert_eq!(top.len(), 1);
        assert_eq!((&*top[0].route, top[0].requests, top[0].errors), ("/new", 3, 1));
    }

    #[test]
    fn twenty_are_shown() {
        let mut routes = Routes::default();
        routes.handle_moment(0, &[]);
        let many: Vec<RouteCounts> = (1..=50).map(|n| counts(&format!("/{n}"), n, 0)).collect();
        routes.handle_moment(1_000, &many);
        let top = routes.top();
        assert_eq!((top.len(), top[0].requests, top[19].requests), (20, 50, 31));
        assert_eq!(Routes::default().top(), []);
    }
}
