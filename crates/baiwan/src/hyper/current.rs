//! What the requests of a core are answered by: its app and the settings in force, which may change while the server runs.
//!
//! The invariant: a request is answered by one app and one set of settings, those of its beginning.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use super::record::Transports;
use crate::app::App;
use crate::reload::{Follower, Remake};
use crate::say::say;
use crate::settings::Settings;

/// An app, and the settings by which it serves.
pub(super) struct Serving<A> {
    pub(super) app: A,
    pub(super) settings: Arc<Settings>,
}

/// What serves now; the connections of a core share it.
pub(super) struct Current<A> {
    now: RefCell<Rc<Serving<A>>>,
    /// None where nothing changes any more.
    follower: RefCell<Option<Follower>>,
    /// Makes the app anew, where the program gave a way to.
    remake: Option<Remake<A>>,
    /// Somebody records the routes of requests.
    records: bool,
}

impl<A: App> Current<A> {
    /// What does not change any more.
    #[cfg(any(test, all(target_os = "linux", not(baiwan_portable))))]
    pub(super) fn fixed(app: A, settings: Arc<Settings>) -> Rc<Self> {
        let now = RefCell::new(Rc::new(Serving { app, settings }));
        Rc::new(Self { now, follower: RefCell::new(None), remake: None, records: false })
    }

    /// What follows the settings that are in force. `records` says that somebody records the routes of requests.
    pub(super) fn following(
        app: A,
        remake: Option<Remake<A>>,
        (settings, follower): (Arc<Settings>, Follower),
        records: bool,
    ) -> Rc<Self> {
        let now = RefCell::new(Rc::new(Serving { app: prepare(app, records), settings }));
        Rc::new(Self { now, follower: RefCell::new(Some(follower)), remake, records })
    }

    /// What serves a request that begins now.
    pub(super) fn now(&self) -> Rc<Serving<A>> {
        Rc::clone(&self.now.borrow())
    }

    /// Takes the settings that were posted since this was called last, if any were.
    pub(super) fn follow(&self, transports: &Transports) {
        let taken = self.follower.borrow_mut().as_mut().and_then(Follower::take);
        let Some(taken) = taken else { return };
        transports.follow(&taken.settings);
        let before = self.now();
        let Some(app) = self.app_after(&before, taken.remakes_app) else { return };
        *self.now.borrow_mut() = Rc::new(Serving { app, settings: taken.settings });
    }

    /// The app that follows: one made anew, if that is asked for and possible. None if even a copy of the one before panics.
    fn app_after(&self, before: &Serving<A>, is_new: bool) -> Option<A> {
        if let Some(remake) = self.remake.as_ref().filter(|_| is_new) {
            match catch_unwind(AssertUnwindSafe(|| prepare(remake(), self.records))) {
                Ok(app) => return Some(app),
                Err(_) => {
                    say(|| {
                        tracing::error!(
                            "the app panicked when it was made anew, so this core keeps the one that it has"
                        )
                    });
                }
            }
        }
        catch_unwind(AssertUnwindSafe(|| before.app.clone())).ok()
    }
}

/// The app as it is called: where its routes are recorded as one that tells them.
fn prepare<A: App>(app: A, records: bool) -> A {
    #[cfg(feature = "matched-path")]
    let app = match records {
        true => crate::routes::with_routes(app.clone()).unwrap_or(app),
        false => app,
    };
    #[cfg(not(feature = "matched-path"))]
    let _ = records;
    #[cfg(feature = "axum")]
    let app = crate::axum_app::make_ready(app);
    app
}
