//! What one client may have of the server's connections: how many at once, and how many new ones a second.
//!
//! Asked by the gate when a connection is accepted, or when a proxy has said for whom it has connected (PROXY protocol), and told when the
//! connection ends; so all cores share it. A client is the peer's address, or the prefix of an IPv6 one. A peer that speaks for others, such
//! as a trusted proxy, or that comes over a Unix socket, is *not* limited here.
//!
//! The limits may change while the server runs ([`PerClient`]); what is counted lives as long as the server ([`ClientCounts`]). A connection
//! that was opened while nothing was counted does not count later.
//!
//! The invariant: what is counted in under a key is counted out once, under the same key.

use std::net::SocketAddr;
use std::num::NonZeroU32;

use baiwan_driver::Peer;
use baiwan_limits::{ClientKey, ConnectionCounts, Limiter, Proxies, Quota, Table};
use tokio::time::Instant;

/// Clients whose new connections are counted at the same time: 1 MiB.
const CLIENTS_MAX: usize = 128 * 1024;

/// The limits of clients.
#[derive(Debug)]
pub(crate) struct PerClient {
    open: Option<NonZeroU32>,
    new: Option<Limiter>,
    proxies: Proxies,
}

impl PerClient {
    /// At most `open` connections of each client at once, and `new` ones a second; none without both. `proxies` are exempt. Where these
    /// limits take the place of others, what clients have opened lately counts on.
    pub(crate) fn new(
        open: Option<NonZeroU32>,
        new: Option<NonZeroU32>,
        proxies: &Proxies,
        before: Option<&Self>,
    ) -> Option<Self> {
        if open.is_none() && new.is_none() {
            return None;
        }
        let limiter = |quota| match before.and_then(|before| before.new.as_ref()) {
            Some(limiter) => limiter.with_quota(quota),
            None => Limiter::with_table("connections", quota, Table::with_entries(CLIENTS_MAX).into()),
        };
        Some(Self { open, new: new.and_then(quota).map(limiter), proxies: proxies.clone() })
    }

    /// Counts a new connection of a peer in. Returns the key under which it is to be counted out, if it is.
    ///
    /// # Errors
    /// If the client has too many, or too many new ones. Nothing was counted then.
    pub(crate) fn try_open(
        &self,
        counts: &ClientCounts,
        peer: Peer,
        now: Instant,
    ) -> Result<Option<ClientKey>, TooMany> {
        let Peer::Ip(address) = peer else { return Ok(None) };
        if self.proxies.trusts(address.ip()) {
            return Ok(None);
        }
        let client = counts.key_of(address);
        if self.open.is_some_and(|max| !counts.open.try_open_up_to(client, max)) {
            return Err(TooMany);
        }
        let is_counted = self.open.is_some();
        if self.new.as_ref().is_some_and(|new| !new.check(&client, 1, now.into_std()).allowed) {
            if is_counted {
                counts.close(client);
            }
            return Err(TooMany);
        }
        Ok(is_counted.then_some(client))
    }
}

/// What clients hold.
#[derive(Debug)]
pub(crate) struct ClientCounts {
    open: ConnectionCounts<ClientKey>,
    /// Bits of an IPv6 address that count.
    ipv6_prefix: u8,
}

impl ClientCounts {
    pub(crate) fn new(ipv6_prefix: u8) -> Self {
        Self { open: ConnectionCounts::new(NonZeroU32::MAX), ipv6_prefix }
    }

    /// The key of a peer that was counted under one.
    #[cfg(all(target_os = "linux", not(baiwan_portable)))]
    pub(crate) fn key(&self, peer: Peer) -> Option<ClientKey> {
        match peer {
            Peer::Ip(address) => Some(self.key_of(address)),
            Peer::Unix => None,
        }
    }

    fn key_of(&self, address: SocketAddr) -> ClientKey {
        ClientKey::new(address.ip(), self.ipv6_prefix)
    }

    /// Counts a connection out.
    pub(crate) fn close(&self, client: ClientKey) {
        self.open.close(client);
    }

