//! When a task that never has to wait lets others run.
//!
//! Tokio gives a task a budget of 128 operations for each of its turns. To take from it costs about half of what a queue needs to
//! put an item, so only one operation in twelve does, and a turn has some 1,500 of them. It is *not* a budget of its own. The count
//! is the thread's, as a turn is: it says the same whichever groups and queues a task uses meanwhile.
//!
//! Invariant: among twelve operations that went on there is one that was taken from the budget. One that has to wait counts for
//! nothing, here as in Tokio; else a loop whose every twelfth operation waits would never come to its end.

use std::cell::Cell;
use std::task::{Context, Poll};

use tokio::task::coop::{RestoreOnPending, poll_proceed};

use crate::sync::thread_local;

/// One of this many operations is taken from Tokio's budget.
const COUNTED_EACH: u32 = 12;
#[cfg(not(baiwan_loom))]
thread_local! {
    static UNCOUNTED: Cell<u32> = const { Cell::new(0) };
}
// Loom's macro knows no `const`.
#[cfg(baiwan_loom)]
thread_local! {
    static UNCOUNTED: Cell<u32> = Cell::new(0);
}

/// Whether the next operation is to be taken from Tokio's budget. On a thread that is ending, each is.
#[inline]
pub(crate) fn is_next_counted() -> bool {
    UNCOUNTED.try_with(|uncounted| uncounted.get() + 1 >= COUNTED_EACH).unwrap_or(true)
}

/// An operation went on that was not taken from the budget.
#[inline]
pub(crate) fn note_uncounted() {
    let _ = UNCOUNTED.try_with(|uncounted| uncounted.set(uncounted.get() + 1));
}

/// Takes an operation from the budget, if there is some left in this turn. It is given back if the operation cannot go on.
pub(crate) fn poll_counted(cx: &mut Context<'_>) -> Poll<Counted> {
    poll_proceed(cx).map(Counted)
}

/// An operation that was taken from the budget.
pub(crate) struct Counted(RestoreOnPending);

impl Counted {
    /// The operation went on.
    pub(crate) fn made_progress(self) {
        self.0.made_progress();
        let _ = UNCOUNTED.try_with(|uncounted| uncounted.set(0));
    }
}
