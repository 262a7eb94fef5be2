//! Where a simulation's decisions come from: a seed, or bytes.
//!
//! The same source makes the same decisions in the same order, on any machine. Bytes are for fuzzers; they run out into
//! zeros, and zero is always the harmless decision, so that every input comes to an end.

use std::cell::RefCell;
use std::rc::Rc;

/// A source of decisions. Clones draw from the same source.
#[derive(Clone, Debug)]
pub struct Decisions(Rc<RefCell<Source>>);

#[derive(Debug)]
enum Source {
    /// The state of SplitMix64 (Steele, Lea and Flood, 2014): any seed is a good one.
    Seed(u64),
    Bytes {
        bytes: Vec<u8>,
        at: usize,
    },
}

impl Decisions {
    /// Decisions that follow from a number.
    pub fn seeded(seed: u64) -> Self {
        Self(Rc::new(RefCell::new(Source::Seed(seed))))
    }

    /// Decisions that are read from bytes; zeros when they are used up.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(Rc::new(RefCell::new(Source::Bytes { bytes: bytes.to_vec(), at: 0 })))
    }

    /// A source for another part of the simulation: independent of this one if it is seeded, the same one if it is bytes.
    #[must_use]
    pub fn fork(&self) -> Self {
        let seed = match &mut *self.0.borrow_mut() {
            Source::Seed(state) => split_mix(state),
            Source::Bytes { .. } => return self.clone(),
        };
        Self::seeded(seed)
    }

    /// A number from 0 up to, but not including, `end`.
    ///
    /// # Panics
    /// If `end` is 0.
    pub fn below(&self, end: usize) -> usize {
        match &mut *self.0.borrow_mut() {
            Source::Seed(state) => (split_mix(state) >> 16) as usize % end,
            Source::Bytes { bytes, at } => {
                let mut number = 0;
                let mut reach = end - 1;
                while reach > 0 {
                    number = number << 8 | usize::from(bytes.get(*at).copied().unwrap_or(0));
                    *at += 1;
                    reach >>= 8;
                }
                number % end
            }
        }
    }

    /// A number from `range`, both ends included.
    pub fn within(&self, range: std::ops::RangeInclusive<usize>) -> usize {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    /// Yes, `per_mille` times out of a thousand.
    pub fn chance(&self, per_mille: usize) -> bool {
        // Not drawn when it is certain, so that what never happens costs no byte.
        per_mille > 0 && self.below(1000) >= 1000 - per_mille.min(1000)
    }

    /// One of `choices`; the first is the harmless one.
    ///
    /// # Panics
    /// If there is none.
    pub fn one_of<T: Copy>(&self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_run_out_into_harmless_decisions() {
        let decisions = Decisions::from_bytes(&[7, 3, 231, 255]);
        assert_eq!(decisions.below(10), 7);
        assert!(decisions.chance(1), "3 · 256 + 231 is 999");
        assert_eq!(decisions.fork().below(256), 255, "from the same bytes");
        assert_eq!(decisions.below(1_000_000), 0);
        assert!(!decisions.chance(999));
    }

    #[test]
    fn a_seed_decides_everything() {
        let draw = |seed| {
            let decisions = Decisions::seeded(seed);
            let fork = decisions.fork();
            (0..50).map(|_| decisions.below(1000) + fork.within(1..=3)).collect::<Vec<_>>()
        };
        assert_eq!(draw(0), draw(0));
        assert_ne!(draw(0), draw(1));
    }
}
