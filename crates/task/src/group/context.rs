//! In which group the code runs that is running: the innermost one, known while a child or a body is polled or dropped.
//!
//! It is not inherited by tasks that are spawned otherwise. A future lends its group to the thread, by reference, while it is
//! polled, so nothing is counted up or down for it.

use std::future::{Future, pending};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::roster::{Phase, Roster};
use crate::sync::{Arc, scoped_thread_local};

scoped_thread_local! {
    static CURRENT: Arc<Roster>
}

/// Runs `code` while `group` is current. What was current before is so again afterwards.
pub(super) fn within<R>(group: &Arc<Roster>, code: impl FnOnce() -> R) -> R {
    CURRENT.set(group, code)
}

/// What `ask` says of the current group, if there is one.
fn ask<R>(ask: impl FnOnce(&Arc<Roster>) -> R) -> Option<R> {
    CURRENT.is_set().then(|| CURRENT.with(ask))
}

pub(super) fn current() -> Option<Arc<Roster>> {
    ask(Arc::clone)
}

/// Whether the code that runs is that of a group whose members are being dropped.
pub(super) fn is_dropping() -> bool {
    ask(|group| group.phase() == Phase::Dropping).unwrap_or(false)
}

/// Waits until the innermost group of the task that calls this is cancelled. Outside of groups, that is never; and what
/// `tokio::spawn` has spawned is outside of them.
///
/// A task that listens to this has as long as [`TaskGroup::grace`](crate::TaskGroup::grace) says to end by itself. Without
/// grace it is dropped at once, at its next await.
///
/// Cancel safe.
pub async fn cancelled() {
    match current() {
        Some(group) => Cancellation::new(group).await,
        None => pending().await,
    }
}

/// Whether the innermost group of the task that calls this is cancelled. Outside of groups, false.
///
/// For loops that compute for long without awaiting anything, in the task itself. What a task hands to others (to an
/// [`Offload`](crate::Offload), `spawn_blocking`, `tokio::spawn`) is in no group: there it is false, and a clone of the
/// [`Group`](crate::Group) is the one to ask.
#[must_use]
pub fn is_cancelled() -> bool {
    ask(|group| group.phase() > Phase::Open).unwrap_or(false)
}

/// A future that is ready when a group is cancelled.
pub(super) struct Cancellation {
    group: Arc<Roster>,
    key: Option<usize>,
}

impl Cancellation {
    pub(super) fn new(group: Arc<Roster>) -> Self {
        Self { group, key: None }
    }

    fn unwatch(&mut self) {
        if let Some(key) = self.key.take() {
            self.group.unwatch(key);
        }
    }
}

impl Future for Cancellation {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.unwatch();
        self.key = self.group.watch(cx.waker());
        if self.key.is_some() { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Drop for Cancellation {
    fn drop(&mut self) {
        self.unwatch();
    }
}
