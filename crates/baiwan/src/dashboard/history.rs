//! Fifteen minutes of a server, second by second, in plain numbers.
//!
//! Each [`Moment`] holds sums since the start; a second is what two of them differ by. Rates are over the time that has really passed, so a
//! sampler that comes late draws no false peak. It is *not* a store of metrics: whoever wants more than this has Prometheus.
//!
//! The invariant: there are at most [`SECONDS_MAX`] seconds, each of the same size; with 2 cores they take 180 KB, with 64 cores 630 KB.

use std::collections::VecDeque;

use serde::Serialize;

use super::routes::RouteCounts;
use crate::narrow_buckets::{Tallies, between, percentile};

/// Fifteen minutes.
pub(super) const SECONDS_MAX: usize = 900;
/// Cores whose lag is kept; of those beyond, nothing is.
const CORES_MAX: usize = 64;
/// Memory per connection is shown from this number of connections on: with fewer, what the process has anyway would be shared out among them.
pub(super) const CONNECTIONS_FOR_MEMORY: u64 = 10_000;

/// States of connections, in the order of [`Moment::connections`].
pub(super) const STATES: [&str; 6] = ["idle", "receiving", "handling", "sending", "upgraded", "closing"];
/// What answers are counted by, in the order of [`Moment::answers`]. A 429 is a 4xx too, a 503 a 5xx.
pub(super) const ANSWERS: [&str; 6] = ["2xx", "3xx", "4xx", "5xx", "429", "503"];
/// The percentiles of latency that are shown, and their shares.
pub(super) const PERCENTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999)];

/// How things stand at one moment. What is not a gauge is a sum since the start.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    /// Of a clock that is never set, since some fixed time.
    pub(crate) monotonic_ms: u64,
    /// Since 1970.
    pub(crate) wall_ms: u64,
    /// Gauges, by state.
    pub(crate) connections: [u64; STATES.len()],
    /// A gauge.
    pub(crate) in_flight: u64,
    pub(crate) answers: [u64; ANSWERS.len()],
    pub(crate) latency: Box<Tallies>,
    /// Of each core: how late it was for what it had to do.
    pub(crate) lag: Vec<Tallies>,
    /// A gauge; 0 where it is not known.
    pub(crate) resident_bytes: u64,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) routes: Vec<RouteCounts>,
    /// The last, the newest first.
    pub(crate) failures: Vec<Failure>,
}

/// An exchange that the server or the app has failed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Failure {
    /// When it ended, since 1970.
    pub(crate) at_ms: u64,
    /// None where no head was read.
    pub(crate) method: Option<String>,
    /// The template.
    pub(crate) route: String,
    pub(crate) status: u16,
    pub(crate) duration_us: u64,
    /// None where requests have no ids.
    pub(crate) request_id: Option<String>,
}

/// One second as it is shown.
#[derive(Clone, Debug)]
pub(super) struct Second {
    pub(super) wall_ms: u64,
    pub(super) resident_bytes: u64,
    pub(super) received_per_second: u64,
    pub(super) sent_per_second: u64,
    pub(super) connections: [u32; STATES.len()],
    pub(super) in_flight: u32,
    pub(super) answers_per_second: [u32; ANSWERS.len()],
    /// None where nothing was answered.
    pub(super) latency_us: [Option<u32>; PERCENTILES.len()],
    /// None where there are too few to tell.
    pub(super) bytes_per_connection: Option<u32>,
}

const _: () = assert!(size_of::<Second>() <= 160 && SECONDS_MAX * size_of::<Second>() <= 144_000);

/// Lag of one core in one second, in microseconds; None where the core had nothing to do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lag {
    pub(super) p99_us: Option<u32>,
    pub(super) max_us: Option<u32>,
}

const _: () = assert!(size_of::<Lag>() == 16);

/// The seconds.
#[derive(Debug, Default)]
pub(super) struct History {
    seconds: VecDeque<Second>,
    /// Of each second, those of all cores.
    lag: VecDeque<Lag>,
    cores: usize,
    /// Seconds since the start.
    count: u64,
    last: Option<Moment>,
    /// What the process had when it was first looked at.
    resident_bytes_first: u64,
}

