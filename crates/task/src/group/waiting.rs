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

use crate::sync::BriefMutex;

/// In how many parts the wakers are kept.
const PARTS: usize = if cfg!(any(baiwan_loom, baiwan_shuttle)) { 1 } else { 8 };

const _: () = assert!(PARTS <= u8::MAX as usize);

#[derive(Default)]
pub(super) struct Waiting {
    parts: [Part; PARTS],
}

// Each in a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Part(BriefMutex<Slab<Waker>>);

/// Where the waker of a child is. Every child has room for one, so it is five bytes, wherever they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    key: [u8; 4],
    part: u8,
}

impl Waiting {
    /// Keeps a waker if `is_wanted` under the lock. Returns where it is, or none if it was not wanted.
    ///
    /// # Panics
    /// If four billion wakers are here, for which there is no memory.
    pub(super) fn put(&self, waker: Waker, is_wanted: impl FnOnce() -> bool) -> Option<Seat> {
        let part = own_part();
        let mut wakers = self.part(part).lock();
        if !is_wanted() {
            drop(wakers);
            return None;
        }
        let key = u32::try_from(wakers.insert(waker)).expect("fewer wakers than addresses");
        Some(Seat { key: key.to_ne_bytes(), part })
    }

    /// Forgets a waker, if it was not drained.
    pub(super) fn remove(&self, seat: Seat) {
        let waker = self.part(seat.part).lock().try_remove(u32::from_ne_bytes(seat.key) as usize);
        drop(waker);
    }

    fn part(&self, part: u8) -> &BriefMutex<Slab<Waker>> {
        &self.parts[usize::from(part)].0
    }

    /// Takes all. From here on none may be wanted any more.
    pub(super) fn drain(&self, wakers: &mut Vec<Waker>) {
        for part in &self.parts {
            wakers.extend(part.0.lock().drain());
        }
    }
}

/// The part of this thread. A thread that is ending has the first.
fn own_part() -> u8 {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static PART: u8 = (THREADS.fetch_add(1, Ordering::Relaxed) % PARTS) as u8;
    }
    if PARTS == 1 { 0 } else { PART.try_with(|part| *part).unwrap_or_default() }
}
