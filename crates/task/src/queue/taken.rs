//! An item that was taken: a guard that counts as finished when it is dropped.
//!
//! It knows when its item was put, so that one that is put back does not become younger. As it comes from the queue, it borrows
//! the handle it was taken by, which costs nothing; [`Taken::into_owned`] makes it independent.
//!
//! Invariant: each item that was taken is finished or put back exactly once, also when its destructor panics.

use std::fmt;
use std::mem;
use std::ops::{Deref, DerefMut};

use super::shared::Shared;
use super::state::Item;
use crate::sync::Arc;

/// An item of a [`Queue`](super::Queue) that somebody works on.
///
/// It counts as unfinished, for [`Queue::join`](super::Queue::join), until this guard is dropped, and the item with it. So a
/// worker that panics, or is cancelled, does not keep `join` from ending; if the item must not be lost, put it back.
///
/// It borrows the handle that it was taken by. To move it into another task, make it independent with
/// [`into_owned`](Taken::into_owned).
///
/// A guard that is leaked, say by [`mem::forget`], is never finished: `join` then waits for ever. A guard that is put into its own
/// queue, as part of an item, keeps the queue alive until it is taken out.
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
// In this order value and time are moved by one load and one store, as they lie in the queue. In another, a load that spans the tag
// and the value has to wait for the two stores before it, which takes a quarter of the time of a put and a get.
#[repr(C)]
pub struct Taken<'a, T> {
    // Dropped before `finish`: an item is finished when nothing is left of it, and also if its destructor panics.
    value: T,
    since_ns: u64,
    finish: Finish<'a, T>,
}

/// Counts an item as finished when it is dropped.
struct Finish<'a, T>(Owner<'a, T>);

/// Who counts.
enum Owner<'a, T> {
    Lent(&'a Arc<Shared<T>>),
    Owned(Arc<Shared<T>>),
    /// Nobody any more: it was put back, or another guard has taken it over.
    Nobody,
}

impl<'a, T> Finish<'a, T> {
    fn take(mut self) -> Owner<'a, T> {
        mem::replace(&mut self.0, Owner::Nobody)
    }
}

impl<T> Drop for Finish<'_, T> {
    #[inline]
    fn drop(&mut self) {
        match &self.0 {
            Owner::Lent(shared) => shared.finish(),
            Owner::Owned(shared) => shared.finish(),
            Owner::Nobody => {}
        }
    }
}

impl<'a, T> Taken<'a, T> {
    #[inline]
    pub(super) fn new(item: Item<T>, shared: &'a Arc<Shared<T>>) -> Self {
        Taken { value: item.value, since_ns: item.since_ns, finish: Finish(Owner::Lent(shared)) }
    }

    /// The same guard, tied to no handle: it may outlive all of them, and move to another task.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let queue = baiwan_task::Queue::new(10);
    /// queue.put("job").await.unwrap();
    /// let job = queue.get().await.unwrap().into_owned();
    /// tokio::spawn(async move { assert_eq!(*job, "job") });
    /// queue.join().await;
    /// # }
    /// ```
    pub fn into_owned(self) -> Taken<'static, T> {
        let Taken { value, since_ns, finish } = self;
        let owner = match finish.take() {
            Owner::Lent(shared) => Owner::Owned(Arc::clone(shared)),
            Owner::Owned(shared) => Owner::Owned(shared),
            Owner::Nobody => Owner::Nobody,
        };
        Taken { value, since_ns, finish: Finish(owner) }
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
    ///
    /// Who found the queue closed and empty meanwhile has gone, and is not called back: to [`join`](crate::Queue::join) before
    /// [`close`](crate::Queue::close) is how every item finds a consumer.
    pub fn put_back(self) {
        let Taken { value, since_ns, finish } = self;
        let item = Item { value, since_ns };
        let waker = match finish.take() {
            Owner::Lent(shared) => shared.lock().put_back(item),
            Owner::Owned(shared) => shared.lock().put_back(item),
            Owner::Nobody => return,
        };
        if let Some(waker) = waker {
            waker.wake();
        }
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