impl History {
    /// The first moment is only what the second is compared with.
    pub(super) fn handle_moment(&mut self, moment: &Moment) {
        match self.last.take() {
            None => {
                self.cores = moment.lag.len().min(CORES_MAX);
                self.resident_bytes_first = moment.resident_bytes;
            }
            Some(last) => self.push(&last, moment),
        }
        // Routes and failures are remembered elsewhere.
        self.last = Some(Moment { routes: Vec::new(), failures: Vec::new(), ..moment.clone() });
    }

    /// The number that the next second will have.
    pub(super) fn next(&self) -> u64 {
        self.count
    }

    /// Cores whose lag is known.
    pub(super) fn cores(&self) -> usize {
        self.cores
    }

    /// Those from a number on, or all that are left of them; each with the lag of its cores.
    pub(super) fn since(&self, number: u64) -> impl Iterator<Item = (&Second, impl Iterator<Item = Lag>)> {
        let first = self.count - self.seconds.len() as u64;
        let skipped = usize::try_from(number.saturating_sub(first)).unwrap_or(usize::MAX).min(self.seconds.len());
        let lag_of = move |at: usize| self.lag.range(at * self.cores..(at + 1) * self.cores).copied();
        self.seconds.iter().enumerate().skip(skipped).map(move |(at, second)| (second, lag_of(at)))
    }

    fn push(&mut self, last: &Moment, moment: &Moment) {
        let elapsed_ms = moment.monotonic_ms.saturating_sub(last.monotonic_ms);
        if elapsed_ms == 0 {
            return;
        }
        if self.seconds.len() == SECONDS_MAX {
            self.seconds.pop_front();
            self.lag.drain(..self.cores);
        }
        // Wall time may be set back; a line must not run backwards.
        let not_before = self.seconds.back().map_or(0, |second| second.wall_ms + 1);
        self.seconds.push_back(Second {
            wall_ms: moment.wall_ms.max(not_before),
            ..second(last, moment, elapsed_ms, self.resident_bytes_first)
        });
        let before = last.lag.iter().map(Some).chain(std::iter::repeat(None));
        let mut lag: Vec<Lag> = moment.lag.iter().zip(before).map(|(now, before)| lag_between(before, now)).collect();
        lag.resize(self.cores, Lag::default());
        self.lag.extend(lag);
        self.count += 1;
    }
}

fn second(last: &Moment, moment: &Moment, elapsed_ms: u64, resident_bytes_first: u64) -> Second {
    let rate = |before: u64, now: u64| (now.saturating_sub(before) * 1000).div_ceil(elapsed_ms);
    let latency = between(&last.latency, &moment.latency);
    let connections: u64 = moment.connections.iter().sum();
    let bytes_per_connection = moment
        .resident_bytes
        .saturating_sub(resident_bytes_first)
        .checked_div(connections)
        .filter(|_| connections >= CONNECTIONS_FOR_MEMORY && moment.resident_bytes > 0);
    Second {
        wall_ms: moment.wall_ms,
        resident_bytes: moment.resident_bytes,
        received_per_second: rate(last.received_bytes, moment.received_bytes),
        sent_per_second: rate(last.sent_bytes, moment.sent_bytes),
        connections: moment.connections.map(clamped),
        in_flight: clamped(moment.in_flight),
        answers_per_second: std::array::from_fn(|at| clamped(rate(last.answers[at], moment.answers[at]))),
        latency_us: PERCENTILES.map(|(_, share)| percentile(&latency, share)),
        bytes_per_connection: bytes_per_connection.map(clamped),
    }
}

fn lag_between(before: Option<&Tallies>, now: &Tallies) -> Lag {
    let lag = before.map_or(*now, |before| between(before, now));
    Lag { p99_us: percentile(&lag, 0.99), max_us: percentile(&lag, 1.0) }
}

