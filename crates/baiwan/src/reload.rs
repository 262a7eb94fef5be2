//! The settings in force, which may change while the server runs: posted once for all cores, and taken by each of them between two turns.
//!
//! ```text
//!   Reloader ─► InForce ─► Follower of each core, once a turn: one relaxed load; a lock only when there is something new
//! ```
//!
//! Which settings may change is *not* decided here (`settings/change.rs`), nor what a core does with them.
//!
//! The invariant: a core serves a whole turn by the same settings, and by all of one change or none of it. Of several changes that come
//! between two of its turns it takes the last.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::settings::Settings;

/// Makes the app of a core anew, on its thread.
pub(crate) type Remake<A> = Box<dyn Fn() -> A>;

/// What is in force.
#[derive(Debug)]
pub(crate) struct InForce {
    /// The number of changes. Written while the lock is held.
    generation: AtomicU64,
    latest: Mutex<Latest>,
}

#[derive(Clone, Debug)]
struct Latest {
    settings: Arc<Settings>,
    /// How often apps were to be made anew.
    apps: u64,
}

impl InForce {
    pub(crate) fn new(settings: Arc<Settings>) -> Arc<Self> {
        Arc::new(Self { generation: AtomicU64::new(0), latest: Mutex::new(Latest { settings, apps: 0 }) })
    }

    /// What was posted last.
    pub(crate) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.latest().settings)
    }

    /// Posts what `change` makes of the settings that were posted last, and whether each core shall make its app anew. The cores are to be
    /// woken afterwards.
    ///
    /// # Errors
    /// Those of `change`. Nothing has changed then.
    pub(crate) fn change<T, E>(
        &self,
        remakes_apps: bool,
        change: impl FnOnce(&Settings) -> Result<(Settings, T), E>,
    ) -> Result<T, E> {
        let mut latest = self.latest();
        let (settings, told) = change(&latest.settings)?;
        *latest = Latest { settings: Arc::new(settings), apps: latest.apps + u64::from(remakes_apps) };
        self.generation.fetch_add(1, Relaxed);
        Ok(told)
    }

    /// The settings for one core, and what it takes later ones from.
    pub(crate) fn follow(self: &Arc<Self>) -> (Arc<Settings>, Follower) {
        let latest = self.latest();
        let follower = Follower { in_force: Arc::clone(self), seen: self.generation.load(Relaxed), apps: latest.apps };
        (Arc::clone(&latest.settings), follower)
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        // What is written there is written at once.
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One core's way to the settings.
pub(crate) struct Follower {
    in_force: Arc<InForce>,
    /// The generation that was taken last, and the apps of it.
    seen: u64,
    apps: u64,
}

/// What a core has taken.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) settings: Arc<Settings>,
    /// The core's app is to be made anew.
    pub(crate) remakes_app: bool,
}

impl Follower {
    /// What was posted since this was asked last, if anything was.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<Taken> {
        // Whoever sees a new number waits below for what belongs to it.
        (self.in_force.generation.load(Relaxed) != self.seen).then(|| self.take_new())
    }

    #[cold]
    fn take_new(&mut self) -> Taken {
        let latest = self.in_force.latest();
        self.seen = self.in_force.generation.load(Relaxed);
        let remakes_app = self.apps != latest.apps;
        self.apps = latest.apps;
        Taken { settings: Arc::clone(&latest.settings), remakes_app }
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("seen", &self.seen).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(in_force: &InForce, workers: usize, remakes_apps: bool) {
        let change = |before: &Settings| Ok::<_, ()>((Settings { workers: Some(workers), ..before.clone() }, ()));
        in_force.change(remakes_apps, change).unwrap();
    }

    #[test]
    fn each_core_takes_the_last_change_once() {
        let in_force = InForce::new(Arc::default());
        let [(first, mut one), (_, mut other)] = [in_force.follow(), in_force.follow()];
        assert_eq!(first.workers, None);
        assert!(one.take().is_none());
        post(&in_force, 1, true);
        post(&in_force, 2, false);
        let taken = one.take().unwrap();
        assert_eq!((taken.settings.workers, taken.remakes_app), (Some(2), true), "nothing of the first is lost");
        assert!(one.take().is_none());
        post(&in_force, 3, false);
        assert!(one.take().is_some_and(|taken| !taken.remakes_app));
        let taken = other.take().unwrap();
        assert_eq!((taken.settings.workers, taken.remakes_app), (Some(3), true));
        assert_eq!(in_force.follow().0.workers, Some(3), "whoever comes later begins with it");
    }

    #[test]
    fn a_change_that_fails_changes_nothing() {
        let in_force = InForce::new(Arc::default());
        let (_, mut follower) = in_force.follow();
        assert_eq!(in_force.change(true, |_| Err::<(Settings, ()), _>("no")), Err("no"));
        assert!(follower.take().is_none());
    }
}