    /// How many clients hold a connection that is counted.
    #[cfg(test)]
    pub(crate) fn holders(&self) -> usize {
        self.open.clients()
    }
}

/// The client of a peer is beyond one of its limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TooMany;

/// So many a second, and as many at once. The parser of the setting allows no other number.
fn quota(per_second: NonZeroU32) -> Option<Quota> {
    Quota::per_second(per_second.get().min(baiwan_limits::RATE_MAX)).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn peer(address: &str) -> Peer {
        Peer::Ip(address.parse().unwrap())
    }

    fn limits(open: u32, new: u32, proxies: &str) -> PerClient {
        instead(open, new, proxies, None)
    }

    fn instead(open: u32, new: u32, proxies: &str, before: Option<&PerClient>) -> PerClient {
        let proxies = proxies.parse().unwrap();
        PerClient::new(NonZeroU32::new(open), NonZeroU32::new(new), &proxies, before).unwrap()
    }

    #[test]
    fn without_a_limit_there_is_nothing() {
        assert!(PerClient::new(None, None, &Proxies::default(), None).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_an_address_or_a_prefix_and_has_its_own_share() {
        let (limits, counts) = (limits(2, 0, "10.0.0.0/8"), ClientCounts::new(64));
        let open = |address| limits.try_open(&counts, peer(address), Instant::now());
        for [first, second, third, other] in [
            ["192.0.2.1:1", "192.0.2.1:2", "[::ffff:192.0.2.1]:3", "192.0.2.2:1"],
            ["[2001:db8::1]:1", "[2001:db8::2]:2", "[2001:db8:0:0:9::]:3", "[2001:db8:0:1::1]:1"],
        ] {
            let keys = [first, second].map(|address| open(address).unwrap().unwrap());
            assert_eq!(keys[0], keys[1]);
            assert_eq!(open(third), Err(TooMany));
            assert!(open(other).unwrap().is_some());
            counts.close(keys[0]);
            assert_eq!(open(third), Ok(Some(keys[0])));
        }
        for _ in 0..10 {
            assert_eq!(open("10.1.2.3:4"), Ok(None), "a trusted proxy");
            assert_eq!(limits.try_open(&counts, Peer::Unix, Instant::now()), Ok(None));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn new_connections_have_a_rate_and_those_refused_hold_no_place() {
        let (limits, counts) = (limits(4, 3, "203.0.113.1"), ClientCounts::new(64));
        let open = || limits.try_open(&counts, peer("192.0.2.1:1"), Instant::now());
        let key = open().unwrap().unwrap();
        assert!(open().is_ok() && open().is_ok());
        assert_eq!(open(), Err(TooMany), "three at once");
        tokio::time::advance(Duration::from_millis(350)).await;
        assert!(open().is_ok(), "the one that was refused has taken no place");
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(open(), Err(TooMany), "four are open");
        counts.close(key);
        assert!(open().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn limits_that_take_the_place_of_others_know_what_was_counted_before_and_nothing_else() {
        let counts = ClientCounts::new(64);
        let open = |limits: &PerClient| limits.try_open(&counts, peer("192.0.2.1:1"), Instant::now());
        let first = limits(2, 3, "203.0.113.1");
        let key = open(&first).unwrap().unwrap();
        assert!(open(&first).is_ok());
        let new_ones_only = instead(0, 3, "203.0.113.1", Some(&first));
        assert_eq!(open(&new_ones_only), Ok(None), "the third at once, which nobody counts out");
        assert_eq!(open(&new_ones_only), Err(TooMany), "the rate knows of those before");
        tokio::time::advance(Duration::from_secs(5)).await;
        let both = instead(3, 3, "203.0.113.1", Some(&new_ones_only));
        assert_eq!(open(&both), Ok(Some(key)), "two are counted");
        assert_eq!(open(&both), Err(TooMany));
        (0..3).for_each(|_| counts.close(key));
        assert_eq!(counts.holders(), 0);
    }
}
