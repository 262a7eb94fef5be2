//! What all handles of a queue share: the state under its lock, and the number of items that are finished, outside of it.
//!
//! Finishing an item must not cost a lock: it is one atomic addition, and the lock only when it may have been the last one that
//! somebody waits for in `join`. Counts are doubled, so that the lowest bit of `finished` can say that somebody waits; they
//! wrap around, and only their difference counts.
//!
//! Why no wake-up is missed: a joiner sets the bit with a read-modify-write. A finisher either comes before it, then the joiner
//! sees its item as finished; or after it, then the finisher sees the bit, and `join_at` as it was or newer. Whoever finishes the
//! last item comes after all other finishers, so it sees the `join_at` of every item that was put, and takes the lock.

use std::task::Waker;

use super::state::State;
use crate::panic::wake;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::{BriefGuard, BriefMutex};

/// Somebody waits in `join`.
const JOINED: usize = 1;
/// One item in the counts.
const ONE: usize = 2;

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Shared<T> {
    state: BriefMutex<State<T>>,
    finished: AtomicUsize,
    /// What `finished` is when nothing is unfinished. Kept only while somebody waits in `join`, and written under the lock.
    join_at: AtomicUsize,
}

impl<T> Shared<T> {
    pub(super) fn new(capacity: usize) -> Self {
        Shared {
            state: BriefMutex::new(State::new(capacity)),
            finished: AtomicUsize::new(0),
            join_at: AtomicUsize::new(0),
        }
    }

    #[inline]
    pub(super) fn lock(&self) -> BriefGuard<'_, State<T>> {
        self.state.lock()
    }

    /// How many items were put and are not finished.
    pub(super) fn unfinished(&self, state: &State<T>) -> usize {
        put_total(state).wrapping_sub(self.finished.load(Ordering::Acquire) & !JOINED) / ONE
    }

    /// To be called under the lock after an item was put. If everything else is finished, there was a moment in which all was: this
    /// put comes after it, since nobody can have seen the item before the lock is released. So who has joined is to be woken.
    #[must_use = "they wait for it"]
    pub(super) fn note_put(&self, state: &mut State<T>) -> Vec<Waker> {
        if state.joiners.is_empty() {
            return Vec::new();
        }
        if self.unfinished(state) == 1 {
            return self.dismiss_joiners(state);
        }
        self.join_at.store(put_total(state), Ordering::Relaxed);
        Vec::new()
    }

    /// To be called under the lock after somebody began to wait in `join`. Whether there is something to wait for.
    pub(super) fn note_join(&self, state: &State<T>) -> bool {
        let put_total = put_total(state);
        self.join_at.store(put_total, Ordering::Relaxed);
        let before = self.finished.fetch_or(JOINED, Ordering::AcqRel);
        before & !JOINED != put_total
    }

    /// To be called under the lock after somebody has ceased to wait in `join`.
    pub(super) fn note_leave(&self, state: &State<T>) {
        if state.joiners.is_empty() {
            self.finished.fetch_and(!JOINED, Ordering::AcqRel);
        }
    }

    /// An item is finished. May wake those who wait in `join`.
    #[inline]
    pub(super) fn finish(&self) {
        let before = self.finished.fetch_add(ONE, Ordering::AcqRel);
        if before & JOINED != 0 {
            let now = before.wrapping_add(ONE) & !JOINED;
            if now == self.join_at.load(Ordering::Relaxed) {
                self.wake_joiners();
            }
        }
    }

    #[cfg(all(test, not(any(baiwan_loom, baiwan_shuttle))))]
    pub(super) fn begin_finished_at(&self, finished: usize) {
        self.finished.store(finished, Ordering::Relaxed);
    }

    #[cold]
    fn wake_joiners(&self) {
        let mut state = self.lock();
        if self.unfinished(&state) > 0 {
            return;
        }
        let wakers = self.dismiss_joiners(&mut state);
        drop(state);
        wake(wakers);
    }

    fn dismiss_joiners(&self, state: &mut State<T>) -> Vec<Waker> {
        let wakers = state.joiners.dismiss_all();
        self.note_leave(state);
        wakers
    }
}

/// How many items were put, in the measure of `finished`.
fn put_total<T>(state: &State<T>) -> usize {
    // Cut off where a `usize` is shorter: the counts wrap around.
    (state.puts as usize).wrapping_mul(ONE)
}
