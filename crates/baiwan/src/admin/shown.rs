//! What a scrape shows of the server's health and of each check.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::checks::Verdict;
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
        let (live, ready) = (self.health.is_live(), self.health.is_ready());
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
