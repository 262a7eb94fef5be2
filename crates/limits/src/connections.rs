//! How many connections each client holds: counted exactly, on all cores together.
//!
//! It is asked when a connection is accepted and when it ends, never for a request; so it may have locks. It holds one entry for each
//! client that has a connection, and so no more than there are connections. Who a client is, and what a refusal looks like, is *not*
//! decided here.
//!
//! The invariant: no client holds more than the maximum, and one without a connection has no entry.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hash, RandomState};
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Parts of the table, each with a lock of its own: cores that accept at the same time seldom meet.
const STRIPES: usize = 64;
/// Entries for which a part keeps room when they are gone.
const ROOM_KEPT: usize = 64;
/// Other room is given back when fewer than one in this many places is taken.
const ROOM_FACTOR: usize = 4;

/// Counts the connections of clients, up to a maximum for each. Shared by the cores of a server.
///
/// # Example
/// ```
/// use std::num::NonZeroU32;
///
/// let connections = baiwan_limits::ConnectionCounts::new(NonZeroU32::MIN);
/// assert!(connections.try_open("192.0.2.1"));
/// assert!(!connections.try_open("192.0.2.1"), "one each");
/// assert!(connections.try_open("192.0.2.2"));
/// connections.close("192.0.2.1");
/// assert!(connections.try_open("192.0.2.1"));
/// ```
#[derive(Debug)]
pub struct ConnectionCounts<K> {
    max: NonZeroU32,
    /// With a secret of its own, so that no client can choose where it is counted.
    hasher: RandomState,
    stripes: Box<[Mutex<HashMap<K, u32, RandomState>>]>,
}

impl<K: Hash + Eq> ConnectionCounts<K> {
    /// For at most `max` connections of a client at the same time.
    pub fn new(max: NonZeroU32) -> Self {
        let hasher = RandomState::new();
        let stripes = (0..STRIPES).map(|_| Mutex::new(HashMap::with_hasher(hasher.clone()))).collect();
        Self { max, hasher, stripes }
    }

    /// Counts a connection of a client in; `false`, and not counted, if that would be one too many.
    pub fn try_open(&self, client: K) -> bool {
        self.try_open_up_to(client, self.max)
    }

    /// As [`try_open`](Self::try_open), but for at most `max` connections, whatever the table was made for: for a maximum that changes.
    /// Connections that are more than a smaller maximum stay counted until they end.
    pub fn try_open_up_to(&self, client: K, max: NonZeroU32) -> bool {
        let mut stripe = self.stripe(&client);
        match stripe.entry(client) {
            Entry::Occupied(mut entry) => {
                let free = *entry.get() < max.get();
                *entry.get_mut() += u32::from(free);
                free
            }
            Entry::Vacant(entry) => {
                entry.insert(1);
                true
            }
        }
    }

    /// Counts a connection of a client out. Each that was counted in is to be counted out once.
    ///
    /// # Panics
    /// In debug builds, if the client has no connection.
    pub fn close(&self, client: K) {
        let mut stripe = self.stripe(&client);
        match stripe.entry(client) {
            Entry::Occupied(mut entry) if *entry.get() > 1 => *entry.get_mut() -= 1,
            Entry::Occupied(entry) => {
                entry.remove();
                if stripe.capacity() > ROOM_KEPT.max(stripe.len() * 2 * ROOM_FACTOR) {
                    let room = ROOM_KEPT.max(stripe.len() * 2);
                    stripe.shrink_to(room);
                }
            }
            Entry::Vacant(_) => debug_assert!(false, "what was counted in is counted out once"),
        }
    }

    /// How many clients have a connection.
    pub fn clients(&self) -> usize {
        self.stripes.iter().map(|stripe| lock(stripe).len()).sum()
    }

    fn stripe(&self, client: &K) -> MutexGuard<'_, HashMap<K, u32, RandomState>> {
        // The map of a part looks at the lowest bits and at the highest.
        let hash = self.hasher.hash_one(client) >> 32;
        lock(&self.stripes[hash as usize % STRIPES])
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while the lock is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    use proptest::prelude::*;

    use super::*;

    fn counts(max: u32) -> ConnectionCounts<u32> {
        ConnectionCounts::new(NonZeroU32::new(max).unwrap())
    }

    proptest! {
        #[test]
        fn it_counts_as_a_plain_map_does(max in 1u32..4, steps in prop::collection::vec((any::<bool>(), 0u32..6), 0..200)) {
            let counts = counts(max);
            let mut model = HashMap::<u32, u32>::new();
            for (opens, client) in steps {
                let held = model.entry(client).or_default();
                if opens {
                    prop_assert_eq!(counts.try_open(client), *held < max);
                    *held = (*held + 1).min(max);
                } else if *held > 0 {
                    counts.close(client);
                    *held -= 1;
                }
                prop_assert_eq!(counts.clients(), model.values().filter(|held| **held > 0).count());
            }
        }
    }

    #[test]
    fn a_maximum_that_changes_counts_those_that_are_open() {
        let (counts, max) = (counts(u32::MAX), |max| NonZeroU32::new(max).unwrap());
        assert!((0..3).all(|_| counts.try_open_up_to(7, max(3))));
        assert!(!counts.try_open_up_to(7, max(3)) && !counts.try_open_up_to(7, max(1)));
        counts.close(7);
        assert!(!counts.try_open_up_to(7, max(2)), "two are open");
        assert!(counts.try_open_up_to(7, max(3)));
    }

    #[test]
    fn cores_together_never_let_one_more_in() {
        const MAX: u32 = 5;
        let (counts, open) = (counts(MAX), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if counts.try_open(7) {
                            assert!(open.fetch_add(1, SeqCst) < MAX);
                            open.fetch_sub(1, SeqCst);
                            counts.close(7);
                        }
                    }
                });
            }
        });
        assert_eq!(counts.clients(), 0);
    }

    #[test]
    fn the_room_of_a_crowd_that_has_left_is_given_back() {
        let counts = counts(1);
        assert!((0..100_000).all(|client| counts.try_open(client)));
        assert_eq!(counts.clients(), 100_000);
        (0..100_000).for_each(|client| counts.close(client));
        let room: usize = counts.stripes.iter().map(|stripe| lock(stripe).capacity()).sum();
        assert!(counts.clients() == 0 && room <= STRIPES * 4 * ROOM_KEPT, "{room}");
    }
}
