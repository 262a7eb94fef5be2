//! What one core counts of its exchanges and turns.
//!
//! Whoever tells of an exchange holds the core's own lock, which is free but for connections that end on other threads: so counters are
//! written with plain loads and stores. A scrape reads the same atomics without that lock, from the lists of series, which only grow;
//! their locks are taken when a series is new, and for a moment by a scrape. What is kept as a whole, the sketch of clients and the last
//! failures, has a lock that a core only tries: while somebody reads, which may take as long as the scheduler likes, a request is not
//! among them.
//!
//! The invariant: a core has at most `SERIES_MAX` series of requests, and those of the route `other`.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use http::StatusCode;

use super::clients::{Client, Clients, SAMPLED, Sampler};
use super::failures::{Failed, Failures};
use super::histogram::{Histogram, REQUEST_BOUNDS, STREAM_BOUNDS, TURN_BOUNDS};
use super::labels::{Labels, NumberHasher};
#[cfg(feature = "admin")]
use crate::narrow_buckets::Narrow;
use crate::observe::Exchange;
use crate::route_table::RouteNumber;
use crate::status::add;

/// Series of requests that a core tells apart; then they are those of the route `other`.
const SERIES_MAX: usize = 16_384;

/// The names of what the gate may refuse: all of them are there from the start.
pub(super) const DENIALS: [&str; 5] = [
    "rate-limited",
    "memory-pressure",
    "temporary-reduced-capacity",
    "too-many-connections",
    "too-many-connections-per-client",
];

/// The requests with the same labels.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) labels: Labels,
    pub(super) count: AtomicU64,
    /// Of those that are no streams.
    pub(super) durations: Histogram<14>,
}

impl Series {
    #[inline]
    fn count(&self, exchange: &Exchange<'_>, duration: Duration) {
        add(&self.count, 1);
        if !exchange.is_stream {
            self.durations.observe(duration);
        }
    }
}

/// The streams of a route.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) route: RouteNumber,
    pub(super) durations: Histogram<8>,
}

/// What a core counts.
// Aligned so that no two cores write to one cache line (two, as processors fetch them in pairs).
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Core {
    own: Mutex<Own>,
    kept: Mutex<Kept>,
    series: Mutex<Vec<Arc<Series>>>,
    streams: Mutex<Vec<Arc<Stream>>>,
    pub(super) denied: [AtomicU64; DENIALS.len()],
    pub(super) received_bytes: AtomicU64,
    pub(super) sent_bytes: AtomicU64,
    pub(super) lags: Histogram<10>,
    pub(super) turns: Histogram<10>,
    /// The same durations of requests, for percentiles.
    #[cfg(feature = "admin")]
    pub(super) narrow_durations: Narrow,
    /// The same lags.
    #[cfg(feature = "admin")]
    pub(super) narrow_lags: Narrow,
}

/// How whoever tells finds what to count.
#[derive(Debug, Default)]
struct Own {
    series: HashMap<u32, Arc<Series>, BuildHasherDefault<NumberHasher>>,
    streams: HashMap<RouteNumber, Arc<Stream>, BuildHasherDefault<NumberHasher>>,
    sampler: Sampler,
}

/// What others read as a whole.
#[derive(Debug, Default)]
struct Kept {
    clients: Clients,
    failures: Failures,
}

impl Core {
    pub(super) fn new() -> Self {
        Self {
            own: Mutex::default(),
            kept: Mutex::default(),
            series: Mutex::default(),
            streams: Mutex::default(),
            denied: [const { AtomicU64::new(0) }; DENIALS.len()],
            received_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            lags: Histogram::new(&TURN_BOUNDS),
            turns: Histogram::new(&TURN_BOUNDS),
            #[cfg(feature = "admin")]
            narrow_durations: Narrow::default(),
            #[cfg(feature = "admin")]
            narrow_lags: Narrow::default(),
        }
    }

