//! Memory that connections have used and that the system may have again when they are gone.
//!
//! What is freed goes to the allocator, and glibc's keeps nearly all of it: it gives back what lies at the end of its heap, and something
//! small always lies there. So a core whose connections have become far fewer has a thread ask for the rest, a moment later, because
//! they rarely go alone. It asks once for all cores, and where another allocator is in its place nothing happens.
//!
//! The invariant: at most one thread of a process asks at a time, and at most one other is about to.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Release};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Fewer connections than this leave so little that it is not worth the walk through the heap.
const PEAK_MIN: usize = 2048;
/// From when a core has noticed until the memory is given back.
const PAUSE: Duration = Duration::from_secs(1);

/// A thread is about to ask.
static IS_DUE: AtomicBool = AtomicBool::new(false);
/// Held by the thread that asks.
static ASKS: Mutex<()> = Mutex::new(());

/// How many connections a core has had since it last gave memory back.
#[derive(Debug, Default)]
pub(super) struct Peak(usize);

impl Peak {
    /// The core has this number of connections and of those that hold more than their slot, together, at the end of a turn.
    #[inline]
    pub(super) fn handle_turn(&mut self, count: usize) {
        if self.has_passed(count) {
            give_back();
        }
    }

    /// Whether there were at least two and a half times as many, and those were many: where all connections wait for an answer, and get it,
    /// twice as many become half as many, and nobody is gone.
    #[inline]
    fn has_passed(&mut self, count: usize) -> bool {
        let has_passed = self.0 >= PEAK_MIN && count < self.0 / 5 * 2;
        self.0 = if has_passed { count } else { self.0.max(count) };
        has_passed
    }
}

#[cold]
fn give_back() {
    if IS_DUE.swap(true, AcqRel) {
        return;
    }
    let wait_and_ask = || {
        std::thread::park_timeout(PAUSE);
        let _asks = ASKS.lock().unwrap_or_else(PoisonError::into_inner);
        IS_DUE.store(false, Release);
        baiwan_driver::give_back_memory();
    };
    if std::thread::Builder::new().name("baiwan-trim".to_owned()).spawn(wait_and_ask).is_err() {
        // No thread is to be had: the next core that notices tries again.
        IS_DUE.store(false, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_each_time_that_most_of_many_connections_are_gone() {
        let mut peak = Peak::default();
        let counts = [100, 10, 3000, 1200, 1199, 0, 5000, 1900, 700, 5000, 2000, 1999];
        let passed: Vec<_> = counts.into_iter().filter(|count| peak.has_passed(*count)).collect();
        assert_eq!(passed, [1199, 1900, 1999]);
    }

    #[test]
    fn memory_is_not_given_back_each_time_that_all_who_wait_are_answered() {
        let mut peak = Peak::default();
        // Each time one of three thousand leaves.
        let waves = (0..100).flat_map(|gone| [2 * (3000 - gone), 2999 - gone]);
        assert!(!waves.into_iter().any(|count| peak.has_passed(count)));
    }
}
