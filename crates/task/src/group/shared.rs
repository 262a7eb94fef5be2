//! What the scope, its children and all handles of a group own together: who is in it, and what went wrong.

use std::borrow::Cow;

use super::failure::{Failure, FailureKind, Failures};
use super::roster::{Phase, Roster};
use crate::sync::{Arc, Mutex};

/// Aligned so that what is read at every poll is in another cache line than the count of owners, which all threads write.
#[repr(align(64))]
pub(super) struct Shared<E> {
    pub(super) roster: Arc<Roster>,
    failures: Mutex<Option<Failures<E>>>,
}

impl<E> Shared<E> {
    pub(super) fn new(roster: Arc<Roster>) -> Self {
        Self { roster, failures: Mutex::new(None) }
    }

    /// Records a failure, then cancels. The first that is recorded is the first for ever; that is the cancellation, if the group was
    /// cancelled before anything had failed.
    pub(super) fn fail(&self, name: Option<Cow<'static, str>>, kind: FailureKind<E>) {
        let failure = Failure::new(name, kind);
        let mut failures = self.failures.lock();
        match &mut *failures {
            Some(failures) => failures.push(failure),
            None if self.roster.phase() > Phase::Open => {
                let cause = Failure::new(self.roster.name.clone(), FailureKind::Cancelled);
                failures.insert(Failures::new(cause)).push(failure);
            }
            None => *failures = Some(Failures::new(failure)),
        }
        drop(failures);
        self.roster.cancel();
    }

    /// Records a failure that is not one of a child.
    pub(super) fn fail_itself(&self, kind: FailureKind<E>) {
        self.fail(self.roster.name.clone(), kind);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failures.lock().is_some()
    }

    /// All that went wrong.
    pub(super) fn take_failures(&self) -> Option<Failures<E>> {
        self.failures.lock().take()
    }
}
