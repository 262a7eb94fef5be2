//! An item that was taken: a guard that counts as finished when it is dropped.
//!
//! It knows when its item was put, so that one that is put back does not become younger. It is *not* tied to a handle of the
//! queue: it may outlive them all, and move to another task.
//!
//! Invariant: each item that was taken is finished or put back exactly once, also when its destructor panics.

use std::fmt;
use std::ops::{Deref, DerefMut};

use super::shared::Shared;
use super::state::Item;
use crate::sync::Arc;

/// An item of a [`Queue`](super::Queue) that somebody works on.
///
/// It counts as unfinished, for [`Queue::join`](super::Queue::join), until this guard is dropped, and the item with it. So a
/// worker that panics, or is cancelled, does not keep `join` from ending; if the item must not be lost, put it back.
///
/// A guard that is leaked, say by [`mem::forget`](std::mem::forget), is never finished: `join` then waits for ever. A guard that
/// is put into its own queue, as part of an item, keeps the queue alive until it is taken out.
///
/// # Examples
/// ```
/// let queue = baiwan_task::Queue::new(10);
/// queue.put_nowait("job").unwrap();
///
/// let job = queue.get_nowait().unwrap();
/// assert_eq!(job.len(), 3);
/// job.put_back();
/// assert_eq!(queue.len(), 1);
///
/// let job = queue.get_nowait().unwrap();
/// drop(job);
/// assert_eq!(queue.statistics().unfinished, 0);
/// ```
#[must_use = "an item that is dropped counts as finished"]
pub struct Taken<T> {
    // Dropped before `finish`: an item is finished when nothing is left of it, and also if its destructor panics.
    value: T,
    since_ns: u64,
    finish: Finish<T>,
}

/// Counts an item as finished when it is dropped, unless the queue was taken out of it.
struct Finish<T>(Option<Arc<Shared<T>>>);

impl<T> Drop for Finish<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.finish();
        }
    }
}

impl<T> Taken<T> {
    #[inline]
    pub(super) fn new(item: Item<T>, shared: &Arc<Shared<T>>) -> Self {
        Taken { value: item.value, since_ns: item.since_ns, finish: Finish(Some(Arc::clone(shared))) }
    }

    /// Takes the item out of the guard. From here on it counts as finished.
    #[must_use = "to finish an item, drop its guard"]
    pub fn into_inner(self) -> T {
        let Taken { value, finish, .. } = self;
        drop(finish);
        value
    }

    /// Puts the item back as the one that is taken next; unfinished, and as old as it was.
    ///
    /// It never waits: there is a place for it even if the queue is full, or was closed. If no handle of the queue is left, the
    /// item is dropped with the queue.
    pub fn put_back(self) {
        let Taken { value, since_ns, mut finish } = self;
        if let Some(shared) = finish.0.take() {
            let woken = shared.lock().put_back(Item { value, since_ns });
            woken.wake();
        }
    }
}

impl<T> Deref for Taken<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Taken<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Taken<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Taken").field(&self.value).finish()
    }
}
