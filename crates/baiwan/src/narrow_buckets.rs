//! Durations counted in narrow buckets: what a core adds to, and the percentiles that come of it.
//!
//! The buckets of Prometheus's histograms are wide, so a percentile that is estimated from them says little: all that takes less
//! than 5 ms is one bucket. Here each power of two is divided into eight buckets of equal width (the log-linear form of
//! [HdrHistogram](https://hdrhistogram.github.io/HdrHistogram/), with 3 bits). It is *not* a record of durations: nothing
//! remembers one of them, and longer ones than [`DURATION_US_MAX`] count as that.
//!
//! The invariant: a bucket is at most an eighth of its lower bound wide, or 1 microsecond.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::status::add;

/// Buckets of each power of two.
const STEPS: u64 = 8;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// The longest that is told from longer ones: 71 minutes.
pub(crate) const DURATION_US_MAX: u64 = u32::MAX as u64;
/// How many buckets there are.
pub(crate) const BUCKETS: usize = bucket(DURATION_US_MAX) + 1;
const _: () = assert!(BUCKETS == 240);

/// How many durations fell into each bucket.
pub(crate) type Tallies = [u64; BUCKETS];

/// What one core adds to: 1,920 bytes.
#[derive(Debug)]
pub(crate) struct Narrow([AtomicU64; BUCKETS]);

impl Default for Narrow {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKETS])
    }
}

impl Narrow {
    /// Counts one. Only one thread at a time may.
    #[inline]
    pub(crate) fn count(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        add(&self.0[bucket(us)], 1);
    }

    /// Adds what was counted so far to `sums`; from any thread.
    pub(crate) fn add_to(&self, sums: &mut Tallies) {
        for (sum, bucket) in sums.iter_mut().zip(&self.0) {
            *sum = sum.wrapping_add(bucket.load(Relaxed));
        }
    }
}

/// What came between two moments.
pub(crate) fn between(before: &Tallies, after: &Tallies) -> Tallies {
    std::array::from_fn(|at| after[at].wrapping_sub(before[at]))
}

/// The duration in microseconds that at least `share` (0 to 1) of those counted do not exceed: the middle of the bucket in which that one
/// lies (the nearest rank), so at most a sixteenth away from it, or half a microsecond. None where nothing was counted.
pub(crate) fn percentile(tallies: &Tallies, share: f64) -> Option<u32> {
    let count: u64 = tallies.iter().sum();
    let rank = ((count as f64 * share).ceil() as u64).clamp(1, count.max(1));
    let mut below = 0;
    let reached = tallies.iter().position(|tally| {
        below += tally;
        below >= rank
    })?;
    let [least, next] = [lower_bound(reached), lower_bound(reached + 1)];
    u32::try_from(u64::midpoint(least, next)).ok().or(Some(u32::MAX))
}

/// Which bucket a number of microseconds belongs to.
const fn bucket(us: u64) -> usize {
    let us = if us > DURATION_US_MAX { DURATION_US_MAX } else { us };
    if us < STEPS {
        return us as usize;
    }
    // The highest bit that is set, and the three below it.
    let shift = us.ilog2() - STEP_BITS;
    ((shift as u64 * STEPS) + (us >> shift)) as usize
}

/// The least number of microseconds that belongs to a bucket.
const fn lower_bound(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    (bucket % STEPS + STEPS) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tallies(durations_us: impl IntoIterator<Item = u64>) -> Tallies {
        let narrow = Narrow::default();
        durations_us.into_iter().for_each(|us| narrow.count(Duration::from_micros(us)));
        let mut sums = [0; BUCKETS];
        narrow.add_to(&mut sums);
        sums
    }

    #[test]
    fn each_duration_lies_in_its_bucket_and_no_bucket_is_wider_than_an_eighth() {
        let powers = (0..32).flat_map(|power| [1_u64 << power, (1 << power) + 1, (2_u64 << power) - 1]);
        for us in (0..5000).chain(powers).chain([DURATION_US_MAX]) {
            let at = bucket(us);
            let (least, next) = (lower_bound(at), lower_bound(at + 1));
            assert!(least <= us && us < next, "{us} in {least}..{next}");
            assert!((next - least) * STEPS <= least.max(STEPS), "{least}..{next}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_percentile_is_the_nearest_rank_within_a_sixteenth() {
        let all = tallies((1..=10_000).map(|n| n * 10));
        for (share, exact) in [(0.5, 50_000.0), (0.9, 90_000.0), (0.99, 99_000.0), (0.999, 99_900.0), (1.0, 100_000.0)]
        {
            let found = f64::from(percentile(&all, share).unwrap());
            assert!((found / exact - 1.0).abs() <= 1.0 / 16.0, "{share}: {found} for {exact}");
        }
        assert_eq!(percentile(&tallies([]), 0.5), None);
        assert_eq!(percentile(&tallies([7]), 0.0), Some(7), "the least");
        assert_eq!(percentile(&tallies([1, 1, 1, 7]), 0.75), Some(1));
        assert_eq!(percentile(&tallies([1, 1, 1, 7]), 0.76), Some(7));
    }

    #[test]
    fn a_second_has_what_came_in_it() {
        let before = tallies([5, 5]);
        let after = tallies([5, 5, 100, 5]);
        assert_eq!(between(&before, &after), tallies([100, 5]));
    }
}
