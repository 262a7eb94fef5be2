//! Percentiles out of the buckets of a histogram of Prometheus.
//!
//! Estimated as Prometheus does (`histogram_quantile`): within a bucket, durations are taken to be spread evenly. So an estimate lies in the
//! right bucket, and is wrong by its width at the most; beyond the last bound nothing is known but that bound.
//!
//! The invariant: `counts` has one bucket more than there are bounds, the last for all that is longer.

/// The duration in seconds that a `share` (0 to 1) of what was counted does not exceed. `counts` are those of each bucket, not added up.
/// None where nothing was counted.
pub(super) fn quantile(bounds: &[f64], counts: &[u64], share: f64) -> Option<f64> {
    debug_assert_eq!(counts.len(), bounds.len() + 1);
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return None;
    }
    let rank = total as f64 * share;
    let mut below = 0.0;
    for (at, &count) in counts.iter().enumerate() {
        let count = count as f64;
        if count > 0.0 && below + count >= rank {
            let Some(&end) = bounds.get(at) else { break };
            let begin = if at == 0 { 0.0 } else { bounds[at - 1] };
            return Some(begin + (end - begin) * ((rank - below) / count).clamp(0.0, 1.0));
        }
        below += count;
    }
    bounds.last().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [f64; 3] = [0.1, 0.5, 1.0];

    #[test]
    fn an_estimate_is_what_prometheus_says() {
        // 10 up to 0.1, 10 up to 0.5: the 15th of 20 is half way into the second bucket.
        for (share, expected) in [(0.0, 0.0), (0.25, 0.05), (0.5, 0.1), (0.75, 0.3), (1.0, 0.5)] {
            let found = quantile(&BOUNDS, &[10, 10, 0, 0], share).unwrap();
            assert!((found - expected).abs() < 1e-9, "{share}: {found}");
        }
        assert_eq!(quantile(&BOUNDS, &[0, 0, 0, 7], 0.5), Some(1.0), "beyond the last bound it is that bound");
        assert_eq!(quantile(&BOUNDS, &[0; 4], 0.5), None);
    }
}
