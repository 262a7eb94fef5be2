//! The store's metrics, as Prometheus reads them: made of the counts of all cores when somebody asks.

use std::fmt;
use std::sync::Arc;

use baiwan::metrics::describe;
use baiwan::metrics::prometheus_client::collector::Collector;
use baiwan::metrics::prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};

use super::counts::{BOUNDS, Counts, ERRORS, OPERATIONS};

/// What tells of a store as long as anybody asks, even once it is closed.
#[derive(Debug)]
pub(super) struct StoreCollector(pub(super) Arc<Counts>);

impl Collector for StoreCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let sums = self.0.sums();
        describe(&mut encoder, "baiwan_store_up")?.encode_gauge(&i64::from(sums.is_up))?;
        let under_way = i64::try_from(sums.under_way).unwrap_or(i64::MAX);
        describe(&mut encoder, "baiwan_store_queue_length")?.encode_gauge(&under_way)?;
        let mut errors = describe(&mut encoder, "baiwan_store_errors_total")?;
        for (reason, count) in ERRORS.iter().zip(sums.errors) {
            errors.encode_family(&[("reason", *reason)])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let mut waits = describe(&mut encoder, "baiwan_store_wait_seconds")?;
        for (operation, sums) in OPERATIONS.iter().zip(&sums.waits) {
            let bounds = BOUNDS.iter().copied().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(sums.buckets).collect();
            let count = sums.buckets.iter().sum();
            waits.encode_family(&[("operation", *operation)])?.encode_histogram::<NoLabelSet>(
                sums.seconds,
                count,
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use baiwan::metrics::prometheus_client::encoding::text::encode;
    use baiwan::metrics::prometheus_client::registry::Registry;

    use super::*;
    use crate::store::StoreError;
    use crate::store::counts::{Counter, Operation};

    #[tokio::test(start_paused = true)]
    async fn a_scrape_has_every_metric_of_the_store() {
        let counts = Counts::new(1);
        let counter = Counter::of_core(&counts, 0);
        let _ = counter.begin(Operation::Change).end::<()>(Err(StoreError::QueueFull));
        let waiting = counter.begin(Operation::Read);
        counter.begin_check().end(false);
        let mut registry = Registry::default();
        registry.register_collector(Box::new(StoreCollector(Arc::clone(&counts))));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "baiwan_store_up 0",
            "baiwan_store_queue_length 1",
            r#"baiwan_store_errors_total{reason="queue-full"} 1"#,
            r#"baiwan_store_errors_total{reason="unavailable"} 0"#,
            r#"baiwan_store_wait_seconds_count{operation="change"} 1"#,
            r#"baiwan_store_wait_seconds_bucket{le="1.5",operation="read"} 0"#,
            r#"baiwan_store_wait_seconds_bucket{le="+Inf",operation="change"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        drop(waiting);
    }
}
