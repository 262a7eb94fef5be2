//! When a task that never has to wait lets others run.
//!
//! Tokio gives a task a budget of 128 operations for each of its turns. To take from it costs about half of what a queue needs to put
//! an item, so only every twelfth operation does, and a turn has up to 1,536 of them. It is *not* a budget of its own. The count is the
//! thread's, as a turn is: it says the same whichever groups and queues a task uses meanwhile.

use std::cell::Cell;

use crate::sync::thread_local;

/// Of so many operations, one is taken from Tokio's budget.
const COUNTED_EACH: u32 = 12;

#[cfg(not(baiwan_loom))]
thread_local! {
    static FREE: Cell<u32> = const { Cell::new(0) };
}

// loom's macro knows no `const`.
#[cfg(baiwan_loom)]
thread_local! {
    static FREE: Cell<u32> = Cell::new(0);
}

/// Whether the next operation needs none of Tokio's budget. A thread that is ending has none that is free.
#[inline]
pub(crate) fn is_free() -> bool {
    let free = FREE.try_with(|free| {
        let left = free.get();
        free.set(if left == 0 { COUNTED_EACH - 1 } else { left - 1 });
        left > 0
    });
    free.unwrap_or(false)
}