    /// Counts an exchange that has ended. After the first of its kind this allocates nothing.
    pub(crate) fn tell(&self, exchange: &Exchange<'_>) {
        let mut own = lock(&self.own);
        add(&self.received_bytes, exchange.bytes_in);
        add(&self.sent_bytes, exchange.bytes_out);
        let duration = exchange.lasted;
        let labels = Labels::of(exchange);
        match own.series.get(&labels.key()) {
            Some(series) => series.count(exchange, duration),
            None => self.begin_series(&mut own, labels).count(exchange, duration),
        }
        #[cfg(feature = "admin")]
        if !exchange.is_stream {
            self.narrow_durations.count(duration);
        }
        // What has switched protocols goes on when its exchange has ended.
        if exchange.is_stream && exchange.status != Some(StatusCode::SWITCHING_PROTOCOLS) {
            self.stream(&mut own, exchange.route_number).durations.observe(duration);
        }
        let denial = exchange.denied.and_then(|name| DENIALS.iter().position(|denial| *denial == name));
        if let Some(place) = denial {
            add(&self.denied[place], 1);
        }
        let is_sampled = own.sampler.is_due();
        if is_sampled || denial.is_some() || Failures::is_one(exchange) {
            self.keep(exchange, duration, is_sampled, denial.is_some());
        }
    }

    fn keep(&self, exchange: &Exchange<'_>, duration: Duration, is_sampled: bool, is_refused: bool) {
        let mut kept = match self.kept.try_lock() {
            Ok(kept) => kept,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let requests = if is_sampled { SAMPLED } else { 0 };
        kept.clients.note(exchange.client.ip(), requests, is_refused);
        kept.failures.note(exchange, duration);
    }

    /// Counts a connection that had switched protocols and has ended.
    pub(crate) fn tell_upgrade(&self, route: RouteNumber, lasted: Duration) {
        let mut own = lock(&self.own);
        self.stream(&mut own, route).durations.observe(lasted);
    }

    /// Counts a turn of the core's loop, which only its own thread may.
    pub(crate) fn tell_turn(&self, lag: Duration, length: Duration) {
        self.lags.observe(lag);
        #[cfg(feature = "admin")]
        self.narrow_lags.count(lag);
        self.turns.observe(length);
    }

    #[cold]
    fn begin_series(&self, own: &mut Own, labels: Labels) -> Arc<Series> {
        let labels = match own.series.len() < SERIES_MAX {
            true => labels,
            false => labels.of_route(RouteNumber::OTHER),
        };
        let series = own.series.entry(labels.key()).or_insert_with(|| {
            let series = Series { labels, count: AtomicU64::new(0), durations: Histogram::new(&REQUEST_BOUNDS) };
            let series = Arc::new(series);
            lock(&self.series).push(Arc::clone(&series));
            series
        });
        Arc::clone(series)
    }

    fn stream<'a>(&self, own: &'a mut Own, route: RouteNumber) -> &'a Arc<Stream> {
        own.streams.entry(route).or_insert_with(|| {
            let stream = Arc::new(Stream { route, durations: Histogram::new(&STREAM_BOUNDS) });
            lock(&self.streams).push(Arc::clone(&stream));
            stream
        })
    }

    /// The series so far.
    pub(super) fn series(&self) -> Vec<Arc<Series>> {
        lock(&self.series).clone()
    }

    /// The series of streams so far.
    pub(super) fn streams(&self) -> Vec<Arc<Stream>> {
        lock(&self.streams).clone()
    }

    /// Adds up which clients were seen.
    pub(super) fn add_clients(&self, all: &mut HashMap<IpAddr, Client>) {
        lock(&self.kept).clients.add_to(all);
    }

    /// The last failures.
    pub(super) fn failures(&self) -> Vec<Failed> {
        lock(&self.kept).failures.kept().cloned().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while one of these locks is held but where memory ends, and what they guard is valid at every moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_reads_what_is_kept_holds_no_request_up() {
        let core = Core::new();
        let failed = Exchange::answered(StatusCode::INTERNAL_SERVER_ERROR);
        let reading = lock(&core.kept);
        (0..100).for_each(|_| core.tell(&failed));
        drop(reading);
        assert_eq!(core.series()[0].count.load(std::sync::atomic::Ordering::Relaxed), 100);
        assert!(core.failures().is_empty());
        core.tell(&failed);
        assert_eq!(core.failures().len(), 1);
    }
}
