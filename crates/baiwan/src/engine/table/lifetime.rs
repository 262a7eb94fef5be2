//! How long connections may last and how much they may ask: beside the slots, and only where a setting asks for it.
//!
//! The invariant: a connection for which a setting asks has its lifetime at the index of its slot, written when the slot was taken, and no
//! other has a limit. Where none has ever asked, the list is empty and owns nothing.

use crate::clock::Tick;

/// What is left of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::engine) struct Lifetime {
    /// When it is old enough: then an answer is its last. `NEVER` without that limit.
    pub(in crate::engine) ends: Tick,
    /// Requests that it may still ask. `u32::MAX` without that limit.
    pub(in crate::engine) requests_left: u32,
}

impl Lifetime {
    /// That of a connection for which no setting asks.
    const ENDLESS: Self = Self { ends: Tick::NEVER, requests_left: u32::MAX };

    /// Counts a request. Returns whether it was the last that the connection may ask.
    pub(in crate::engine) fn take_request(&mut self) -> bool {
        if self.requests_left == u32::MAX {
            return false;
        }
        self.requests_left = self.requests_left.saturating_sub(1);
        self.requests_left == 0
    }
}

/// Those of a core's connections.
#[derive(Debug, Default)]
pub(super) struct Lifetimes(Vec<Lifetime>);

impl Lifetimes {
    /// That of the connection which has taken a slot; none where no setting asks.
    #[inline]
    pub(super) fn set(&mut self, index: u32, lifetime: Option<Lifetime>) {
        let at = index as usize;
        if at >= self.0.len() {
            if lifetime.is_none() {
                return;
            }
            self.0.resize(at + 1, Lifetime::ENDLESS);
        }
        self.0[at] = lifetime.unwrap_or(Lifetime::ENDLESS);
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<&Lifetime> {
        self.0.get(index as usize)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Lifetime> {
        self.0.get_mut(index as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_request_is_the_one_that_was_allowed_last() {
        let mut lifetime = Lifetime { ends: Tick::NEVER, requests_left: 2 };
        assert_eq!([lifetime.take_request(), lifetime.take_request(), lifetime.take_request()], [false, true, true]);
        let mut endless = Lifetime::ENDLESS;
        assert!(!endless.take_request() && endless == Lifetime::ENDLESS);
    }

    #[test]
    fn who_takes_a_slot_has_a_lifetime_of_its_own() {
        let mut lifetimes = Lifetimes::default();
        assert_eq!(lifetimes.get(0), None);
        let lifetime = |ends| Lifetime { ends: Tick(ends), requests_left: 1 };
        lifetimes.set(0, None);
        assert_eq!(lifetimes.get(0), None, "nobody asks, so nothing is owned");
        for (index, ends) in [(3, Some(30)), (1, Some(10)), (3, Some(31)), (4, Some(40)), (4, None)] {
            lifetimes.set(index, ends.map(lifetime));
        }
        let there: Vec<_> = (0..6).map(|index| lifetimes.get(index).copied()).collect();
        let [endless, first, second] = [Lifetime::ENDLESS, lifetime(10), lifetime(31)].map(Some);
        assert_eq!(there, [endless, first, endless, second, endless, None]);
    }
}