fn clamped(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::narrow_buckets::BUCKETS;

    /// A moment in which nothing has happened yet.
    pub(in crate::dashboard) fn moment(monotonic_ms: u64, cores: usize) -> Moment {
        Moment {
            monotonic_ms,
            wall_ms: 1_000_000 + monotonic_ms,
            connections: [0; 6],
            in_flight: 0,
            answers: [0; 6],
            latency: Box::new([0; BUCKETS]),
            lag: vec![[0; BUCKETS]; cores],
            resident_bytes: 10_000_000,
            received_bytes: 0,
            sent_bytes: 0,
            routes: Vec::new(),
            failures: Vec::new(),
        }
    }

    fn only(history: &History) -> (Second, Vec<Lag>) {
        let mut seconds = history.since(0);
        let (second, lag) = seconds.next().unwrap();
        assert!(seconds.next().is_none());
        (second.clone(), lag.collect())
    }

    #[test]
    fn a_second_is_what_two_moments_differ_by_over_the_time_that_has_passed() {
        let mut history = History::default();
        history.handle_moment(&moment(0, 2));
        assert_eq!(history.since(0).count(), 0, "one moment is no second");
        let mut now = moment(2_000, 2);
        now.answers = [2_000, 20, 10, 6, 4, 2];
        (now.received_bytes, now.sent_bytes) = (4_096, 1 << 20);
        now.connections = [9_900, 50, 30, 10, 8, 2];
        (now.in_flight, now.resident_bytes) = (30, 10_000_000 + 610_000);
        now.latency[100] = 1;
        now.lag[1][8] = 3;
        history.handle_moment(&now);
        let (second, lag) = only(&history);
        assert_eq!(second.answers_per_second, [1_000, 10, 5, 3, 2, 1]);
        assert_eq!((second.received_per_second, second.sent_per_second), (2_048, 1 << 19));
        assert_eq!((second.connections, second.in_flight), ([9_900, 50, 30, 10, 8, 2], 30));
        assert_eq!(second.bytes_per_connection, Some(61));
        assert!(second.latency_us.iter().all(|us| us.is_some() && *us == second.latency_us[0]));
        assert_eq!((lag[0].p99_us, lag[1].p99_us, lag[1].max_us), (None, Some(8), Some(8)));
    }

    #[test]
    fn a_second_in_which_nothing_happened_has_no_latency() {
        let mut history = History::default();
        (0..2).for_each(|n| history.handle_moment(&moment(n * 1000, 1)));
        let (second, lag) = only(&history);
        assert_eq!(second.latency_us, [None; 4]);
        assert_eq!(second.bytes_per_connection, None, "nor is memory shared out among too few");
        assert_eq!(lag[0].max_us, None);
    }

    #[test]
    fn fifteen_minutes_are_kept_and_told_from_any_second_on() {
        let mut history = History::default();
        for n in 0..=1_000 {
            history.handle_moment(&moment(n * 1000, 3));
        }
        assert_eq!((history.next(), history.since(0).count()), (1_000, SECONDS_MAX));
        assert_eq!(history.lag.len(), SECONDS_MAX * 3);
        assert_eq!(history.since(0).next().unwrap().0.wall_ms, 1_000_000 + 101_000, "the oldest that is left");
        for (from, count) in [(99, SECONDS_MAX), (101, SECONDS_MAX - 1), (998, 2), (1_000, 0), (u64::MAX, 0)] {
            assert_eq!(history.since(from).count(), count, "from {from}");
        }
        assert!(history.since(998).all(|(_, lag)| lag.count() == 3));
    }

    #[test]
    fn a_wall_clock_that_is_set_back_draws_no_line_backwards() {
        let mut history = History::default();
        for n in 0..4_u64 {
            let mut now = moment(n * 1000, 1);
            now.wall_ms = [5_000, 6_000, 2_000, 3_000][n as usize];
            history.handle_moment(&now);
        }
        let times: Vec<u64> = history.since(0).map(|(second, _)| second.wall_ms).collect();
        assert_eq!(times, [6_000, 6_001, 6_002]);
    }

    #[test]
    fn of_very_many_cores_the_first_are_kept() {
        let mut history = History::default();
        (0..3).for_each(|n| history.handle_moment(&moment(n * 1000, CORES_MAX + 5)));
        assert_eq!((history.cores(), history.lag.len()), (CORES_MAX, 2 * CORES_MAX));
    }
}
