//! What a child of a group leaves behind: its value, and the handle that takes it.
//!
//! The value is put down before the child leaves the group, so it is there when the scope has ended. It is not where failures
//! go: those belong to the group.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::task::JoinHandle;

use super::context::is_dropping;
use super::roster::wake;
use crate::sync::{Arc, BriefMutex};

/// A task gave no value: it failed, panicked, was cancelled, or was never started because its group was cancelled or had ended.
///
/// Why, is for the scope to say, in its [`Failures`](crate::Failures).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("the task gave no value: it failed or was cancelled")]
pub struct Cancelled;

/// The value of a task in a group, once it is there.
///
/// One that is kept keeps the memory of its task, as Tokio's does, until it is awaited, or [asked](Handle::take) after the
/// task's end.
///
/// As a future it is ready when the task has ended. [`take`](Handle::take) does not wait, so it also serves outside of the
/// scope, after it. Dropping a handle changes nothing for the task; its value is then dropped, as part of the task.
///
/// Awaiting is cancel safe: the value stays.
///
/// # Panics
/// When it is polled after its value was taken, by an earlier await or by [`take`](Handle::take).
pub struct Handle<T> {
    slot: Arc<Slot<T>>,
    /// None if there was never a task, or nothing is left to be cancelled.
    task: Option<JoinHandle<()>>,
    /// It was not said yet that there is no value, since whoever asked was to be dropped.
    was_put_off: bool,
}

impl<T> Handle<T> {
    pub(super) fn new(slot: Arc<Slot<T>>, task: Option<JoinHandle<()>>) -> Self {
        Self { slot, task, was_put_off: false }
    }

    /// The handle of a task that was not started.
    pub(super) fn refused() -> Self {
        Self { slot: Arc::new(Slot(BriefMutex::new(Outcome::Nothing))), task: None, was_put_off: false }
    }

    /// The value, if the task has ended with one, and it was not taken yet.
    #[must_use]
    pub fn take(&mut self) -> Option<T> {
        let mut outcome = self.slot.0.lock();
        let ended = match &*outcome {
            Outcome::Awaited(_) => return None,
            Outcome::Value(_) => Some(std::mem::replace(&mut *outcome, Outcome::Taken)),
            Outcome::Nothing | Outcome::Taken | Outcome::Unwanted => None,
        };
        drop(outcome);
        self.task = None;
        if let Some(Outcome::Value(value)) = ended { Some(value) } else { None }
    }

    /// The same without the power to cancel. A `JoinHandle` keeps the memory of its task; without it only the value is kept.
    pub(super) fn value_only(mut self) -> Self {
        self.task = None;
        self
    }

    /// Whether the task has ended, with a value or without. Its future is gone then, with all that it owned.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        !matches!(*self.slot.0.lock(), Outcome::Awaited(_))
    }

    /// Cancels this task alone: it is dropped at its next await. Its siblings go on, and the scope does not fail.
    ///
    /// That is how a scope ends what would run for ever, once it has what it wants. Nothing happens if the task has ended.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use baiwan_task::{Failures, Group, TaskGroup};
    /// async fn beat() -> Result<std::convert::Infallible, ()> {
    ///     loop {
    ///         tokio::time::sleep(Duration::from_secs(1)).await;
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let report: Result<&str, Failures<()>> = TaskGroup::new()
    ///     .scope(async |group: Group<()>| {
    ///         let heartbeat = group.spawn(beat()).await;
    ///         tokio::time::sleep(Duration::from_secs(3)).await;
    ///         heartbeat.cancel();
    ///         Ok("done")
    ///     })
    ///     .await;
    /// assert_eq!(report.unwrap(), "done");
    /// # }
    /// ```
    pub fn cancel(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl<T> Future for Handle<T> {
    type Output = Result<T, Cancelled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = std::task::ready!(self.slot.poll(cx));
        if result.is_err() && !self.was_put_off && is_dropping() {
            // Code of a group that is being dropped is dropped at its next await, which is this one. Only what another executor
            // runs within it comes back, and is told then.
            self.was_put_off = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.task = None;
        Poll::Ready(result)
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        let outcome = std::mem::replace(&mut *self.slot.0.lock(), Outcome::Unwanted);
        drop(outcome);
    }
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("is_finished", &self.is_finished()).finish_non_exhaustive()
    }
}

/// Where a child puts its value down.
pub(super) struct Slot<T>(BriefMutex<Outcome<T>>);

enum Outcome<T> {
    /// The child runs. The waker is that of the handle, if it was awaited.
    Awaited(Option<Waker>),
    Value(T),
    /// The child has ended without a value.
    Nothing,
    Taken,
    /// The handle is gone.
    Unwanted,
}

impl<T> Slot<T> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(BriefMutex::new(Outcome::Awaited(None))))
    }

    /// The child has ended. Returns the value if nobody wants it.
    pub(super) fn put(&self, value: Option<T>) -> Option<T> {
        let mut outcome = self.0.lock();
        let Outcome::Awaited(waker) = &mut *outcome else { return value };
        let waker = waker.take();
        *outcome = value.map_or(Outcome::Nothing, Outcome::Value);
        drop(outcome);
        wake(waker);
        None
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<T, Cancelled>> {
        let mut spare = None;
        loop {
            // Made after `spare`, it is released before a waker in there is dropped.
            let mut outcome = self.0.lock();
            match &mut *outcome {
                Outcome::Awaited(Some(known)) if known.will_wake(cx.waker()) => return Poll::Pending,
                Outcome::Awaited(known) if spare.is_some() => {
                    std::mem::swap(known, &mut spare);
                    return Poll::Pending;
                }
                Outcome::Awaited(_) => {}
                Outcome::Nothing => return Poll::Ready(Err(Cancelled)),
                ended => {
                    let ended = std::mem::replace(ended, Outcome::Taken);
                    drop(outcome);
                    let Outcome::Value(value) = ended else { panic!("the value of this task was taken before") };
                    return Poll::Ready(Ok(value));
                }
            }
            drop(outcome);
            spare = Some(cx.waker().clone());
        }
    }
}
