//! The rate limit that several instances share.
//!
//! Without a store the event loop keeps the limit, before a request is routed. A store answers later, so with one the limit is a layer of
//! the router, under the layer for CORS, whose preflights therefore never count; `/health` and what is below it pass it by.

use baiwan::RateLimitMode;
use baiwan::settings::Settings;
use baiwan_limits::{Networks, RateLimit, RedisStore, SharedRateLimit};
use http::request::Parts;

use crate::config::{Config, LimitStore};

/// The clients of this machine.
const LOOPBACK: &str = "127.0.0.0/8,::1";
/// Those over a Unix socket of whom no trusted proxy says more.
const UNKNOWN: &str = "0.0.0.0";

/// Takes the limit out of what the event loop is told, where instances share it, and opens the store.
pub(crate) fn take_shared(config: &Config, server: &mut Settings) -> Option<SharedRateLimit> {
    let LimitStore::Redis(url) = &config.rate_limit_store else { return None };
    let quota = server.rate_limit.quota_in_force().ok().flatten()?;
    server.rate_limit.quota = None;
    let scope = &server.rate_limit.scope;
    let limit = RateLimit::from(quota)
        .by(baiwan_limits::ClientIp)
        .ipv6_prefix(scope.ipv6_prefix)
        .exempt_networks(exempt(&scope.exempt, scope.exempts_loopback))
        .cost_by(|parts: &Parts| if is_health(parts.uri.path()) { 0 } else { 1 });
    let limit = if server.rate_limit.mode == RateLimitMode::Report { limit.report_only() } else { limit };
    Some(limit.store(RedisStore::open(url.clone(), config.rate_limit_instances)))
}

fn is_health(path: &str) -> bool {
    path.strip_prefix("/health").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn exempt(networks: &Networks, and_loopback: bool) -> Networks {
    let named = Some(networks.to_string()).filter(|_| !networks.is_empty());
    let all: Vec<_> =
        named.into_iter().chain(and_loopback.then(|| LOOPBACK.to_owned())).chain([UNKNOWN.to_owned()]).collect();
    // Fails where there is no room for more: those that were named are exempt then.
    all.join(",").parse().unwrap_or_else(|_| networks.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_store_or_without_a_limit_the_event_loop_keeps_what_it_was_told() {
        let mut config = Config::default();
        let mut server = config.server.clone();
        assert!(take_shared(&config, &mut server).is_none() && server.rate_limit == config.server.rate_limit);
        config.rate_limit_store = "redis://127.0.0.1:1".parse().unwrap();
        server.rate_limit.quota = None;
        assert!(take_shared(&config, &mut server).is_none());
        let mut server = config.server.clone();
        assert!(take_shared(&config, &mut server).is_some() && server.rate_limit.quota.is_none());
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
}
