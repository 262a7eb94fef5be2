//! Durations by size: counts of those up to each of some bounds, and their sum.
//!
//! One thread at a time writes, with plain loads and stores; anybody reads. The numbers of a histogram are not taken at one instant:
//! what is read is what was written so far, never more.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::status::add;

/// Upper bounds of requests, in seconds: those of OpenTelemetry's `http.server.request.duration`.
pub(super) static REQUEST_BOUNDS: Bounds<14> =
    Bounds::new([0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]);
/// Of streams and of connections that have switched protocols.
pub(super) static STREAM_BOUNDS: Bounds<8> = Bounds::new([1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0]);
/// Of turns of a core's loop.
pub(super) static TURN_BOUNDS: Bounds<10> = Bounds::new([0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0]);

/// What durations are sorted by.
#[derive(Debug)]
pub(super) struct Bounds<const N: usize> {
    pub(super) seconds: [f64; N],
    nanoseconds: [u64; N],
}

impl<const N: usize> Bounds<N> {
    const fn new(seconds: [f64; N]) -> Self {
        let (mut nanoseconds, mut at) = ([0; N], 0);
        while at < N {
            // All bounds are whole tenths of a millisecond.
            nanoseconds[at] = (seconds[at] * 1e4 + 0.5) as u64 * 100_000;
            at += 1;
        }
        Self { seconds, nanoseconds }
    }
}

/// Durations by the bounds of one kind, and those beyond the last.
#[derive(Debug)]
pub(super) struct Histogram<const N: usize> {
    bounds: &'static Bounds<N>,
    up_to: [AtomicU64; N],
    beyond: AtomicU64,
    sum_ns: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    pub(super) fn new(bounds: &'static Bounds<N>) -> Self {
        Self { bounds, up_to: [const { AtomicU64::new(0) }; N], beyond: AtomicU64::new(0), sum_ns: AtomicU64::new(0) }
    }

    /// Counts one. Only one thread at a time may.
    #[inline]
    pub(super) fn observe(&self, duration: Duration) {
        let ns = duration.as_secs().saturating_mul(1_000_000_000) + u64::from(duration.subsec_nanos());
        let at = self.bounds.nanoseconds.iter().position(|bound| ns <= *bound);
        add(at.map_or(&self.beyond, |at| &self.up_to[at]), 1);
        add(&self.sum_ns, ns);
    }

    /// Adds what was counted so far.
    pub(super) fn add_to(&self, sum: &mut Distribution) {
        if sum.buckets.is_empty() {
            *sum = Distribution::new(&self.bounds.seconds);
        }
        let counts = self.up_to.iter().chain([&self.beyond]);
        sum.buckets.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count.load(Relaxed));
        sum.sum_seconds += self.sum_ns.load(Relaxed) as f64 / 1e9;
    }
}

/// Durations by size, added up.
#[derive(Clone, PartialEq, Debug, Default)]
#[non_exhaustive]
pub struct Distribution {
    /// Upper bounds of the buckets, in seconds, ascending.
    pub bounds: &'static [f64],
    /// How many were up to each bound and above the one before; the last, which has no bound, how many were above all. Empty where
    /// nothing was counted.
    pub buckets: Vec<u64>,
    /// Of all durations, in seconds.
    pub sum_seconds: f64,
}

impl Distribution {
    fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, buckets: vec![0; bounds.len() + 1], sum_seconds: 0.0 }
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds what another has counted by the same bounds.
    pub(super) fn add(&mut self, other: &Self) {
        if self.buckets.is_empty() {
            return *self = other.clone();
        }
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(sum, count)| *sum += count);
        self.sum_seconds += other.sum_seconds;
    }

    /// Pairs of a bound and a count, as encoders take them; the last bound is infinite.
    pub(super) fn pairs(&self) -> Vec<(f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.buckets.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_up_to_the_bound_that_it_reaches() {
        let histogram = Histogram::new(&REQUEST_BOUNDS);
        for ms in [0, 5, 6, 10, 10_000, 10_001] {
            histogram.observe(Duration::from_millis(ms));
        }
        let mut sum = Distribution::default();
        histogram.add_to(&mut sum);
        histogram.add_to(&mut sum);
        assert_eq!((sum.buckets[0], sum.buckets[1], sum.buckets[13], sum.buckets[14]), (4, 4, 2, 2));
        assert_eq!((sum.count(), sum.sum_seconds), (12, 2.0 * 20.022));
        assert_eq!(sum.pairs()[14], (f64::INFINITY, 2));
        for (seconds, ns) in TURN_BOUNDS.seconds.iter().zip(TURN_BOUNDS.nanoseconds) {
            assert_eq!(Duration::from_secs_f64(*seconds), Duration::from_nanos(ns));
        }
    }
}
