//! A bounded queue for many producers and many consumers, which knows what is not finished yet.
//!
//! What asyncio's `Queue` is in Python, with guards in place of `task_done`: an item that is taken counts as unfinished until its
//! guard is dropped, and may be put back. Whoever waits is served in turn. It is *not* a channel: there are no ends, so nothing
//! closes it but [`Queue::close`].
//!
//! | file | part |
//! |---|---|
//! | `state.rs` | **the rules**: items, promises, what each event does |
//! | `line.rs` | those who wait, in order |
//! | `shared.rs` | the lock around both, and the count of what is finished |
//! | `waiting.rs` | the futures: how each waits in line, and leaves it |
//! | `taken.rs` | the guard |
//!
//! Invariant: no waker, and nothing that belongs to a caller, runs or is dropped under the lock.

use std::fmt;
use std::time::Duration;

use thiserror::Error;

mod line;
mod shared;
mod state;
mod taken;
#[cfg(all(test, not(any(baiwan_loom, baiwan_shuttle))))]
mod tests;
mod waiting;

use crate::clock;
use crate::panic::wake;
use crate::sync::Arc;
use shared::Shared;

pub use taken::Taken;
pub use waiting::{Get, Join, Put};

/// A bounded queue: first in, first out; first come, first served.
///
/// [`put`](Queue::put) waits for a place and [`get`](Queue::get) for an item; [`join`](Queue::join) waits until all is finished, and
/// [`close`](Queue::close) ends it. Clones are handles of the same queue; dropping them, even the last one, closes nothing.
///
/// # Order and fairness
/// Items come out in the order in which they went in; those that are [put back](Taken::put_back) come first. Those who wait for an
/// item, or for a place to put one, get it in the order in which they began to: when a future is polled first, unless its task
/// has to let others run before. Nobody who comes later can take what was promised to one who waits; if that one gives up, it goes to
/// the next in line.
///
/// # Cancel safety
/// Every future may be dropped at any time. A [`put`](Queue::put) that was dropped has not put its value, and has dropped it; a
/// [`get`](Queue::get) that was dropped has taken nothing. Its place in line is lost, and nothing else.
///
/// # Bounds
/// At most `capacity` items are in the queue, and those that were put back beyond it. Of those who wait, each needs some 40 bytes,
/// which the queue keeps for the next.
///
/// # Examples
/// Three workers, and the one who hands out the work knows when all of it is done:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use baiwan_task::Queue;
///
/// let queue = Queue::new(100);
/// for _ in 0..3 {
///     let queue = queue.clone();
///     tokio::spawn(async move {
///         while let Ok(job) = queue.get().await {
///             let _work = *job * 2;
///         } // Here the job is dropped, so it is finished.
///     });
/// }
/// for job in 0..1_000 {
///     queue.put(job).await.expect("nobody has closed it");
/// }
/// queue.join().await;
/// queue.close();
/// assert_eq!(queue.statistics().unfinished, 0);
/// # }
/// ```
pub struct Queue<T> {
    shared: Arc<Shared<T>>,
}

/// The queue is closed. With the value that was not put.
#[derive(Clone, Copy, Error, PartialEq, Eq)]
#[error("the queue is closed")]
pub struct Closed<T>(
    /// What was to be put.
    pub T,
);

/// Whatever the value is.
impl<T> fmt::Debug for Closed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closed(..)")
    }
}

/// The queue is closed, and nothing is left in it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the queue is closed and empty")]
pub struct Drained;

/// What is in a queue, and what has happened to it since it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Items that are in the queue.
    pub length: usize,
    /// How many items it takes, those apart that are put back.
    pub capacity: usize,
    /// The most items that were ever in it at once.
    pub length_max: usize,
    /// Items that are in the queue, or were taken and are not finished.
    pub unfinished: usize,
    /// Items that were put.
    pub puts: u64,
    /// How long ago the item was put that is the next to be taken; `None` if there is none. Measured by a coarse clock: off by
    /// up to 10 ms. Time in which the item was taken and not yet put back counts.
    pub oldest_age: Option<Duration>,
}

impl<T> Queue<T> {
    /// An empty queue for `capacity` items. Memory for them is taken as it is needed, and kept.
    ///
    /// # Panics
    /// If `capacity` is 0.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "a queue needs a place for at least one item");
        Queue { shared: Arc::new(Shared::new(capacity)) }
    }

    /// Puts `value` in at the back, once there is a place and it is this caller's turn.
    ///
    /// It takes part in Tokio's cooperative scheduling: after some 1,500 such operations in a turn it yields though it need not wait.
    ///
    /// # Errors
    /// [`Closed`], with the value, if the queue is closed, or gets closed before it was this caller's turn.
    ///
    /// # Cancel safety
    /// If the future is dropped before it was ready, `value` is dropped and was not put. Where that may happen, as in a `select!`,
    /// put what can be made again.
    pub fn put(&self, value: T) -> Put<'_, T> {
        Put::new(&self.shared, value)
    }

    /// Takes the item at the front, once there is one and it is this caller's turn.
    ///
    /// It takes part in Tokio's cooperative scheduling: after some 1,500 such operations in a turn it yields though it need not wait.
    ///
    /// # Errors
    /// [`Drained`] if the queue is closed and nothing is left in it. Items that others have taken may still be put back: a task that puts
    /// one back into a closed queue should be one that gets from it, too.
    ///
    /// # Cancel safety
    /// If the future is dropped before it was ready, nothing was taken.
    pub fn get(&self) -> Get<'_, T> {
        Get::new(&self.shared)
    }

    /// Takes nothing in any more. What is in the queue can be taken, and then everybody who gets is told [`Drained`]. Whoever waits
    /// to put gets the value back, even if it was just promised a place. To close again changes nothing.
    pub fn close(&self) {
        let woken = self.shared.lock().close();
        wake(woken);
    }

    /// Waits until every item that was put is finished: none is in the queue, and none is [taken](Taken) and held. That this
    /// was so at some moment since it began to wait is enough; others may put more at any time. Those who wait to put, and whose
    /// value is not in the queue yet, are not waited for.
    ///
    /// A guard that is leaked, say by [`mem::forget`](std::mem::forget), is never finished, and this never ends.
    ///
    /// # Cancel safety
    /// It can be dropped and called again.
    pub fn join(&self) -> Join<'_, T> {
        Join::new(&self.shared)
    }

    /// What is in it, and what has happened to it: all of the same moment, but that `unfinished` may be less by what is being
    /// finished right now. Takes the same time however many items there are.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let now_ns = clock::now_ns();
        let state = self.shared.lock();
        Statistics {
            length: state.len(),
            capacity: state.capacity,
            length_max: state.length_max,
            unfinished: self.shared.unfinished(&state),
            puts: state.puts,
            // Put after the clock was read, an item is younger than nothing.
            oldest_age: state.next_since_ns().map(|since_ns| Duration::from_nanos(now_ns.saturating_sub(since_ns))),
        }
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Queue { shared: Arc::clone(&self.shared) }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        let (length, capacity, closed) = (state.len(), state.capacity, state.closed);
        // The formatter may be anybody's.
        drop(state);
        let mut shown = f.debug_struct("Queue");
        shown.field("length", &length).field("capacity", &capacity).field("closed", &closed);
        shown.finish_non_exhaustive()
    }
}
