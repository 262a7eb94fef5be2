//! What came of the last reading of the settings, as Prometheus reads it. The start counts as one that was right.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use baiwan::metrics::describe;
use baiwan::metrics::prometheus_client::collector::Collector;
use baiwan::metrics::prometheus_client::encoding::DescriptorEncoder;

use crate::clock::now_seconds;

/// Whether the last reading was right, and when one was.
#[derive(Debug)]
pub(crate) struct Outcome(Mutex<Last>);

#[derive(Clone, Copy, Debug)]
struct Last {
    successful: bool,
    /// In seconds since 1970.
    succeeded_at: f64,
}

impl Outcome {
    /// That of the start.
    pub(crate) fn of_start() -> Arc<Self> {
        Arc::new(Self(Mutex::new(Last { successful: true, succeeded_at: now_seconds() })))
    }

    /// Notes a reading that has just ended.
    pub(crate) fn note(&self, successful: bool) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.successful = successful;
        if successful {
            last.succeeded_at = now_seconds();
        }
    }
}

/// Part of a scrape.
#[derive(Debug)]
pub(crate) struct OutcomeCollector(pub(crate) Arc<Outcome>);

impl Collector for OutcomeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Last { successful, succeeded_at } = *self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        describe(&mut encoder, "baiwan_config_last_reload_successful")?.encode_gauge(&u64::from(successful))?;
        describe(&mut encoder, "baiwan_config_last_reload_success_timestamp_seconds")?.encode_gauge(&succeeded_at)
    }
}

#[cfg(test)]
mod tests {
    use baiwan::metrics::prometheus_client::encoding::text::encode;
    use baiwan::metrics::prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn a_failure_keeps_the_time_of_the_last_success() {
        let outcome = Outcome::of_start();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(OutcomeCollector(Arc::clone(&outcome))));
        let scrape = || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.map(|line| line.split_once(' ').unwrap().1.parse().unwrap()).collect::<Vec<f64>>()
        };
        let start = scrape();
        assert!(start[0] == 1.0 && start[1] > 1.7e9, "{start:?}");
        outcome.note(false);
        assert_eq!(scrape(), [0.0, start[1]]);
        outcome.note(true);
        assert!(scrape()[0] == 1.0 && scrape()[1] >= start[1]);
    }
}
