//! Which clients ask most, and which are refused most: a sketch of fixed size for each core.
//!
//! The algorithm is Space-Saving (Metwally, Agrawal and El Abbadi, "Efficient computation of frequent and top-k elements in data streams",
//! 2005): a client that has no place takes that of the one with the fewest, and begins with its count. A client that has sent more than
//! one request in `PLACES` has a place for certain, and no count is too low; it may be too high by what the place began with.
//!
//! The invariant: there are at most `PLACES` clients, however many ask.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// Clients that a sketch keeps.
const PLACES: usize = 256;
/// One request in so many is looked at.
const SAMPLED: u64 = 8;

/// The clients of a core.
#[derive(Debug, Default)]
pub(super) struct Clients {
    requests: Sketch,
    refusals: Sketch,
    /// Requests that were told, so that one in `SAMPLED` is looked at.
    seen: u64,
}

impl Clients {
    /// Notes a request of a client. Of those that are let through, one in eight is looked at and counts for all; each refusal counts.
    #[inline]
    pub(super) fn note(&mut self, client: IpAddr, is_refused: bool) {
        self.seen += 1;
        if self.seen.is_multiple_of(SAMPLED) {
            self.requests.add(whole(client), SAMPLED);
        }
        if is_refused {
            self.refusals.add(whole(client), 1);
        }
    }

    /// Adds up what this core has seen.
    pub(super) fn add_to(&self, all: &mut HashMap<IpAddr, Client>) {
        for (address, count) in self.requests.entries() {
            entry(all, address).requests += count;
        }
        for (address, count) in self.refusals.entries() {
            entry(all, address).refusals += count;
        }
    }
}

fn entry(all: &mut HashMap<IpAddr, Client>, address: IpAddr) -> &mut Client {
    all.entry(address).or_insert(Client { address, requests: 0, refusals: 0 })
}

/// A client, and about how much it has asked since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Client {
    /// Of IPv6, the first address of its /64.
    pub address: IpAddr,
    /// Requests, to the next eight; too many by no more than one in 256 of all.
    pub requests: u64,
    /// Those that a limit has refused; too many by no more than one in 256 of all.
    pub refusals: u64,
}

/// IPv4-mapped is IPv4; of IPv6 a /64 is one client, as a subscriber has at least that many addresses.
fn whole(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => {
            let bits = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        address => address,
    }
}

#[derive(Debug, Default)]
struct Sketch {
    /// Where each is in `counts`. Addresses are the clients' to choose, so the hash is one with a secret.
    places: HashMap<IpAddr, usize>,
    counts: Vec<(IpAddr, u64)>,
}

impl Sketch {
    fn add(&mut self, address: IpAddr, count: u64) {
        if let Some(place) = self.places.get(&address) {
            self.counts[*place].1 += count;
            return;
        }
        if self.counts.len() < PLACES {
            self.places.insert(address, self.counts.len());
            self.counts.push((address, count));
            return;
        }
        let least = self.counts.iter().enumerate().min_by_key(|(_, (_, count))| *count);
        if let Some((place, (evicted, least))) = least {
            let (evicted, least) = (*evicted, *least);
            self.places.remove(&evicted);
            self.places.insert(address, place);
            self.counts[place] = (address, least + count);
        }
    }

    fn entries(&self) -> impl Iterator<Item = (IpAddr, u64)> {
        self.counts.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn who_asks_most_is_known_among_any_number_of_others() {
        let mut sketch = Sketch::default();
        for round in 0..10_000 {
            sketch.add(address(round), 1);
            if round % 20 == 0 {
                sketch.add(address(7), 1);
            }
        }
        assert_eq!((sketch.counts.len(), sketch.places.len()), (PLACES, PLACES));
        let (most, count) = sketch.entries().max_by_key(|(_, count)| *count).unwrap();
        assert_eq!(most, address(7));
        // Too high by what its place began with, at the most.
        let error_max = 10_500 / PLACES as u64;
        assert!((501..=501 + error_max).contains(&count), "{count}");
        assert!(sketch.counts.iter().enumerate().all(|(place, (address, _))| sketch.places[address] == place));
    }

    #[test]
    fn requests_are_sampled_refusals_are_not_and_a_network_of_ipv6_is_one_client() {
        let mut clients = Clients::default();
        for number in 0..80_u16 {
            clients.note(format!("2001:db8::{number}").parse().unwrap(), number < 3);
        }
        let mut all = HashMap::new();
        clients.add_to(&mut all);
        let address = "2001:db8::".parse().unwrap();
        assert_eq!(all.into_values().collect::<Vec<_>>(), [Client { address, requests: 80, refusals: 3 }]);
    }
}
