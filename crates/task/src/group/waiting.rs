//! The wakers of a group's children, which are called when they must go.
//!
//! They are kept in several parts, each with a lock of its own, so that threads whose tasks begin to wait, or end, do not wait for
//! each other. A thread has its part; which one a waker is in does not matter otherwise. It is not a count: a child that has
//! never been waiting is not here.
//!
//! The one invariant: a waker that is put after [`drain`](Waiting::drain) has begun is drained, or refused.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::thread_local;

use slab::Slab;

use crate::sync::Mutex;

/// In how many parts the wakers are kept.
const PARTS: usize = if cfg!(any(baiwan_loom, baiwan_shuttle)) { 1 } else { 8 };

#[derive(Default)]
pub(super) struct Waiting {
    parts: [Part; PARTS],
}

// Each in a cache line of its own.
#[repr(align(64))]
struct Part(Mutex<Slab<Waker>>);

impl Default for Part {
    fn default() -> Self {
        Self(Mutex::new(Slab::new()))
    }
}

/// Where the waker of a child is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    part: usize,
    key: usize,
}

impl Waiting {
    /// Keeps a waker, instead of the one in `seat`, if `is_wanted` under the lock. Returns whether it was.
    pub(super) fn put(&self, seat: &mut Option<Seat>, waker: Waker, is_wanted: impl FnOnce() -> bool) -> bool {
        let part = seat.map_or_else(own_part, |seat| seat.part);
        let mut wakers = self.parts[part].0.lock();
        if !is_wanted() {
            return false;
        }
        let Some(seat) = *seat else {
            *seat = Some(Seat { part, key: wakers.insert(waker) });
            return true;
        };
        let before = std::mem::replace(&mut wakers[seat.key], waker);
        drop(wakers);
        drop(before);
        true
    }

    /// Forgets a waker, if it was not drained.
    pub(super) fn remove(&self, seat: Seat) {
        let waker = self.parts[seat.part].0.lock().try_remove(seat.key);
        drop(waker);
    }

    /// Takes all. From here on none may be wanted any more.
    pub(super) fn drain(&self, wakers: &mut Vec<Waker>) {
        for part in &self.parts {
            wakers.extend(part.0.lock().drain());
        }
    }
}

/// The part of this thread. A thread that is ending has the first.
fn own_part() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static PART: usize = THREADS.fetch_add(1, Ordering::Relaxed) % PARTS;
    }
    if PARTS == 1 { 0 } else { PART.try_with(|part| *part).unwrap_or_default() }
}
