//! In which group the code runs that is running: the innermost one, known while a child or a body is polled or dropped.
//!
//! It is not inherited by tasks that are spawned otherwise. A future lends its group to the thread and takes it back when it
//! has been polled, so nothing is counted up or down for it.
//!
//! Beside it is kept whether the code was told, by a handle, that a task was cancelled. What then fails in the same poll, of a
//! group that is being dropped, is a consequence, and no failure of its own: had the poll come a moment later, it had not been
//! made.

use std::cell::Cell;
use std::future::pending;

use super::cancellation::Cancellation;
use super::roster::{Phase, Roster};
use crate::sync::{Arc, thread_local};

/// What a thread knows of the code that it runs.
struct Current {
    group: Cell<Option<Arc<Roster>>>,
    was_told: Cell<bool>,
}

impl Current {
    const fn new() -> Self {
        Self { group: Cell::new(None), was_told: Cell::new(false) }
    }

    fn swap(&self, context: &mut Option<Arc<Roster>>) {
        *context = self.group.replace(context.take());
    }
}

#[cfg(not(baiwan_loom))]
thread_local! {
    static CURRENT: Current = const { Current::new() };
}

// loom's macro knows no `const`.
#[cfg(baiwan_loom)]
thread_local! {
    static CURRENT: Current = Current::new();
}

/// The group is current until this is [left](Entered::leave): whoever enters catches what unwinds, and leaves.
#[must_use = "the group stays current until it is left"]
pub(super) struct Entered<'a> {
    context: &'a mut Option<Arc<Roster>>,
    was_told: bool,
}

/// Makes the group in `context` current. What was current before waits in its place. A thread that is ending has no current group.
pub(super) fn enter(context: &mut Option<Arc<Roster>>) -> Entered<'_> {
    let was_told = CURRENT.try_with(|current| {
        current.swap(context);
        current.was_told.replace(false)
    });
    Entered { context, was_told: was_told.unwrap_or(false) }
}

impl Entered<'_> {
    /// What was current before is so again. Returns whether the code was told meanwhile that a task was cancelled.
    pub(super) fn leave(self) -> bool {
        let was_told = CURRENT.try_with(|current| {
            current.swap(self.context);
            current.was_told.replace(self.was_told)
        });
        was_told.unwrap_or(false)
    }
}

/// The code that runs is told that a task was cancelled.
pub(super) fn tell_cancelled() {
    let _ = CURRENT.try_with(|current| current.was_told.set(true));
}

pub(super) fn current() -> Option<Arc<Roster>> {
    let copied = CURRENT.try_with(|current| {
        let group = current.group.take();
        let copy = group.clone();
        current.group.set(group);
        copy
    });
    copied.ok().flatten()
}

/// Waits until the innermost group of the task that calls this is cancelled. Outside of groups, that is never.
///
/// A task that listens to this has as long as [`TaskGroup::grace`](crate::TaskGroup::grace) says to end by itself. Without
/// grace it is dropped at once, at its next await.
///
/// Cancel safe.
///
/// ```
/// # use std::time::Duration;
/// # use baiwan_task::{Failures, Group, TaskGroup};
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let group = TaskGroup::new().grace(Duration::from_secs(1));
/// let mut kept = None;
/// let _: Result<(), Failures<&str>> = group
///     .scope(async |group: Group<&str>| {
///         let last_words = group.spawn(async {
///             baiwan_task::cancelled().await;
///             Ok("flushed")
///         });
///         kept = Some(last_words.await);
///         Err("something else failed")
///     })
///     .await;
/// assert_eq!(kept.unwrap().take(), Some("flushed"));
/// # }
/// ```
pub async fn cancelled() {
    match current() {
        Some(group) => Cancellation::new(group).await,
        None => pending().await,
    }
}

/// Whether the innermost group of the task that calls this is cancelled. Outside of groups, false.
///
/// For loops that compute for long without awaiting anything.
#[must_use]
pub fn is_cancelled() -> bool {
    current().is_some_and(|group| group.phase() > Phase::Open)
}
