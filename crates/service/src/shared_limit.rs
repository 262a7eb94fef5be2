//! The rate limit that several instances share.
//!
//! Without a store the event loop keeps the limit, before a request is routed. A store answers later, so with one the limit is a layer of
//! the router, under the layer for CORS, whose preflights therefore never count; `/health` and what is below it pass it by.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use baiwan::RateLimitMode;
use baiwan::metrics::describe;
use baiwan::metrics::prometheus_client::collector::Collector;
use baiwan::metrics::prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use baiwan::settings::{RateLimits, Settings};
use baiwan_limits::{Networks, RateLimit, RedisStore, SharedRateLimit};
use http::request::Parts;

use crate::config::{Config, LimitStore};

/// The clients of this machine.
const LOOPBACK: &str = "127.0.0.0/8,::1";
/// Those over a Unix socket of whom no trusted proxy says more.
const UNKNOWN: &str = "0.0.0.0";

/// The limit that instances share, if they do; it may change while the service runs. Its store is open from the start on, even while there is
/// no limit, because what a core wakes must be there before it.
pub(crate) struct SharedLimits {
    store: RedisStore,
    now: Mutex<Now>,
}

/// The limit in force.
#[derive(Default)]
struct Now {
    /// What it was made of.
    rules: Option<RateLimits>,
    limit: Option<SharedRateLimit>,
}

impl SharedLimits {
    /// Opens the store, if instances share the limit.
    pub(crate) fn open(config: &Config) -> Option<Arc<Self>> {
        let LimitStore::Redis(url) = &config.rate_limit_store else { return None };
        let store = RedisStore::open(url.clone(), config.rate_limit_instances);
        Some(Arc::new(Self { store, now: Mutex::default() }))
    }

    /// Makes the limit a layer, and has the event loop know it without keeping it: it shows the limit, and counts what the layer decides. What
    /// clients owe is in the store under the numbers of their quota: with another quota they begin anew.
    pub(crate) fn take(&self, server: &mut Settings) -> Option<SharedRateLimit> {
        server.rate_limit.is_kept_by_app = true;
        let rules = server.rate_limit.clone();
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.rules.as_ref() != Some(&rules) {
            let limit = layer(&rules).map(|limit| limit.store(self.store.clone()));
            *now = Now { rules: Some(rules), limit };
        }
        now.limit.clone()
    }

    /// What tells metrics of the store.
    pub(crate) fn collector(&self) -> StoreCollector {
        StoreCollector(self.store.clone())
    }
}

/// What a scrape has of the store.
#[derive(Debug)]
pub(crate) struct StoreCollector(RedisStore);

impl Collector for StoreCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        describe(&mut encoder, "baiwan_rate_limit_store_up")?.encode_gauge(&i64::from(self.0.is_there()))?;
        let undecided = self.0.statistics().undecided;
        describe(&mut encoder, "baiwan_rate_limit_store_undecided_total")?
            .encode_counter::<NoLabelSet, _, u64>(&undecided, None)
    }
}

fn layer(rules: &RateLimits) -> Option<RateLimit> {
    let quota = rules.quota_in_force().ok().flatten()?;
    let scope = &rules.scope;
    let limit = RateLimit::from(quota)
        .by(baiwan_limits::ClientIp)
        .ipv6_prefix(scope.ipv6_prefix)
        .exempt_networks(exempt(&scope.exempt, scope.exempts_loopback))
        .cost_by(|parts: &Parts| if is_health(parts.uri.path()) { 0 } else { 1 });
    Some(if rules.mode == RateLimitMode::Report { limit.report_only() } else { limit })
}

fn is_health(path: &str) -> bool {
    path.strip_prefix("/health").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Those that are named, however many, and those that have no budget of their own: clients of whom no address is known, and of this machine.
fn exempt(networks: &Networks, and_loopback: bool) -> Networks {
    let own = if and_loopback { format!("{LOOPBACK},{UNKNOWN}") } else { UNKNOWN.to_owned() };
    networks.clone().joined(own.parse().expect("these are networks"))
}

#[cfg(test)]
mod tests {
    use baiwan_limits::NETWORKS_MAX;

    use super::*;

    #[test]
    fn with_a_store_the_event_loop_keeps_no_limit_but_knows_it_and_the_layer_changes_with_the_rules() {
        let mut config = Config::default();
        assert!(SharedLimits::open(&config).is_none(), "the event loop keeps what it was told");
        config.rate_limit_store = "redis://127.0.0.1:1".parse().unwrap();
        let limits = SharedLimits::open(&config).unwrap();
        let take = |quota: &str| {
            let mut server = config.server.clone();
            server.rate_limit.quota = quota.parse().ok();
            let limit = limits.take(&mut server);
            assert!(server.rate_limit.is_kept_by_app && server.rate_limit.quota == quota.parse().ok());
            limit
        };
        assert!(take("100/s").is_some() && take("off").is_none() && take("10/s").is_some());
    }

    #[test]
    fn health_is_a_path_and_what_is_below_it() {
        assert!(["/health", "/health/", "/health/ready"].into_iter().all(is_health));
        assert!(!["/healthy", "/", "/api/health"].into_iter().any(is_health));
    }

    #[test]
    fn loopback_is_exempt_beside_those_that_are_named() {
        assert_eq!(exempt(&Networks::default(), true).to_string(), format!("{LOOPBACK},{UNKNOWN}"));
        assert_eq!(
            exempt(&"10.0.0.0/8".parse().unwrap(), true).to_string(),
            format!("10.0.0.0/8,{LOOPBACK},{UNKNOWN}")
        );
        assert_eq!(exempt(&"10.0.0.0/8".parse().unwrap(), false).to_string(), format!("10.0.0.0/8,{UNKNOWN}"));
    }

    #[test]
    fn a_full_list_of_networks_leaves_nobody_out_who_is_exempt_without_being_named() {
        let full: Networks = vec!["10.0.0.0/8"; NETWORKS_MAX].join(",").parse().unwrap();
        let contains = |and_loopback, ip: &str| exempt(&full, and_loopback).contains(ip.parse().unwrap());
        assert!(["0.0.0.0", "127.0.0.1", "::1", "10.1.2.3"].into_iter().all(|ip| contains(true, ip)));
        assert!(contains(false, "0.0.0.0") && !contains(false, "127.0.0.1") && !contains(true, "192.0.2.1"));
    }
}
