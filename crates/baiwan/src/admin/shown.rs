//! What a scrape shows of the server's health and of each check.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::checks::Verdict;
use super::health::{is_live, is_ready};
use crate::metrics::describe;
use crate::status::Health;

/// Part of a scrape.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) health: Health,
    pub(super) checks: Vec<Arc<Verdict>>,
}

impl Collector for Shown {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (live, ready) = (is_live(&self.health), is_ready(&self.health, &self.checks));
        describe(&mut encoder, "baiwan_live")?.encode_gauge(&u64::from(live))?;
        describe(&mut encoder, "baiwan_ready")?.encode_gauge(&u64::from(ready))?;
        let mut metric = describe(&mut encoder, "baiwan_health_check_up")?;
        for check in &self.checks {
            // One that was not run yet has not failed.
            let Some(good) = check.is_good() else { continue };
            metric.encode_family(&[("check", &*check.name)])?.encode_gauge(&u64::from(good))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn a_server_that_starts_is_live_and_not_ready_as_its_health_says() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Shown { health: Health(Arc::default()), checks: Vec::new() }));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert!(text.contains("\nbaiwan_live 1\n") && text.contains("\nbaiwan_ready 0\n"), "{text}");
    }
}
