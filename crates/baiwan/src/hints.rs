//! What an operator is told when peers speak another protocol to the server than HTTP, or for clients that are not known: what to do
//! about it.
//!
//! All cores share it, and each hint is due once a minute at most: whoever listens wrongly does so for every connection. Only a
//! refusal asks here, and only one of another protocol takes the lock.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use baiwan_http1::Refusal;
use tokio::time::Instant;

/// Time between two lines of the same hint, at least.
const INTERVAL: Duration = Duration::from_secs(60);

const HINTS: [(Refusal, &str); 5] = [
    (
        Refusal::TlsOnPlainPort,
        "a client speaks TLS to this port, which serves plain HTTP: use http:// or put a TLS terminator in front",
    ),
    (
        Refusal::Http2Unexpected,
        "a client speaks HTTP/2 to this port, which serves HTTP/1.1: put a proxy in front that translates; gRPC needs HTTP/2",
    ),
    (
        Refusal::ProxyProtocolUnexpected,
        "a peer sends the PROXY protocol, which is not read from it: set PROXY_PROTOCOL=on and TRUSTED_PROXIES to its address, or \
         switch it off at the proxy",
    ),
    (
        Refusal::ProxyProtocolMissing,
        "a trusted proxy does not send the PROXY protocol, which PROXY_PROTOCOL=on demands of it: switch it on at the proxy (HAProxy: \
         send-proxy-v2), or off here",
    ),
    (
        Refusal::ProxyProtocolMalformed,
        "a trusted proxy sends a malformed PROXY protocol: the source of its connections is not known, so they are refused",
    ),
];

#[derive(Debug, Default)]
pub(crate) struct Hints {
    /// When each hint was given last.
    given: Mutex<[Option<Instant>; HINTS.len()]>,
    /// It was said that a proxy seems to be missing among those that are trusted.
    untrusted_proxy: AtomicBool,
}

impl Hints {
    /// Whether it was not said yet that a proxy seems to be missing among those that are trusted. It counts as said.
    pub(crate) fn begin_untrusted_proxy(&self) -> bool {
        !self.untrusted_proxy.load(Relaxed) && !self.untrusted_proxy.swap(true, Relaxed)
    }

    /// The hint that belongs to a refusal, if there is one and it was not given within the last minute. It counts as given `now`.
    pub(crate) fn due(&self, refusal: Refusal, now: Instant) -> Option<&'static str> {
        let index = HINTS.iter().position(|hint| hint.0 == refusal)?;
        let last = &mut self.given.lock().unwrap_or_else(PoisonError::into_inner)[index];
        let due = last.is_none_or(|last| now.duration_since(last) >= INTERVAL);
        due.then(|| {
            *last = Some(now);
            HINTS[index].1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hint_is_given_once_a_minute_and_only_for_its_refusal() {
        let hints = Hints::default();
        let start = Instant::now();
        let due = |refusal, seconds| hints.due(refusal, start + Duration::from_secs(seconds)).is_some();
        for refusal in Refusal::ALL {
            let foreign = HINTS.iter().any(|hint| hint.0 == *refusal);
            assert_eq!(due(*refusal, 0), foreign, "{refusal:?}");
            assert!(!due(*refusal, 0) && !due(*refusal, 59), "{refusal:?}");
            assert_eq!(due(*refusal, 60), foreign, "{refusal:?}");
        }
        assert!(!due(Refusal::TlsOnPlainPort, 119) && due(Refusal::TlsOnPlainPort, 120));
        // Another core may have read its clock before.
        assert!(!due(Refusal::TlsOnPlainPort, 100));
    }

    #[test]
    fn a_proxy_that_is_missing_is_spoken_of_once() {
        let hints = Hints::default();
        assert!(hints.begin_untrusted_proxy() && !hints.begin_untrusted_proxy());
    }

    #[test]
    fn a_hint_says_what_to_do() {
        let hints = Hints::default();
        let text = |refusal| hints.due(refusal, Instant::now()).expect("it is the first");
        assert!(text(Refusal::TlsOnPlainPort).contains("put a TLS terminator in front"));
        assert!(text(Refusal::Http2Unexpected).contains("put a proxy in front that translates"));
        assert!(text(Refusal::ProxyProtocolUnexpected).contains("switch it off at the proxy"));
        assert!(text(Refusal::ProxyProtocolMissing).contains("switch it on at the proxy"));
    }
}
