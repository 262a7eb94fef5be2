//! A hash of client keys that costs a few instructions: every request that a server counts needs one.
//!
//! It is `wyhash64` of Wang Yi (<https://github.com/wangyi-fudan/wyhash>), two multiplications to 128 bits and a fold, but with four secret
//! words in place of its constants. They are random for each table, from the generator that seeds the maps of the standard library.
//!
//! It is *not* a cryptographic hash. A client that knew the secrets could choose addresses that share a line or an entry of the table
//! with others. Nobody is told a hash, and none is compared with anything that a client sends: all that a client can observe is that two
//! of its own addresses share a budget, which is so for one pair in 2^42. Keys that applications choose are hashed with SipHash.
//!
//! The invariant: equal keys have equal hashes as long as the table lives.

use std::hash::{BuildHasher, RandomState};

use crate::client_ip::ClientKey;

/// The secrets of one table.
#[derive(Clone, Copy)]
pub(crate) struct ClientHash([u64; 4]);

impl ClientHash {
    pub(crate) fn new(random: &RandomState) -> Self {
        Self([0_u64, 1, 2, 3].map(|number| random.hash_one(("client", number))))
    }

    #[inline]
    pub(crate) fn hash(&self, key: ClientKey) -> u64 {
        let Self([a, b, c, d]) = self;
        let bits = key.bits();
        let (high, low) = multiply((bits >> 64) as u64 ^ a, bits as u64 ^ b);
        let (high, low) = multiply(high ^ c, low ^ d);
        high ^ low
    }
}

/// Secrets are not printed.
impl std::fmt::Debug for ClientHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientHash").finish_non_exhaustive()
    }
}

/// Both halves of a product.
#[inline]
fn multiply(a: u64, b: u64) -> (u64, u64) {
    let product = u128::from(a) * u128::from(b);
    ((product >> 64) as u64, product as u64)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;

    const HASH: ClientHash =
        ClientHash([0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344, 0xa409_3822_299f_31d0, 0x082e_fa98_ec4e_6c89]);

    /// Addresses as they come in the world: neighbours.
    fn neighbours(count: u32) -> [Vec<ClientKey>; 3] {
        let key = |ip: IpAddr| ClientKey::new(ip, 64);
        let v4 = |number: u32| key(Ipv4Addr::from_bits(0x0a00_0000 + number).into());
        let strided = |number: u32| key(Ipv4Addr::from_bits(number << 16).into());
        let v6 = |number: u32| key(Ipv6Addr::from_bits((0x2001_0db8_0000_0000 | u128::from(number)) << 64).into());
        [(0..count).map(v4).collect(), (0..count).map(strided).collect(), (0..count).map(v6).collect()]
    }

    #[test]
    fn neighbours_are_spread_over_lines_and_over_tags() {
        for keys in neighbours(1 << 16) {
            for part in [|hash: u64| hash as u32, |hash: u64| (hash >> 32) as u32] {
                let mut counts = [0; 4096];
                keys.iter().for_each(|key| counts[(part(HASH.hash(*key)) >> 20) as usize] += 1);
                // 16 on average. Of numbers that are random, chance puts 45 into one of these places in one of 10,000 tries.
                assert!(counts.iter().all(|count| (1..45).contains(count)), "{counts:?}");
            }
        }
    }

    #[test]
    fn each_bit_of_a_key_changes_half_of_the_hash() {
        let key = 0x2001_0db8_1234_5678_9abc_def0_1357_9bdf_u128;
        let hash = |key: u128| HASH.hash(ClientKey::new(Ipv6Addr::from_bits(key).into(), 128));
        for bit in 0..128 {
            let changed = (hash(key) ^ hash(key ^ 1 << bit)).count_ones();
            assert!((12..=52).contains(&changed), "bit {bit} changes {changed}");
        }
    }

    #[test]
    fn each_table_has_secrets_of_its_own() {
        let key = ClientKey::new(Ipv4Addr::LOCALHOST.into(), 64);
        let hash = || ClientHash::new(&RandomState::new()).hash(key);
        assert_ne!(hash(), hash());
        let random = RandomState::new();
        assert_eq!(ClientHash::new(&random).hash(key), ClientHash::new(&random).hash(key));
    }
}
