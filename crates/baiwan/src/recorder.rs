//! Who is told of the exchanges of a core, and how their records come about.
//!
//! A core has a [`Recorder`] if anybody wants records: the program's observer, metrics, logs. A [`Draft`] goes along with an exchange
//! then, and becomes an [`Exchange`] when that ends, of which the recorder tells everybody at once. Where nobody wants records, there is
//! none of this: no allocation, no look at the clock, one branch.
//!
//! It is *not* a decision about the exchange. The invariant: a draft that was begun is finished exactly once.

mod draft;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

pub(crate) use self::draft::{Draft, now};
use crate::access_log;
#[cfg(feature = "metrics")]
use crate::metrics;
use crate::observe::{Exchange, Observer};
use crate::route_table::{RouteNumber, RouteTable};
use crate::status::{CoreStatus, Status};

/// Who wants to be told of the exchanges of a core.
#[derive(Debug, Default)]
pub(crate) struct Audience {
    /// The program's observer.
    pub(crate) app: Option<Observer>,
    #[cfg(feature = "metrics")]
    pub(crate) metrics: Option<Arc<metrics::Core>>,
    /// What notes exchanges for the access log.
    pub(crate) access_log: Option<access_log::Producer>,
}

impl Audience {
    fn is_empty(&self) -> bool {
        #[cfg(feature = "metrics")]
        if self.metrics.is_some() {
            return false;
        }
        self.app.is_none() && self.access_log.is_none()
    }
}

/// Says that nothing is polled any more, in a panic, too.
struct EndPoll<'a>(&'a Recorder);

impl Drop for EndPoll<'_> {
    fn drop(&mut self) {
        self.0.end_poll();
    }
}

/// Whoever is told of the exchanges of one core, all behind one branch. Connections that hyper or the app holds may tell from other
/// threads.
#[derive(Debug)]
pub(crate) struct Recorder {
    status: Arc<Status>,
    core: usize,
    audience: Audience,
    /// So much of a path is wanted, at the most: [`path_bytes_max`](Self::path_bytes_max).
    path_bytes_max: usize,
}

impl Recorder {
    /// That of the `core`-th core; none where nobody wants records.
    pub(crate) fn of_core(audience: Audience, status: &Arc<Status>, core: usize) -> Option<Arc<Self>> {
        if audience.is_empty() {
            return None;
        }
        let path_bytes_max = match (&audience.app, &audience.access_log) {
            (Some(_), _) => usize::MAX,
            (None, Some(_)) => access_log::PATH_BYTES_MAX,
            (None, None) => 0,
        };
        Some(Arc::new(Self { status: Arc::clone(status), core, path_bytes_max, audience }))
    }

    /// One that tells an observer alone, and posts to no server.
    #[cfg(test)]
    pub(crate) fn of_observer(observer: Observer) -> Arc<Self> {
        Self::of_core(Audience { app: Some(observer), ..Audience::default() }, &Status::new(1, 1, 1), 0)
            .expect("somebody observes")
    }

    /// How many bytes of the path of their request records can say; 0 if nobody wants to know.
    pub(crate) fn path_bytes_max(&self) -> usize {
        self.path_bytes_max
    }

    /// The numbers of templates, which all cores of a server share.
    pub(crate) fn routes(&self) -> &RouteTable {
        &self.status.routes
    }

    /// A handler is about to be polled, of a route that may not be known yet, or turns out to be one of this route.
    #[inline]
    pub(crate) fn begin_poll(&self, route: RouteNumber) {
        self.core_status().polling.store(route.as_polling(), Relaxed);
    }

    /// No handler is being polled any more.
    #[inline]
    pub(crate) fn end_poll(&self) {
        let status = self.core_status();
        status.polls.store(status.polls.load(Relaxed).wrapping_add(1), Relaxed);
        status.polling.store(0, Relaxed);
    }

    /// Polls the body of an answer of this route, which others see as they see the handler.
    #[inline]
    pub(crate) fn posted<T>(recorder: Option<&Arc<Self>>, route: RouteNumber, poll: impl FnOnce() -> T) -> T {
        let Some(recorder) = recorder else { return poll() };
        recorder.begin_poll(route);
        let _end = EndPoll(recorder);
        poll()
    }

    /// The same, and counts it if that takes too long.
    pub(crate) fn posted_and_timed<T>(recorder: Option<&Arc<Self>>, route: RouteNumber, poll: impl FnOnce() -> T) -> T {
        Self::timed(recorder, &Cell::new(route), || Self::posted(recorder, route, poll))
    }

    /// What is being polled, as others see it.
    #[cfg(test)]
    pub(crate) fn polling(&self) -> Option<RouteNumber> {
        RouteNumber::from_polling(self.core_status().polling.load(Relaxed))
    }

    /// Polls something of the app's, and counts it if that takes too long.
    pub(crate) fn timed<T>(recorder: Option<&Arc<Self>>, route: &Cell<RouteNumber>, poll: impl FnOnce() -> T) -> T {
        let Some(recorder) = recorder.filter(|recorder| recorder.status.bounds.slow_poll().is_some()) else {
            return poll();
        };
        let begun = now();
        let polled = poll();
        recorder.handle_polled(route.get(), begun, now());
        polled
    }

    /// Something of the app's was polled. It began no earlier than `begun`, and has ended at the time `ended`.
    #[inline]
    pub(crate) fn handle_polled(&self, route: RouteNumber, begun: Instant, ended: Instant) {
        if self.status.bounds.slow_poll().is_some_and(|max| ended.saturating_duration_since(begun) > max) {
            self.status.slow_polls.add(route);
        }
    }

    /// Whether somebody counts the turns of the core's loop.
    pub(crate) fn counts_turns(&self) -> bool {
        #[cfg(feature = "metrics")]
        return self.audience.metrics.is_some();
        #[cfg(not(feature = "metrics"))]
        false
    }

    /// Tells of a turn of the core's loop.
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "only metrics count turns"))]
    pub(crate) fn tell_turn(&self, lag: Duration, length: Duration) {
        #[cfg(feature = "metrics")]
        if let Some(metrics) = &self.audience.metrics {
            metrics.tell_turn(lag, length);
        }
    }

    /// Tells of a connection that had switched protocols, of a route, and has ended.
    #[cfg_attr(not(feature = "metrics"), expect(unused_variables, reason = "only metrics count these"))]
    pub(crate) fn tell_upgrade(&self, route: RouteNumber, lasted: Duration) {
        #[cfg(feature = "metrics")]
        if let Some(metrics) = &self.audience.metrics {
            metrics.tell_upgrade(route, lasted);
        }
    }

    /// A connection in hyper's hands has a request that is not answered yet.
    pub(crate) fn begin_handling(&self) {
        self.core_status().transports.handling.fetch_add(1, Relaxed);
    }

    /// It was answered, or will not be.
    pub(crate) fn end_handling(&self) {
        self.core_status().transports.handling.fetch_sub(1, Relaxed);
    }

    fn core_status(&self) -> &CoreStatus {
        &self.status.cores[self.core]
    }

    fn tell(&self, exchange: &Exchange<'_>) {
        #[cfg(feature = "metrics")]
        if let Some(metrics) = &self.audience.metrics {
            metrics.tell(exchange);
        }
        if let Some(app) = &self.audience.app {
            app.tell(exchange);
        }
        if let Some(log) = &self.audience.access_log {
            log.note(exchange);
        }
    }
}
