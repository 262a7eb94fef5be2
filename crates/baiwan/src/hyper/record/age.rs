//! How the age of a transport ends it: it is told, and cut when it goes on for longer than its grace.
//!
//! A task of its own waits for that, only where a setting asks: a transport may be anywhere by then, and in any protocol.
//!
//! The invariant: a connection that is old was told, and one that is given up was told `AGE_GRACE` before.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};

use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::Record;
use crate::settings::AGE_GRACE;
use crate::status::CloseReason;

/// The age of a transport, if it has one.
#[derive(Debug)]
pub(super) struct Age {
    ends: Option<Instant>,
    old: AtomicBool,
    given_up: AtomicBool,
    task: OnceLock<AbortHandle>,
}

impl Age {
    pub(super) fn new(ends: Option<Instant>) -> Self {
        Self { ends, old: AtomicBool::new(false), given_up: AtomicBool::new(false), task: OnceLock::new() }
    }
}

impl Record {
    /// When its age is reached, if it has one.
    pub(in crate::hyper) fn age_ends(&self) -> Option<Instant> {
        self.age.ends
    }

    /// Whether its age is reached.
    pub(in crate::hyper) fn is_old(&self) -> bool {
        self.age.old.load(Relaxed)
    }

    /// Waits for its age. The first to see it tells the others.
    pub(in crate::hyper) async fn until_old(&self) {
        match self.age.ends {
            Some(ends) => sleep_until(ends).await,
            None => std::future::pending().await,
        }
        self.grow_old();
    }

    /// Waits until it has had its grace, too.
    pub(in crate::hyper) async fn until_given_up(&self) {
        match self.age.ends {
            Some(ends) => sleep_until(ends + AGE_GRACE).await,
            None => std::future::pending().await,
        }
        self.give_up();
    }

    /// # Errors
    /// When it was given up: what it would send is not sent.
    pub(in crate::hyper) fn may_write(&self) -> io::Result<()> {
        match self.age.given_up.load(Relaxed) {
            true => Err(io::ErrorKind::ConnectionAborted.into()),
            false => Ok(()),
        }
    }

    /// Has a task tell it of its age, and end it. Call it within the core's runtime.
    pub(super) fn watch_age(self: &Arc<Self>) {
        if let Some(ends) = self.age.ends {
            let task = tokio::task::spawn_local(end_at(ends, Arc::downgrade(self)));
            let _ = self.age.task.set(task.abort_handle());
        }
    }

    /// It has ended: nobody waits for its age any more.
    pub(super) fn forget_age(&self) {
        if let Some(task) = self.age.task.get() {
            task.abort();
        }
    }

    fn grow_old(&self) {
        if !self.age.old.swap(true, Relaxed) {
            self.tell();
        }
    }

    fn give_up(&self) {
        self.age.given_up.store(true, Relaxed);
        self.end(CloseReason::AgeTimeout);
    }
}

async fn end_at(ends: Instant, record: Weak<Record>) {
    sleep_until(ends).await;
    if let Some(record) = record.upgrade() {
        record.grow_old();
    }
    sleep_until(ends + AGE_GRACE).await;
    if let Some(record) = record.upgrade() {
        record.give_up();
    }
}
