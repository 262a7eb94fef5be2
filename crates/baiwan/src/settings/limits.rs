//! What settings say of who may ask how often, and how it is written.

use std::sync::Arc;

use baiwan_limits::{Networks, Quota, QuotaError};

use super::value::{OFF, is_off, whole_number};
use crate::rate_limit::{RateLimit, RateLimitMode, Scope};

/// Prefixes of IPv6 addresses that may count as one client: none that holds many providers.
const IPV6_PREFIXES: std::ops::RangeInclusive<u8> = 32..=128;

/// How often each client may ask.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RateLimits {
    /// None: as often as it likes.
    pub quota: Option<Quota>,
    /// Requests at once, where that is not what the quota says.
    pub burst: Option<u32>,
    /// What becomes of those that are too many.
    pub mode: RateLimitMode,
    /// Which clients are counted, and how.
    pub scope: Scope,
    /// A layer of the app keeps it, so the event loop counts nobody.
    pub is_kept_by_app: bool,
}

impl RateLimits {
    /// The quota with its burst, if there is one.
    ///
    /// # Errors
    /// What is allowed for the burst.
    pub fn quota_in_force(&self) -> Result<Option<Quota>, String> {
        let (Some(quota), Some(burst)) = (self.quota, self.burst) else { return Ok(self.quota) };
        quota.with_burst(burst).map(Some).map_err(|error| match error {
            QuotaError::BurstTooLong { most, .. } => {
                format!("a whole number up to {most}: at RATE_LIMIT, more would need over an hour to come back")
            }
            _ => "a whole number of at least 1".to_owned(),
        })
    }

    /// Requests a second that each client may send on average, if that is limited.
    #[cfg(feature = "metrics")]
    pub(crate) fn per_second(&self) -> Option<f64> {
        let quota = self.quota_in_force().ok().flatten()?;
        Some(f64::from(quota.requests()) / quota.window().as_secs_f64())
    }

    /// The limit that all cores ask, if there is one and no layer keeps it. In the place of another it knows what clients owe that one.
    pub(super) fn in_force(&self, before: Option<&RateLimit>) -> Option<Arc<RateLimit>> {
        let quota = self.quota_in_force().ok().flatten().filter(|_| !self.is_kept_by_app)?;
        Some(match before {
            Some(before) => before.changed(quota, self.mode, self.scope.clone()),
            None => RateLimit::new(quota, self.mode, self.scope.clone()),
        })
    }

    /// Sets `RATE_LIMIT`. What was set counts for everybody who is not exempt by name.
    pub(super) fn set_quota(&mut self, text: &str) -> Result<(), String> {
        self.quota = match text {
            _ if is_off(text) => None,
            _ => Some(text.parse().map_err(|_| {
                "requests a second such as 100 or 100/s, or 1000/min or 10000/h, at most 10000/s; or off".to_owned()
            })?),
        };
        self.scope.exempts_loopback = false;
        Ok(())
    }

    pub(super) fn shown_quota(&self) -> String {
        self.quota.map_or_else(|| OFF.to_owned(), |quota| quota.to_string())
    }
}

/// Parses a list of networks; `off` is none. The error says what is allowed.
pub(super) fn parse_networks(text: &str) -> Result<Networks, String> {
    match text {
        _ if is_off(text) => Ok(Networks::default()),
        _ => text.parse().map_err(|allowed| format!("{allowed}; or off")),
    }
}

pub(super) fn shown_networks(networks: &Networks) -> String {
    if networks.is_empty() { OFF.to_owned() } else { networks.to_string() }
}

/// Parses how much of an IPv6 address is one client. The error says what is allowed.
pub(super) fn parse_ipv6_prefix(text: &str) -> Result<u8, String> {
    let prefix = whole_number(text).and_then(|prefix| u8::try_from(prefix).ok());
    prefix
        .filter(|prefix| IPV6_PREFIXES.contains(prefix))
        .ok_or_else(|| format!("a whole number from {} to {}", IPV6_PREFIXES.start(), IPV6_PREFIXES.end()))
}

/// The prefix nearest to `prefix` that is allowed.
pub(crate) fn nearest_ipv6_prefix(prefix: u8) -> u8 {
    prefix.clamp(*IPV6_PREFIXES.start(), *IPV6_PREFIXES.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_set_exempts_nobody_by_itself() {
        let mut limits = RateLimits::default();
        limits.scope.exempts_loopback = true;
        limits.set_quota("1000/min").unwrap();
        assert_eq!((limits.shown_quota().as_str(), limits.scope.exempts_loopback), ("1000/min", false));
        for off in ["off", "0", "none"] {
            limits.set_quota(off).unwrap();
            assert_eq!(limits.shown_quota(), "off");
        }
        for wrong in ["", "-1", "10001", "1/day", "fast"] {
            let allowed = limits.set_quota(wrong).unwrap_err();
            assert!(allowed.contains("100/s") && allowed.ends_with("or off"), "{allowed}");
        }
    }

    #[test]
    fn a_burst_comes_back_within_an_hour() {
        let with = |burst| RateLimits { quota: "1/min".parse().ok(), burst, ..RateLimits::default() }.quota_in_force();
        assert_eq!(with(Some(60)).unwrap().unwrap().burst(), 60);
        assert!(with(Some(61)).unwrap_err().contains("up to 60"));
        assert_eq!(with(None).unwrap().unwrap().burst(), 1);
    }

    #[test]
    fn networks_and_prefixes_are_shown_as_they_could_be_written() {
        for text in ["off", "10.0.0.0/8,::1", "192.0.2.1"] {
            assert_eq!(shown_networks(&parse_networks(text).unwrap()), text);
        }
        assert!(parse_networks("localhost").unwrap_err().ends_with("or off"));
        assert_eq!((parse_ipv6_prefix("32"), parse_ipv6_prefix("128")), (Ok(32), Ok(128)));
        for wrong in ["31", "129", "/64", "off", "320"] {
            assert_eq!(parse_ipv6_prefix(wrong).unwrap_err(), "a whole number from 32 to 128", "{wrong}");
        }
        assert_eq!([0, 64, 200].map(nearest_ipv6_prefix), [32, 64, 128]);
    }
}
