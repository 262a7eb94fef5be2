//! What a child of a group leaves behind: its value, and the handle that takes it.
//!
//! The value is sent before the child leaves the group, so it is there when the scope has ended. It is not where failures go: those
//! belong to the group.

use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::task::JoinHandle;

use super::context::is_dropping;
use crate::panic::discard;

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
    value: oneshot::Receiver<T>,
    /// None if there was never a task, or nothing is left to be cancelled.
    task: Option<JoinHandle<()>>,
    /// There is no value.
    has_none: bool,
}

// A value that its task has made whole is all that a handle shows.
impl<T> UnwindSafe for Handle<T> {}
impl<T> RefUnwindSafe for Handle<T> {}

impl<T> Handle<T> {
    pub(super) fn new(value: oneshot::Receiver<T>, task: Option<JoinHandle<()>>) -> Self {
        Self { value, task, has_none: false }
    }

    /// The value, if the task has ended with one, and it was not taken yet.
    #[must_use]
    pub fn take(&mut self) -> Option<T> {
        let was_taken = self.value.is_terminated();
        let taken = self.value.try_recv();
        if !matches!(taken, Err(TryRecvError::Empty)) {
            self.task = None;
            self.has_none |= taken.is_err() && !was_taken;
        }
        taken.ok()
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
        if !self.has_none {
            if let Ok(value) = ready!(Pin::new(&mut self.value).poll(cx)) {
                self.task = None;
                return Poll::Ready(Ok(value));
            }
            self.has_none = true;
            if is_dropping() {
                // Code of a group that is being dropped is dropped at its next await, which is this one. Only what another executor
                // runs within it comes back, and is told then.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        self.task = None;
        Poll::Ready(Err(Cancelled))
    }
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

/// The child has ended: gives its value, if it has one, to the handle, and wakes whoever awaits that. Returns the value if nobody wants
/// it. A waker that panics keeps the child from nothing; the panic hook has told of it.
pub(super) fn send<T>(handle: oneshot::Sender<T>, value: Option<T>) -> Option<T> {
    let sent = catch_unwind(AssertUnwindSafe(|| match value {
        Some(value) => handle.send(value).err(),
        None => None,
    }));
    sent.unwrap_or_else(|payload| {
        discard(payload);
        None
    })
}
