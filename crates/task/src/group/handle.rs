//! What a child of a group leaves behind: its value, and the handle that takes it.
//!
//! The value is put down before the child leaves the group, so it is there when the scope has ended. It is not where failures go:
//! those belong to the group. Nor is it Tokio's oneshot, which would make a child larger, and for which the models are blind.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::task::JoinHandle;

use super::context::is_dropping;
use crate::panic::wake;
use crate::sync::{Arc, BriefMutex};

/// A task gave no value: it failed, panicked, was cancelled, or was never started because its group was cancelled or had ended.
///
/// Why, is for the scope to say, in its [`Failures`](crate::Failures).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("the task gave no value: it failed or was cancelled")]
pub struct Cancelled;

/// The value of a task in a group, once it is there.
///
/// As a future it is ready when the task has ended. [`take`](Handle::take) does not wait, so it also serves outside of the
/// scope, after it. Dropping a handle changes nothing for the task; its value is then dropped, as part of the task. One that is kept
/// keeps the memory of its task, as Tokio's does, until it is awaited, or asked after the task's end.
///
/// Awaiting is cancel safe: the value stays.
///
/// # Panics
/// When it is polled after its value was taken, by an earlier await or by [`take`](Handle::take).
pub struct Handle<T> {
    slot: Arc<Slot<T>>,
    /// None if there was never a task, or nothing is left to be cancelled.
    task: Option<JoinHandle<()>>,
    was_taken: bool,
    /// It was not said yet that there is no value, since whoever asked was to be dropped.
    was_put_off: bool,
}

impl<T> Handle<T> {
    pub(super) fn new(slot: Arc<Slot<T>>, task: Option<JoinHandle<()>>) -> Self {
        Self { slot, task, was_taken: false, was_put_off: false }
    }

    /// The value, if the task has ended with one, and it was not taken yet.
    #[must_use]
    pub fn take(&mut self) -> Option<T> {
        let Poll::Ready(value) = self.slot.take() else { return None };
        self.task = None;
        self.was_taken |= value.is_some();
        value
    }

    /// The same without the power to cancel. A `JoinHandle` keeps the memory of its task; without it only the value is kept.
    pub(super) fn value_only(mut self) -> Self {
        self.task = None;
        self
    }

    /// Cancels this task alone: it is dropped at its next await. Its siblings go on, and the scope does not fail.
    ///
    /// That is how a scope ends what would run for ever, once it has what it wants. Nothing happens if the task has ended.
    pub fn cancel(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl<T> Future for Handle<T> {
    type Output = Result<T, Cancelled>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let value = ready!(self.slot.poll(cx));
        assert!(value.is_some() || !self.was_taken, "the value of this task was taken before");
        if value.is_none() && !self.was_put_off && is_dropping() {
            // Code of a group that is being dropped is dropped at its next await, which is this one. Only what another executor
            // runs within it comes back, and is told then.
            self.was_put_off = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.task = None;
        self.was_taken = value.is_some();
        Poll::Ready(value.ok_or(Cancelled))
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        let outcome = std::mem::replace(&mut *self.slot.0.lock(), Outcome::Ended(None));
        drop(outcome);
    }
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// Where a child puts its value down.
pub(super) struct Slot<T>(BriefMutex<Outcome<T>>);

enum Outcome<T> {
    /// The child runs. The waker is that of the handle, if it was awaited.
    Awaited(Option<Waker>),
    /// The child has ended, or the handle is gone. The value, until it is taken.
    Ended(Option<T>),
}

impl<T> Slot<T> {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(BriefMutex::new(Outcome::Awaited(None))))
    }

    /// The child has ended, or will never begin. Returns the value if nobody wants it.
    pub(super) fn put(&self, value: Option<T>) -> Option<T> {
        let mut outcome = self.0.lock();
        let Outcome::Awaited(waker) = &mut *outcome else { return value };
        let waker = waker.take();
        *outcome = Outcome::Ended(value);
        drop(outcome);
        wake(waker);
        None
    }

    fn take(&self) -> Poll<Option<T>> {
        if let Outcome::Ended(value) = &mut *self.0.lock() { Poll::Ready(value.take()) } else { Poll::Pending }
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<Option<T>> {
        let taken = self.take();
        if taken.is_ready() {
            return taken;
        }
        // Dropped, as what it replaces, when the lock is released.
        let mut waker = Some(cx.waker().clone());
        let mut outcome = self.0.lock();
        match &mut *outcome {
            Outcome::Ended(value) => Poll::Ready(value.take()),
            Outcome::Awaited(known) => {
                std::mem::swap(known, &mut waker);
                Poll::Pending
            }
        }
    }
}
