//! Ids of the server's own: 32 hexadecimal digits, as long as those of traces.
//!
//! Each thread has a counter and random keys. Both halves of an id are the counter in a permutation with two of the keys, in the way of Even and
//! Mansour ("A construction of a cipher from a single pseudorandom permutation", 1997), with the mixing function of SplitMix64 in the place of
//! the permutation: so no id of a thread comes twice, those of different threads and processes differ as random numbers do, and from
//! one id nobody reads the next, or how many there were. It is *not* cryptography: an id is no secret.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// Of an id.
pub(super) const DIGITS: usize = 32;

/// The keys and the counter of a thread.
#[derive(Clone, Copy)]
struct Generator {
    keys: [u64; 4],
    count: u64,
}

thread_local! {
    static GENERATOR: Cell<Generator> = Cell::new(Generator::new());
}

/// The next id of this thread.
pub(super) fn next() -> [u8; DIGITS] {
    GENERATOR.with(|cell| {
        let mut generator = cell.get();
        let id = generator.next();
        cell.set(generator);
        id
    })
}

impl Generator {
    fn new() -> Self {
        let random = RandomState::new();
        Self { keys: [0, 1, 2, 3].map(|number| random.hash_one(number)), count: 0 }
    }

    fn next(&mut self) -> [u8; DIGITS] {
        let [key, mask, other_key, other_mask] = self.keys;
        let halves = [mix(self.count ^ key) ^ mask, mix(self.count ^ other_key) ^ other_mask];
        self.count += 1;
        let mut id = [0; DIGITS];
        id[..16].copy_from_slice(&hexadecimal(halves[0]));
        id[16..].copy_from_slice(&hexadecimal(halves[1]));
        // All zeros is no trace id.
        if id == [b'0'; DIGITS] {
            id[DIGITS - 1] = b'1';
        }
        id
    }
}

/// The mixing function of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): a permutation.
fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

/// 16 digits in lower case, eight at a time in the bytes of one number.
fn hexadecimal(number: u64) -> [u8; 16] {
    let digits = |half: u32| {
        let spread = u64::from(half);
        let spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
        let spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
        let spread = (spread | spread << 4) & 0x0f0f_0f0f_0f0f_0f0f;
        // 1 in each byte that is more than 9.
        let letters = ((spread + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
        (spread + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'9' - 1)).to_be_bytes()
    };
    let [high, low] = [(number >> 32) as u32, number as u32].map(digits);
    let mut text = [0; 16];
    text[..8].copy_from_slice(&high);
    text[8..].copy_from_slice(&low);
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn digits_are_those_of_the_number() {
        for number in [0, 1, 9, 10, 15, 16, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, u64::MAX, mix(7)] {
            assert_eq!(std::str::from_utf8(&hexadecimal(number)).unwrap(), format!("{number:016x}"));
        }
    }

    #[test]
    fn no_id_comes_twice_on_any_thread() {
        let made = || (0..10_000).map(|_| next()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(made)).collect();
        let ids: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 40_000);
        let halves: HashSet<_> = ids.iter().flat_map(|id| [&id[..16], &id[16..]]).collect();
        assert_eq!(halves.len(), 80_000, "neither half says which thread or number it is");
    }
}
