//! How much of the exchanges is written when there are too many.
//!
//! The writer counts what there was in the last second, and says one in how many the cores are to note. So a short burst is written as a
//! whole, and a long one reaches its measure within a second.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What a rate is counted over.
const WINDOW: Duration = Duration::from_secs(1);

/// Counts exchanges.
#[derive(Debug)]
pub(super) struct Sampling {
    /// Of one window; None writes all.
    lines_max: Option<u64>,
    /// When exchanges were counted, and how many had come since the time before.
    counts: VecDeque<(Instant, u64)>,
    /// Of `counts`.
    sum: u64,
}

impl Sampling {
    pub(super) fn new(lines_per_second_max: Option<u64>) -> Self {
        Self { lines_max: lines_per_second_max, counts: VecDeque::new(), sum: 0 }
    }

    /// Notes that there were as many exchanges since this was called last. Returns one in how many is to be written.
    pub(super) fn handle_count(&mut self, now: Instant, exchanges: u64) -> u64 {
        let Some(max) = self.lines_max else { return 1 };
        while self.counts.front().is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.sum -= self.counts.pop_front().map_or(0, |(_, count)| count);
        }
        if exchanges > 0 {
            self.counts.push_back((now, exchanges));
            self.sum += exchanges;
        }
        self.sum.div_ceil(max).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_written_as_a_whole_and_a_flood_reaches_its_measure_in_a_second() {
        let begin = tokio::time::Instant::now().into_std();
        let mut sampling = Sampling::new(Some(1000));
        let mut at = |ms: u64, exchanges| sampling.handle_count(begin + Duration::from_millis(ms), exchanges);
        assert_eq!(at(0, 900), 1);
        assert_eq!(at(100, 0), 1);
        assert_eq!(at(1100, 1000), 1, "as many as may be");
        let ratios: Vec<_> = (0..12).map(|round| at(3000 + round * 100, 500)).collect();
        assert_eq!(ratios, [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 5, 5]);
        assert_eq!(at(6000, 1), 1, "it is over");
        assert_eq!(Sampling::new(None).handle_count(begin, u64::MAX), 1);
    }
}
