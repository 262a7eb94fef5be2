//! Who is told of the exchanges of a core, and how their records come about.
//!
//! A core has a [`Recorder`] if anybody wants records: the program's observer, metrics, logs. A [`Draft`] goes along with an exchange
//! then, and becomes an [`Exchange`] when that ends, of which the recorder tells everybody at once. Where nobody wants records, there is
//! none of this: no allocation, no look at the clock, one branch.
//!
//! It is *not* a decision about the exchange. The invariant: a draft that was begun is finished exactly once.

mod draft;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

pub(crate) use self::draft::{Draft, now};
use crate::access_log;
use crate::observe::{Exchange, Observer};
use crate::route_table::{RouteNumber, RouteTable};
use crate::status::{CoreStatus, Status};

/// Whoever is told of the exchanges of one core, all behind one branch. Connections that hyper or the app holds may tell from other
/// threads.
#[derive(Debug)]
pub(crate) struct Recorder {
    status: Arc<Status>,
    core: usize,
    app: Option<Observer>,
    access_log: Option<access_log::Producer>,
    /// Somebody wants to know paths.
    wants_path: bool,
}

impl Recorder {
    /// That of the `core`-th core; none where nobody wants records.
    pub(crate) fn of_core(
        app: Option<Observer>,
        access_log: Option<access_log::Producer>,
        status: &Arc<Status>,
        core: usize,
    ) -> Option<Arc<Self>> {
        let wants_path = app.is_some() || access_log.is_some();
        wants_path.then(|| Arc::new(Self { status: Arc::clone(status), core, app, access_log, wants_path }))
    }

    /// One that tells an observer alone, and posts to no server.
    #[cfg(test)]
    pub(crate) fn of_observer(observer: Observer) -> Arc<Self> {
        Self::of_core(Some(observer), None, &Status::new(1, 1, 1), 0).expect("somebody observes")
    }

    /// Whether records say the path of their request.
    pub(crate) fn wants_path(&self) -> bool {
        self.wants_path
    }

    /// The numbers of templates, which all cores of a server share.
    pub(crate) fn routes(&self) -> &RouteTable {
        &self.status.routes
    }

    /// A handler is about to be polled, of a route that may not be known yet.
    #[inline]
    pub(crate) fn begin_poll(&self, route: RouteNumber) {
        let status = self.core_status();
        status.polls.store(status.polls.load(Relaxed).wrapping_add(1), Relaxed);
        self.begin_poll_of(route);
    }

    /// The handler that is being polled is one of this route.
    #[inline]
    pub(crate) fn begin_poll_of(&self, route: RouteNumber) {
        self.core_status().polling.store(route.as_polling(), Relaxed);
    }

    /// No handler is being polled any more.
    #[inline]
    pub(crate) fn end_poll(&self) {
        self.core_status().polling.store(0, Relaxed);
    }

    /// What is being polled, as others see it.
    #[cfg(test)]
    pub(crate) fn polling(&self) -> Option<RouteNumber> {
        RouteNumber::from_polling(self.core_status().polling.load(Relaxed))
    }

    fn core_status(&self) -> &CoreStatus {
        &self.status.cores[self.core]
    }

    fn tell(&self, exchange: &Exchange<'_>) {
        if let Some(app) = &self.app {
            app.tell(exchange);
        }
        if let Some(log) = &self.access_log {
            log.note(exchange);
        }
    }
}
