//! Which clients ask most, and which are refused most: a sketch of fixed size for each core.
//!
//! The algorithm is Space-Saving (Metwally, Agrawal and El Abbadi, "Efficient computation of frequent and top-k elements in data streams",
//! 2005): a client that has no place takes that of the one with the fewest, and begins with its count. A client that has more than one in
//! `PLACES` of what is looked at has a place for certain, and its count may be too high by what the place began with.
//!
//! Of the requests, one in eight is looked at, at random: connections are served in turn, so every eighth may be the same client's each time,
//! and a client that knew which would not be seen. So counts of requests are estimates: that of n requests has a standard
//! deviation of about the square root of 8n.
//!
//! The invariant: there are at most `PLACES` clients, however many ask.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};

/// Clients that a sketch keeps.
const PLACES: usize = 256;
/// On average, one of this number of requests is looked at.
pub(super) const SAMPLED: u64 = 8;

/// The clients of a core.
#[derive(Debug, Default)]
pub(super) struct Clients {
    requests: Sketch,
    refusals: Sketch,
}

/// Says which requests are looked at.
#[derive(Debug)]
pub(super) struct Sampler {
    /// Of the generator xorshift64 (Marsaglia, "Xorshift RNGs", 2003); never 0.
    state: u64,
    /// Requests until the next that is looked at, with that one.
    left: u64,
}

impl Default for Sampler {
    fn default() -> Self {
        Self::new(RandomState::new().hash_one(0))
    }
}

impl Sampler {
    fn new(seed: u64) -> Self {
        let mut sampler = Self { state: seed | 1, left: 0 };
        sampler.left = sampler.interval();
        sampler
    }

    /// Whether this request is looked at.
    #[inline]
    pub(super) fn is_due(&mut self) -> bool {
        self.left -= 1;
        if self.left > 0 {
            return false;
        }
        self.left = self.interval();
        true
    }

    /// From 1 to twice the mean less one, each as likely as any other.
    fn interval(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 32) % (2 * SAMPLED - 1) + 1
    }
}

impl Clients {
    /// Notes that a client has sent as many requests, and whether one was refused.
    pub(super) fn note(&mut self, client: IpAddr, requests: u64, is_refused: bool) {
        if requests > 0 {
            self.requests.add(whole(client), requests);
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
    /// Requests, as one in eight is looked at: an estimate.
    pub requests: u64,
    /// Those that a limit has refused; too many by no more than one in 256 of all that were.
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
    fn of_clients_that_take_turns_each_is_looked_at_as_often() {
        let mut sampler = Sampler::new(7);
        for clients in [2, 8, 16] {
            let mut seen = vec![0_u64; clients];
            for request in 0..clients * 8000 {
                seen[request % clients] += u64::from(sampler.is_due());
            }
            // 1,000 times in the mean, with a standard deviation of about 30.
            assert!(seen.iter().all(|count| (850..1150).contains(count)), "{seen:?}");
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let mut clients = Clients::default();
        for number in 0..80_u16 {
            clients.note(format!("2001:db8::{number}").parse().unwrap(), u64::from(number % 2), number < 3);
        }
        let mut all = HashMap::new();
        clients.add_to(&mut all);
        let address = "2001:db8::".parse().unwrap();
        assert_eq!(all.into_values().collect::<Vec<_>>(), [Client { address, requests: 40, refusals: 3 }]);
    }
}
