//! An item that was taken: a guard that counts as finished when it is dropped.
//!
//! It knows when its item was put, so that one that is put back does not become younger.
//!
//! Invariant: each item that was taken is finished or put back exactly once, also when its destructor panics.

use std::fmt;
use std::ops::{Deref, DerefMut};

use super::shared::Shared;
use super::state::Item;
use crate::panic::wake;

/// An item of a [`Queue`](super::Queue) that somebody works on.
///
/// It counts as unfinished, for [`Queue::join`](super::Queue::join), until this guard is dropped, and the item with it. So a
/// worker that panics, or is cancelled, does not keep `join` from ending; if the item must not be lost, put it back.
///
/// It borrows the handle that it was taken by. One that is leaked, say by [`mem::forget`](std::mem::forget), is never finished: `join`
/// then waits for ever.
#[must_use = "an item that is dropped counts as finished"]
// In this order value and time are moved by one load and one store, as they lie in the queue. In another, a load that spans the tag
// and the value has to wait for the two stores before it, which takes a quarter of the time of a put and a get.
#[repr(C)]
pub struct Taken<'a, T> {
    // Dropped before `finish`: an item is finished when nothing is left of it, and also if its destructor panics.
    value: T,
    since_ns: u64,
    finish: Finish<'a, T>,
}

/// Counts an item as finished when it is dropped; none that was put back.
struct Finish<'a, T>(Option<&'a Shared<T>>);

impl<T> Drop for Finish<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(shared) = self.0 {
            shared.finish();
        }
    }
}

impl<'a, T> Taken<'a, T> {
    #[inline]
    pub(super) fn new(item: Item<T>, shared: &'a Shared<T>) -> Self {
        Taken { value: item.value, since_ns: item.since_ns, finish: Finish(Some(shared)) }
    }

    /// Takes the item out of the guard. From here on it counts as finished.
    #[must_use = "to finish an item, drop its guard"]
    pub fn into_inner(self) -> T {
        self.value
    }

    /// Puts the item back as the one that is taken next; unfinished, and as old as it was.
    ///
    /// It never waits: there is a place for it even if the queue is full, or was closed.
    ///
    /// A task that found the queue closed and empty meanwhile has gone, and is not called back: to [`join`](crate::Queue::join) before
    /// [`close`](crate::Queue::close) is how every item finds a consumer.
    pub fn put_back(self) {
        let Taken { value, since_ns, mut finish } = self;
        let waker = finish.0.take().and_then(|shared| shared.lock().put_back(Item { value, since_ns }));
        wake(waker);
    }
}

impl<T> Deref for Taken<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Taken<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Taken<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Taken").field(&self.value).finish()
    }
}
