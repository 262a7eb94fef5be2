//! What the cores of a server have counted, added up when somebody asks, on the thread of whoever does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::core::{Core, DENIALS};
use super::histogram::Distribution;
use super::labels::Labels;
use crate::route_table::RouteNumber;

/// Requests with the same labels.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pub(super) count: u64,
    pub(super) durations: Distribution,
}

/// The sums.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub(super) requests: BTreeMap<Labels, Requests>,
    pub(super) streams: BTreeMap<RouteNumber, Distribution>,
    /// In the order of [`DENIALS`].
    pub(super) denied: [u64; DENIALS.len()],
    pub(super) received_bytes: u64,
    pub(super) sent_bytes: u64,
    /// By core.
    pub(super) lags: Vec<Distribution>,
    pub(super) turns: Vec<Distribution>,
}

impl Sums {
    pub(super) fn of(cores: &[Arc<Core>]) -> Self {
        let mut sums = Self::default();
        for core in cores {
            sums.add(core);
        }
        sums
    }

    fn add(&mut self, core: &Core) {
        for series in core.series() {
            let sum = self.requests.entry(series.labels).or_default();
            sum.count += series.count.load(Relaxed);
            series.durations.add_to(&mut sum.durations);
        }
        for stream in core.streams() {
            stream.durations.add_to(self.streams.entry(stream.route).or_default());
        }
        self.denied.iter_mut().zip(&core.denied).for_each(|(sum, count)| *sum += count.load(Relaxed));
        let of = |counter: &AtomicU64| counter.load(Relaxed);
        self.received_bytes += of(&core.received_bytes);
        self.sent_bytes += of(&core.sent_bytes);
        let (mut lags, mut turns) = <(Distribution, Distribution)>::default();
        core.lags.add_to(&mut lags);
        core.turns.add_to(&mut turns);
        self.lags.push(lags);
        self.turns.push(turns);
    }
}
