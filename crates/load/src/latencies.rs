//! Durations in a histogram of high dynamic range, and the figures that are told of them.
//!
//! Values are nanoseconds with three significant digits, from 1 ns to an hour; what is longer counts as an hour. The histogram
//! is Gil Tene's HdrHistogram.

use std::fmt;

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::SECOND_NS;

const LONGEST_NS: u64 = 3600 * SECOND_NS;
const SIGNIFICANT_DIGITS: u8 = 3;

/// A distribution of durations. It has no histogram before its first one: that takes 270 kB, and most of those that are sent
/// from a worker to the coordinator ten times a second are empty.
#[derive(Clone, Default)]
pub struct Latencies(Option<Histogram<u64>>);

/// What is told of a distribution, in seconds. All are 0 where nothing was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// How many durations there are.
    pub count: u64,
    /// The shortest.
    pub min: f64,
    /// The mean.
    pub mean: f64,
    /// Half of them were at most this long. The others are meant alike.
    pub p50: f64,
    /// 90 %.
    pub p90: f64,
    /// 99 %.
    pub p99: f64,
    /// 99.9 %.
    pub p99_9: f64,
    /// 99.99 %.
    pub p99_99: f64,
    /// The longest.
    pub max: f64,
}

impl Latencies {
    /// Adds a duration in nanoseconds.
    pub fn record(&mut self, ns: u64) {
        self.histogram().saturating_record(ns.max(1));
    }

    fn histogram(&mut self) -> &mut Histogram<u64> {
        self.0.get_or_insert_with(|| {
            let histogram = Histogram::new_with_bounds(1, LONGEST_NS, SIGNIFICANT_DIGITS);
            histogram.expect("the bounds and digits are within what the histogram takes")
        })
    }

    /// Adds all durations of another distribution.
    pub fn add(&mut self, other: &Self) {
        if let Some(other) = &other.0 {
            self.histogram().add(other).expect("all have the same bounds");
        }
    }

    /// How many durations there are.
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Histogram::len)
    }

    /// The duration, in seconds, that a share `quantile` (0 to 1) of all does not exceed. 0 where there is none.
    pub fn at(&self, quantile: f64) -> f64 {
        self.0.as_ref().map_or(0.0, |all| seconds(all.value_at_quantile(quantile).min(all.max())))
    }

    /// The figures that are told.
    pub fn quantiles(&self) -> Quantiles {
        let Some(all) = &self.0 else { return Quantiles::default() };
        Quantiles {
            count: all.len(),
            min: seconds(all.min()),
            mean: all.mean() / SECOND_NS as f64,
            p50: self.at(0.5),
            p90: self.at(0.9),
            p99: self.at(0.99),
            p99_9: self.at(0.999),
            p99_99: self.at(0.9999),
            max: seconds(all.max()),
        }
    }

    /// The curve of the distribution: pairs of a quantile (0 to 1) and its duration in seconds, denser towards the end.
    pub fn curve(&self) -> Vec<(f64, f64)> {
        let Some(all) = &self.0 else { return Vec::new() };
        let points = all.iter_quantiles(5);
        points.map(|point| (point.quantile_iterated_to(), seconds(point.value_iterated_to().min(all.max())))).collect()
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / SECOND_NS as f64
}

impl fmt::Debug for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.quantiles().fmt(f)
    }
}

/// As pairs of a value and how often it was recorded: most values never were.
impl Serialize for Latencies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let recorded = self.0.iter().flat_map(Histogram::iter_recorded);
        serializer.collect_seq(recorded.map(|step| (step.value_iterated_to(), step.count_at_value())))
    }
}

impl<'de> Deserialize<'de> for Latencies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut latencies = Self::default();
        for (value, count) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            latencies.histogram().saturating_record_n(value, count);
        }
        Ok(latencies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a figure is right to the digits that are kept.
    fn close(figure: f64, right: f64) -> bool {
        (figure - right).abs() <= right * 0.001
    }

    #[test]
    fn the_percentiles_of_a_uniform_distribution_are_known() {
        let mut latencies = Latencies::default();
        // 1 µs to 100 ms in steps of 1 µs.
        (1..=100_000u64).for_each(|step| latencies.record(step * 1_000));
        let told = latencies.quantiles();
        for (figure, right) in [
            (told.p50, 0.05),
            (told.p90, 0.09),
            (told.p99, 0.099),
            (told.p99_9, 0.0999),
            (told.p99_99, 0.09999),
            (told.max, 0.1),
            (told.min, 0.000_001),
            (told.mean, 0.050_000_5),
        ] {
            assert!(close(figure, right), "{figure} is not {right}");
        }
        assert_eq!(told.count, 100_000);
    }

    #[test]
    fn the_percentiles_of_an_exponential_distribution_are_known() {
        let mut latencies = Latencies::default();
        let count = 200_000;
        // The inverse of the distribution function at evenly spaced quantiles; the mean is 10 ms.
        for step in 0..count {
            let quantile = (f64::from(step) + 0.5) / f64::from(count);
            latencies.record((-(1.0 - quantile).ln() * 1e7) as u64);
        }
        for quantile in [0.5, 0.9, 0.99, 0.999, 0.9999] {
            let (figure, right) = (latencies.at(quantile), -(1.0f64 - quantile).ln() * 0.01);
            assert!((figure - right).abs() <= right * 0.005, "{figure} is not {right}");
        }
    }

    #[test]
    fn rare_long_ones_show_where_they_belong() {
        let mut latencies = Latencies::default();
        (0..999).for_each(|_| latencies.record(1_000_000));
        latencies.record(2 * SECOND_NS);
        let told = latencies.quantiles();
        assert!(close(told.p99, 0.001) && close(told.p99_9, 0.001), "{told:?}");
        assert!(close(told.p99_99, 2.0) && close(told.max, 2.0), "{told:?}");
    }

    #[test]
    fn what_is_sent_from_one_process_to_another_arrives_whole() {
        let mut latencies = Latencies::default();
        for ns in [1, 999, 1_234_567, 7 * SECOND_NS, u64::MAX] {
            latencies.record(ns);
        }
        let text = serde_json::to_string(&latencies).unwrap();
        let copy: Latencies = serde_json::from_str(&text).unwrap();
        assert_eq!(copy.0, latencies.0);
        let mut both = latencies.clone();
        both.add(&copy);
        assert_eq!((both.count(), both.at(0.5)), (10, latencies.at(0.5)));
        assert_eq!(serde_json::to_string(&Latencies::default()).unwrap(), "[]");
        assert_eq!(serde_json::from_str::<Latencies>("[]").unwrap().quantiles(), Quantiles::default());
    }
}
