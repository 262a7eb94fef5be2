//! When requests are due. Pure: numbers in, moments out.

use std::time::Duration;

use crate::clock::SECOND_NS;
use crate::plan::Share;

/// Where the requests of a phase come from.
#[derive(Debug)]
pub(super) enum Supply {
    /// Each is due when there is a connection for it.
    Closed {
        /// Requests still to be started. None: any number.
        left: Option<u64>,
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
            Self::Closed { left, end } if *left != Some(0) && end.is_none_or(|end| now < end) => {
                *left = left.map(|left| left - 1);
                Some(now)
            }
            Self::Closed { .. } => None,
            Self::Open(arrivals) => arrivals.next(now),
        }
    }

    /// Whether no request will be due any more.
    pub(super) fn is_exhausted(&self, now: u64) -> bool {
        match self {
            Self::Closed { left, end } => *left == Some(0) || end.is_some_and(|end| now >= end),
            Self::Open(arrivals) => arrivals.started == arrivals.count && now >= arrivals.end,
        }
    }

    /// When the next request is due, where it has a moment of its own.
    pub(super) fn next_due(&self) -> Option<u64> {
        match self {
            Self::Closed { .. } => None,
            Self::Open(arrivals) => (arrivals.started < arrivals.count).then(|| arrivals.due(arrivals.started)),
        }
    }

    /// When it is exhausted at the earliest, where time decides that.
    pub(super) fn end(&self) -> Option<u64> {
        match self {
            Self::Closed { end, .. } => *end,
            Self::Open(arrivals) => Some(arrivals.end),
        }
    }

    /// Starts nothing more because nobody is left to ask on. How many there are that should have been: those due by now, or what
    /// is left of a number.
    pub(super) fn desert(&mut self, now: u64) -> u64 {
        match self {
            Self::Closed { left, .. } => left.replace(0).unwrap_or(0),
            Self::Open(_) => self.stop(now),
        }
    }

    /// Starts nothing more. How many are due by now and were not started.
    pub(super) fn stop(&mut self, now: u64) -> u64 {
        match self {
            Self::Closed { left, .. } => {
                *left = Some(0);
                0
            }
            Self::Open(arrivals) => {
                let late = arrivals.due_by(now) - arrivals.started;
                arrivals.started += late;
                arrivals.count = arrivals.started;
                arrivals.end = arrivals.end.min(now);
                late
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
    /// When the interval after the last one is over.
    end: u64,
}

impl Arrivals {
    /// From `begin` on, `per_second` of all workers together, for `duration`. None: a worker that has nobody to ask on.
    pub(super) fn new(begin: u64, per_second: f64, duration: Duration, share: Option<Share>) -> Self {
        let all = (per_second * duration.as_secs_f64()).round() as u64;
        let count = share.map_or(0, |share| share.part(all));
        let end = begin.saturating_add(duration.as_nanos() as u64);
        Self {
            begin,
            interval_ns: SECOND_NS as f64 / per_second,
            share: share.unwrap_or(Share { index: 0, of: 1 }),
            started: 0,
            count,
            end,
        }
    }

    /// When this worker's `index`-th is due.
    fn due(&self, index: u64) -> u64 {
        let number = index * self.share.of + self.share.index;
        self.begin + (number as f64 * self.interval_ns) as u64
    }

    /// How many are due by `now`, those that were started among them. There may be billions, so none is looked at by itself.
    fn due_by(&self, now: u64) -> u64 {
        let (mut due, mut undue) = (self.started, self.count);
        while due < undue {
            let middle = due + (undue - due) / 2;
            if self.due(middle) <= now {
                due = middle + 1;
            } else {
                undue = middle;
            }
        }
        due
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
            let mut arrivals = Arrivals::new(1_000, 10.0, Duration::from_secs(1), Some(Share { index, of: 3 }));
            while let Some(due) = arrivals.next(u64::MAX) {
                moments.push(due);
            }
        }
        moments.sort_unstable();
        assert_eq!(moments, (0..10).map(|index| 1_000 + index * 100_000_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_request_that_could_not_be_started_keeps_its_moment() {
        let arrivals = Arrivals::new(0, 1_000.0, Duration::from_secs(1), Some(Share { index: 0, of: 1 }));
        let mut supply = Supply::Open(arrivals);
        assert_eq!(supply.next(0), Some(0));
        assert_eq!((supply.next(0), supply.next_due()), (None, Some(1_000_000)));
        assert_eq!([supply.next(SECOND_NS / 2), supply.next(SECOND_NS / 2)], [Some(1_000_000), Some(2_000_000)]);
        assert_eq!(supply.stop(10_000_000), 8, "those from 3 ms to 10 ms");
        assert!(supply.is_exhausted(10_000_000));
    }

    /// Otherwise two requests at 0.5/s would take 2 s, and be told as 1/s.
    #[test]
    fn an_open_loop_lasts_for_its_duration_although_all_was_started() {
        let arrivals = Arrivals::new(7, 0.5, Duration::from_secs(4), Some(Share { index: 0, of: 1 }));
        let mut supply = Supply::Open(arrivals);
        assert_eq!([supply.next(7), supply.next(7 + 2 * SECOND_NS)], [Some(7), Some(7 + 2 * SECOND_NS)]);
        assert_eq!((supply.next_due(), supply.end()), (None, Some(7 + 4 * SECOND_NS)));
        assert!(!supply.is_exhausted(6 + 4 * SECOND_NS) && supply.is_exhausted(7 + 4 * SECOND_NS));
    }

    #[test]
    fn requests_that_were_not_started_are_counted_however_many_there_are() {
        let arrivals = Arrivals::new(0, 1e9, Duration::from_hours(24), Some(Share { index: 1, of: 2 }));
        let mut supply = Supply::Open(arrivals);
        assert_eq!(supply.stop(3600 * SECOND_NS), 1_800 * SECOND_NS);
        assert_eq!((supply.next(u64::MAX), supply.stop(u64::MAX)), (None, 0));
    }

    #[test]
    fn a_closed_loop_ends_with_its_requests_or_its_time() {
        let mut supply = Supply::Closed { left: Some(2), end: None };
        assert_eq!([supply.next(5), supply.next(6), supply.next(7)], [Some(5), Some(6), None]);
        let mut supply = Supply::Closed { left: None, end: Some(10) };
        assert_eq!([supply.next(9), supply.next(10)], [Some(9), None]);
        assert!(supply.is_exhausted(10) && !supply.is_exhausted(9));
    }

    #[test]
    fn where_nobody_is_left_to_ask_on_what_is_left_of_a_number_was_never_sent() {
        let mut supply = Supply::Closed { left: Some(5), end: None };
        assert_eq!((supply.next(0), supply.desert(1), supply.desert(2), supply.next(3)), (Some(0), 4, 0, None));
        assert_eq!(Supply::Closed { left: None, end: None }.desert(1), 0);
        assert_eq!(Supply::Closed { left: Some(5), end: None }.stop(1), 0, "one that is stopped leaves nothing undone");
    }
}
