//! When requests are due. Pure: numbers in, moments out.

use std::time::Duration;

use crate::clock::SECOND_NS;
use crate::plan::Share;

/// Where the requests of a phase come from.
#[derive(Debug)]
pub(super) enum Supply {
    /// Each is due when there is a connection for it.
    Closed {
        /// Requests still to be started.
        left: u64,
        /// When the last may be started.
        end: Option<u64>,
    },
    /// Each has its moment.
    Open(Arrivals),
}

impl Supply {
    /// The moment that the next request is due, if that has come. It counts as started then.
    pub(super) fn next(&mut self, now: u64) -> Option<u64> {
        match self {
            Self::Closed { left, end } if *left > 0 && end.is_none_or(|end| now < end) => {
                *left -= 1;
                Some(now)
            }
            Self::Closed { .. } => None,
            Self::Open(arrivals) => arrivals.next(now),
        }
    }

    /// Whether no request will be due any more.
    pub(super) fn is_exhausted(&self, now: u64) -> bool {
        match self {
            Self::Closed { left, end } => *left == 0 || end.is_some_and(|end| now >= end),
            Self::Open(arrivals) => arrivals.started == arrivals.count,
        }
    }

    /// The next moment to look again although nothing has happened.
    pub(super) fn wake(&self) -> Option<u64> {
        match self {
            Self::Closed { end, .. } => *end,
            Self::Open(arrivals) => (arrivals.started < arrivals.count).then(|| arrivals.due(arrivals.started)),
        }
    }

    /// Starts nothing more. How many are due by now and were not started.
    pub(super) fn stop(&mut self, now: u64) -> u64 {
        match self {
            Self::Closed { left, .. } => {
                *left = 0;
                0
            }
            Self::Open(arrivals) => {
                let started = arrivals.started;
                while arrivals.next(now).is_some() {}
                arrivals.count = arrivals.started;
                arrivals.started - started
            }
        }
    }
}

/// Requests at constant intervals: those of one worker among several, whose moments interlock.
#[derive(Debug)]
pub(super) struct Arrivals {
    begin: u64,
    interval_ns: f64,
    share: Share,
    started: u64,
    count: u64,
}

impl Arrivals {
    /// From `begin` on, `per_second` of all workers together, for so long.
    pub(super) fn new(begin: u64, per_second: f64, duration: Duration, share: Share) -> Self {
        let all = (per_second * duration.as_secs_f64()).round() as u64;
        Self { begin, interval_ns: SECOND_NS as f64 / per_second, share, started: 0, count: share.part(all) }
    }

    /// When this worker's `index`-th is due.
    fn due(&self, index: u64) -> u64 {
        let number = index * self.share.of + self.share.index;
        self.begin + (number as f64 * self.interval_ns) as u64
    }

    fn next(&mut self, now: u64) -> Option<u64> {
        let due = self.due(self.started);
        if self.started == self.count || due > now {
            return None;
        }
        self.started += 1;
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arrivals_of_all_workers_are_evenly_spaced() {
        let mut moments = Vec::new();
        for index in 0..3 {
            let mut arrivals = Arrivals::new(1_000, 10.0, Duration::from_secs(1), Share { index, of: 3 });
            while let Some(due) = arrivals.next(u64::MAX) {
                moments.push(due);
            }
        }
        moments.sort_unstable();
        assert_eq!(moments, (0..10).map(|index| 1_000 + index * 100_000_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_request_that_could_not_be_started_keeps_its_moment() {
        let arrivals = Arrivals::new(0, 1_000.0, Duration::from_secs(1), Share { index: 0, of: 1 });
        let mut supply = Supply::Open(arrivals);
        assert_eq!(supply.next(0), Some(0));
        assert_eq!((supply.next(0), supply.wake()), (None, Some(1_000_000)));
        assert_eq!([supply.next(SECOND_NS / 2), supply.next(SECOND_NS / 2)], [Some(1_000_000), Some(2_000_000)]);
        assert_eq!(supply.stop(10_000_000), 8, "those from 3 ms to 10 ms");
        assert!(supply.is_exhausted(0));
    }

    #[test]
    fn a_closed_loop_ends_with_its_requests_or_its_time() {
        let mut supply = Supply::Closed { left: 2, end: None };
        assert_eq!([supply.next(5), supply.next(6), supply.next(7)], [Some(5), Some(6), None]);
        let mut supply = Supply::Closed { left: u64::MAX, end: Some(10) };
        assert_eq!([supply.next(9), supply.next(10)], [Some(9), None]);
        assert!(supply.is_exhausted(10) && !supply.is_exhausted(9));
    }
}
