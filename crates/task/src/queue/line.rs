//! A line of tasks that wait, first come, first served.
//!
//! Entries live in a slab and are linked by their index, so that one who gives up leaves from the middle at no cost, and nothing
//! is allocated once the slab has grown to the longest line there was. It is *not* a lock and wakes nobody: it hands out wakers,
//! and who owns the line calls them when no lock is held. For the same reason it never drops a waker.
//!
//! ```text
//!   join ──► Waiting ──── promise_first ───► Promised ──┐
//!               │  └───── dismiss_all ─────► Dismissed ─┤
//!               └──────────────── leave ◄───────────────┘
//! ```
//!
//! Invariant: exactly the entries that are `Waiting` are linked, in the order in which they joined.

use std::task::Waker;

use slab::Slab;

/// An index that no entry has.
const NOBODY: usize = usize::MAX;

/// See the module's comment.
#[derive(Debug)]
pub(super) struct Line {
    entries: Slab<Entry>,
    first: usize,
    last: usize,
}

/// One who waits, or has waited and not come back yet.
#[derive(Debug)]
struct Entry {
    standing: Standing,
    /// Taken out when it is to be called.
    waker: Option<Waker>,
    previous: usize,
    next: usize,
}

/// What has become of one who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing yet.
    Waiting,
    /// What it waits for is kept for it.
    Promised,
    /// There is no line any more; it has to look for itself.
    Dismissed,
}

impl Line {
    pub(super) fn new() -> Self {
        Line { entries: Slab::new(), first: NOBODY, last: NOBODY }
    }

    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.first == NOBODY
    }

    pub(super) fn standing(&self, key: usize) -> Standing {
        self.entries[key].standing
    }

    /// Stands in line, at the place that `key` knows, or at the end if it knows none; a key is good until [`leave`](Line::leave).
    /// `waker` is what is to be woken; what is in there after that is to be dropped. Returns whether it stands anew.
    pub(super) fn stand(&mut self, key: &mut Option<usize>, waker: &mut Option<Waker>) -> bool {
        if let Some(own) = *key
            && self.entries[own].standing == Standing::Waiting
        {
            std::mem::swap(&mut self.entries[own].waker, waker);
            return false;
        }
        let stale = key.take().and_then(|gone| self.leave(gone));
        *key = Some(self.join(std::mem::replace(waker, stale)));
        true
    }

    /// Promises something to the one who has waited longest.
    pub(super) fn promise_first(&mut self) -> Option<Waker> {
        match self.first {
            NOBODY => None,
            first => {
                self.unlink(first);
                let entry = &mut self.entries[first];
                entry.standing = Standing::Promised;
                entry.waker.take()
            }
        }
    }

    /// Sends everybody away who waits; their wakers, in order.
    pub(super) fn dismiss_all(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while self.first != NOBODY {
            let first = self.first;
            self.unlink(first);
            let entry = &mut self.entries[first];
            entry.standing = Standing::Dismissed;
            wakers.extend(entry.waker.take());
        }
        wakers
    }

    /// Ends an entry, whatever its standing, and gives back its waker if it was not called.
    pub(super) fn leave(&mut self, key: usize) -> Option<Waker> {
        if self.entries[key].standing == Standing::Waiting {
            self.unlink(key);
        }
        self.entries.remove(key).waker
    }

    fn join(&mut self, waker: Option<Waker>) -> usize {
        let entry = Entry { standing: Standing::Waiting, waker, previous: self.last, next: NOBODY };
        let key = self.entries.insert(entry);
        match self.last {
            NOBODY => self.first = key,
            last => self.entries[last].next = key,
        }
        self.last = key;
        key
    }

    fn unlink(&mut self, key: usize) {
        let Entry { previous, next, .. } = self.entries[key];
        match previous {
            NOBODY => self.first = next,
            previous => self.entries[previous].next = next,
        }
        match next {
            NOBODY => self.last = previous,
            next => self.entries[next].previous = previous,
        }
    }
}
