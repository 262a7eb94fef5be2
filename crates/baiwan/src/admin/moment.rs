//! How the server stands at this moment, as the dashboard wants it: out of its metrics.

use std::time::UNIX_EPOCH;

use baiwan_driver::read_kilobytes;
use jiff::Timestamp;

use crate::dashboard::{Failure, Moment, RouteCounts};
use crate::metrics::{self, Metrics, Snapshot};

/// None before the server has begun.
pub(super) fn moment(metrics: &Metrics, monotonic_ms: u64) -> Option<Moment> {
    let snapshot = metrics.snapshot();
    // Its states are there from the start.
    let connections: Vec<u64> = snapshot.connections.iter().map(|(_, count)| *count).collect();
    let (latency, lag) = metrics.narrow();
    Some(Moment {
        monotonic_ms,
        wall_ms: wall_ms(),
        connections: connections.try_into().ok()?,
        in_flight: snapshot.in_flight,
        answers: answers(&snapshot),
        latency,
        lag,
        resident_bytes: read_kilobytes("/proc/self/status", "VmRSS:").unwrap_or_default(),
        received_bytes: snapshot.received_bytes,
        sent_bytes: snapshot.sent_bytes,
        routes: snapshot.routes.into_iter().map(route).collect(),
        failures: snapshot.failures.into_iter().map(failure).collect(),
    })
}

/// Milliseconds since 1970.
pub(crate) fn wall_ms() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default()
}

/// By class, 1xx to 5xx without the 1xx, and those with a status that means a refusal.
fn answers(snapshot: &Snapshot) -> [u64; 6] {
    let count = |wanted: &dyn Fn(u16) -> bool| -> u64 {
        snapshot.statuses.iter().filter(|(status, _)| wanted(*status)).map(|(_, count)| count).sum()
    };
    let class = |class| count(&|status| status / 100 == class);
    [class(2), class(3), class(4), class(5), count(&|status| status == 429), count(&|status| status == 503)]
}

fn route(route: metrics::Route) -> RouteCounts {
    let buckets = route.durations.buckets;
    RouteCounts {
        route: route.route.into(),
        requests: route.requests,
        errors: route.failures,
        // What wraps around differs by the right number all the same.
        durations: std::array::from_fn(|at| buckets.get(at).map_or(0, |count| *count as u32)),
    }
}

fn failure(failure: metrics::Failure) -> Failure {
    let at = failure.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Failure {
        at_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
        method: failure.method,
        route: failure.route,
        status: failure.status,
        duration_us: u64::try_from(failure.duration.as_micros()).unwrap_or(u64::MAX),
        request_id: failure.request_id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_class_and_refusals_twice() {
        let statuses = vec![(0, 9), (101, 8), (200, 1), (204, 2), (304, 4), (404, 8), (429, 16), (500, 32), (503, 64)];
        let snapshot = Snapshot { statuses, ..Snapshot::default() };
        assert_eq!(answers(&snapshot), [3, 4, 24, 96, 16, 64]);
    }
}
