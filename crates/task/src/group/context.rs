//! In which group the code runs that is running: the innermost one, known while a child or a body is polled or dropped.
//!
//! It is not inherited by tasks that are spawned otherwise. A future lends its group to the thread and takes it back when it
//! has been polled, so nothing is counted up or down for it.

use std::cell::Cell;
use std::future::pending;

use super::cancellation::Cancellation;
use super::roster::{Phase, Roster};
use crate::sync::{Arc, thread_cell};

thread_cell! {
    static CURRENT: Cell<Option<Arc<Roster>>> = Cell::new(None);
}

/// Runs `code` while the group in `context` is current. What was current before waits in its place, and is so again afterwards. A
/// thread that is ending has no current group.
///
/// `code` must catch what unwinds.
pub(super) fn within<R>(context: &mut Option<Arc<Roster>>, code: impl FnOnce() -> R) -> R {
    swap(context);
    let outcome = code();
    swap(context);
    outcome
}

fn swap(context: &mut Option<Arc<Roster>>) {
    let _ = CURRENT.try_with(|current| *context = current.replace(context.take()));
}

pub(super) fn current() -> Option<Arc<Roster>> {
    let copied = CURRENT.try_with(|current| {
        let group = current.take();
        let copy = group.clone();
        current.set(group);
        copy
    });
    copied.ok().flatten()
}

/// Whether the code that runs is that of a group whose members are being dropped.
pub(super) fn is_dropping() -> bool {
    current().is_some_and(|group| group.phase() == Phase::Dropping)
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
