//! What a core knows of its transports, wherever they are.
//!
//! A transport may live and die on any thread. So what is counted here is counted with atomic additions, and what the core's
//! stop must reach is in a list behind a lock of this core, which is taken when a connection is handed over and when it ends.
//!
//! How a stop ends them is in `record/drain.rs`, and their age in `record/age.rs`.
//!
//! The invariant: a connection is counted out once, after its socket was closed, with one reason; and a core that waits for
//! the last one is woken by it.

mod age;
mod drain;

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Waker;
use std::time::Duration;

use baiwan_driver::Peer;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use self::age::Age;
use super::exchanges::Exchanges;
use crate::ending::Event;
use crate::fd_tables::Table;
use crate::gate::{self, Entry};
use crate::rate_limit::{Decisions, RATE_LIMITED};
use crate::recorder::Recorder;
use crate::route_limits::RouteLimits;
use crate::settings::{Linger, Settings};
use crate::status::{CloseReason, Phase, Status, TransportCounts};

/// Records kept without looking for those whose connection is gone.
const RECORDS_MIN: usize = 64;
/// No reason is recorded.
const NONE: u8 = u8::MAX;
/// It has not happened.
const NEVER: u64 = u64::MAX;

/// The transports of one core.
#[derive(Debug)]
pub(crate) struct Transports {
    status: Arc<Status>,
    index: usize,
    /// In milliseconds; [`NEVER`] is none.
    write_timeout_ms: AtomicU64,
    shutdown_idle: Duration,
    /// Who is told of exchanges, if anybody wants to know.
    recorder: Option<Arc<Recorder>>,
    /// For the whole stop, from its first end of a connection on.
    stop_time: Duration,
    /// The stop begins.
    ending: Event,
    /// Its timers serve transports that were moved to another thread, whatever runs there.
    runtime: Handle,
    /// What their descriptors are in.
    table: Table,
    started: Instant,
    records: Mutex<Vec<Weak<Record>>>,
    /// The server stops.
    draining: AtomicBool,
    /// A task ends silent connections.
    drained: AtomicBool,
    drainer: Mutex<Option<AbortHandle>>,
    /// Those that the gate did not take, and that are not closed yet.
    beyond: AtomicUsize,
    /// The core has ended; its runtime takes along what is open.
    cut: AtomicBool,
}

impl Transports {
    /// Those of the `index`-th core. Call it within that core's runtime, on its thread.
    pub(crate) fn new(
        settings: &Settings,
        status: Arc<Status>,
        index: usize,
        recorder: Option<Arc<Recorder>>,
    ) -> Arc<Self> {
        let transports = Arc::new(Self {
            status,
            index,
            write_timeout_ms: AtomicU64::new(NEVER),
            shutdown_idle: settings.shutdown_idle,
            recorder,
            stop_time: settings.shutdown_timeout.saturating_sub(settings.shutdown_delay),
            ending: Event::of_core(),
            runtime: Handle::current(),
            table: Table::here(),
            started: Instant::now(),
            records: Mutex::default(),
            draining: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            drainer: Mutex::default(),
            beyond: AtomicUsize::new(0),
            cut: AtomicBool::new(false),
        });
        transports.follow(settings);
        transports
    }

    /// The settings in force are these from now on.
    pub(crate) fn follow(&self, settings: &Settings) {
        let whole = |timeout: Duration| u64::try_from(timeout.as_millis()).unwrap_or(NEVER);
        self.write_timeout_ms.store(settings.write_timeout.map_or(NEVER, whole), Relaxed);
    }

    /// Takes over the connection of `peer` that the gate has counted in as `entry`, until what is returned is dropped. Its age is reached
    /// when it `ends`, if it has one.
    pub(super) fn take_over(self: &Arc<Self>, entry: Entry, peer: Peer, ends: Option<Instant>) -> Counted {
        self.counts().open.fetch_add(1, Relaxed);
        if !is_taken(entry) {
            self.beyond.fetch_add(1, Relaxed);
        }
        let record = Arc::new(Record {
            transports: Arc::clone(self),
            entry,
            age: Age::new(ends),
            active_ms: AtomicU64::new(self.now_ms()),
            received: AtomicBool::new(false),
            ending: OnceLock::new(),
            told_ms: AtomicU64::new(NEVER),
            reason: AtomicU8::new(NONE),
            switched: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            uploads: AtomicBool::new(false),
            too_large: AtomicBool::new(false),
            route: Mutex::default(),
            reader: Mutex::default(),
            exchanges: self.recorder.clone().map(|recorder| Exchanges::new(recorder, peer.socket_address())),
        });
        let mut records = self.records();
        if records.len() == records.capacity() {
            records.retain(|record| record.strong_count() > 0);
            // Room for as many again, so that the next look is far away.
            let count = records.len();
            records.reserve(count.max(RECORDS_MIN));
        }
        records.push(Arc::downgrade(&record));
        drop(records);
        record.watch_age();
        if self.draining.load(Relaxed) {
            record.tell();
        }
        self.end_silent_ones();
        Counted(record)
    }

    /// How many are open that the gate did not take.
    pub(super) fn beyond(&self) -> usize {
        self.beyond.load(Relaxed)
    }

    /// Whether no transport is open.
    pub(crate) fn all_closed(&self) -> bool {
        // Pairs with the fence in `Counted`: either the count is seen here, or the phase is seen there and wakes this core.
        fence(SeqCst);
        self.counts().open.load(Acquire) == 0
    }

    /// The server stops: whoever waits for that is told, and connections that have switched end when they are silent after it.
    pub(crate) fn begin_drain(self: &Arc<Self>) {
        self.draining.store(true, Relaxed);
        self.ending.fire();
        self.end_silent_ones();
    }

    /// The core ends, and everything that is open with it.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Relaxed);
        if let Some(drainer) = self.drainer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            drainer.abort();
        }
    }

    fn counts(&self) -> &TransportCounts {
        &self.status.cores[self.index].transports
    }

    fn records(&self) -> MutexGuard<'_, Vec<Weak<Record>>> {
        // Nothing panics while the lock is held, and the list is valid at every moment.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Keeps the list as short as it was after a peak; whoever closes pays for it, a step for each record and close.
    fn shrink(&self, open: u64) {
        let mut records = self.records();
        if records.len() > RECORDS_MIN && records.len() as u64 > 2 * open {
            records.retain(|record| record.strong_count() > 0);
            records.shrink_to(RECORDS_MIN);
        }
    }

    /// Has a task end silent connections for as long as there are some, once the server stops.
    fn end_silent_ones(self: &Arc<Self>) {
        if self.draining.load(Relaxed) && !self.records().is_empty() && !self.drained.swap(true, Relaxed) {
            let drainer = tokio::task::spawn_local(Arc::clone(self).drain());
            *self.drainer.lock().unwrap_or_else(PoisonError::into_inner) = Some(drainer.abort_handle());
        }
    }
}

/// What is known of a transport, wherever it is.
#[derive(Debug)]
pub(crate) struct Record {
    transports: Arc<Transports>,
    /// What the gate counted it in as.
    entry: Entry,
    age: Age,
    /// When bytes were last received or sent, in milliseconds since the core's start.
    active_ms: AtomicU64,
    /// Bytes were received.
    received: AtomicBool,
    /// What the app may wait for; made when it is asked for.
    ending: OnceLock<Event>,
    /// When it was told of the stop, in milliseconds since the core's start.
    told_ms: AtomicU64,
    /// The number of the reason why it ends; the first that is noted stays.
    reason: AtomicU8,
    /// The app has answered 101.
    switched: AtomicBool,
    /// Its reader sees the end of the stream, whatever comes.
    ended: AtomicBool,
    /// A request had a body: its sender may be in the middle of it when the connection ends.
    uploads: AtomicBool,
    /// The body of a request is beyond the limit of its route.
    too_large: AtomicBool,
    /// What the route of the request says whose body comes.
    route: Mutex<RouteLimits>,
    reader: Mutex<Option<Waker>>,
    /// The records of its exchanges, if somebody wants them.
    exchanges: Option<Arc<Exchanges>>,
}

impl Record {
    /// Notes why the connection ends, unless something else came first.
    pub(crate) fn note(&self, reason: CloseReason) {
        // What fails while everything is cut fails because of that.
        let reason = if self.is_cut() { CloseReason::DrainTimeout } else { reason };
        let _ = self.reason.compare_exchange(NONE, reason as u8, Relaxed, Relaxed);
    }

    /// The records of its exchanges, if somebody wants them.
    pub(super) fn exchanges(&self) -> Option<&Arc<Exchanges>> {
        self.exchanges.as_ref()
    }

    /// The app answers 101: what follows is not HTTP.
    pub(crate) fn switch(&self) {
        if !self.switched.swap(true, Relaxed) {
            self.transports.counts().upgraded.fetch_add(1, Relaxed);
        }
    }

    /// Whether the app has answered 101.
    pub(crate) fn has_switched(&self) -> bool {
        self.switched.load(Relaxed)
    }

    /// Whether it is beyond the maximum, and may only ask for the server's health.
    pub(super) fn is_probe(&self) -> bool {
        self.entry == Entry::Probe
    }

    /// Why the body of its request was given up, if it was.
    pub(super) fn late_body(&self) -> Option<CloseReason> {
        [CloseReason::BodyTimeout, CloseReason::BodyTooSlow].into_iter().find(|reason| self.ends_by(&[*reason]))
    }

    /// A request has a body.
    pub(crate) fn begin_upload(&self) {
        self.uploads.store(true, Relaxed);
        *self.route() = RouteLimits::default();
    }

    /// Layers of the request's route were reached.
    pub(super) fn obey_route(&self, limits: &RouteLimits) {
        self.route().add(limits);
    }

    /// Counts and records what rate limits among the layers have decided. Only for the thread of the core, which polls the app.
    pub(super) fn note_decisions(&self, decisions: Decisions) {
        self.transports.status.cores[self.transports.index].count_decisions(decisions);
        if let Some(exchanges) = self.exchanges().filter(|_| decisions.refuse()) {
            exchanges.handle_denied(RATE_LIMITED);
        }
    }

    /// What the route of the request says whose body comes.
    pub(super) fn route(&self) -> MutexGuard<'_, RouteLimits> {
        // Nothing panics while the lock is held, and the limits are valid at every moment.
        self.route.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body of its request is beyond the limit of its route.
    pub(super) fn refuse_body(&self) {
        self.too_large.store(true, Relaxed);
        self.note(CloseReason::Refused);
    }

    /// Whether the body of its request was refused.
    pub(super) fn has_refused_body(&self) -> bool {
        self.too_large.load(Relaxed)
    }

    /// How much is received from the peer after the last answer.
    pub(super) fn linger(&self) -> Linger {
        let is_read = self.has_refused_body() || !self.ends_by(&[CloseReason::Refused]);
        match self.uploads.load(Relaxed) && is_read {
            true => Linger::UPLOAD,
            false => Linger::SHORT,
        }
    }

    /// Records that bytes were received.
    pub(super) fn handle_received(&self) {
        self.received.store(true, Relaxed);
        self.touch();
    }

    /// Whether bytes were ever received.
    pub(super) fn has_received(&self) -> bool {
        self.received.load(Relaxed)
    }

    /// Records that bytes were received or sent.
    pub(super) fn touch(&self) {
        self.active_ms.store(self.transports.now_ms(), Relaxed);
    }

    /// Whether its reader sees the end of the stream.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Acquire)
    }

    /// Has the reader woken when the stop ends the stream. Returns whether that has happened already.
    pub(super) fn wait_for_end(&self, waker: &Waker) -> bool {
        let mut reader = self.reader();
        match &mut *reader {
            Some(current) => current.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        drop(reader);
        // It may have come before the waker was there.
        self.has_ended()
    }

    /// Whether the core has ended, and everything ends with it.
    pub(super) fn is_cut(&self) -> bool {
        self.transports.cut.load(Relaxed)
    }

    /// The transport is dropped. Returns whether what the peer did not take yet should be dropped too, as the engine does it.
    pub(super) fn handle_drop(&self) -> bool {
        if std::thread::panicking() {
            // Whoever held it, the app or hyper with the app's body in its hands, unwinds.
            self.note(CloseReason::HandlerFailed);
        }
        let cut_off = |reason: u8| reason == NONE || reason == CloseReason::Drained as u8;
        if self.is_cut() && cut_off(self.reason.load(Relaxed)) {
            self.reason.store(CloseReason::DrainTimeout as u8, Relaxed);
        }
        self.ends_by(&[
            CloseReason::WriteTimeout,
            CloseReason::HandlerFailed,
            CloseReason::DrainTimeout,
            CloseReason::AgeTimeout,
        ])
    }

    /// Whether nobody is there any more to read what is sent.
    pub(super) fn is_peer_gone(&self) -> bool {
        self.ends_by(&[CloseReason::PeerClosed, CloseReason::Reset, CloseReason::WriteTimeout])
    }

    fn ends_by(&self, reasons: &[CloseReason]) -> bool {
        let noted = self.reason.load(Relaxed);
        reasons.iter().any(|reason| *reason as u8 == noted)
    }

    pub(super) fn write_timeout(&self) -> Option<Duration> {
        let timeout_ms = self.transports.write_timeout_ms.load(Relaxed);
        (timeout_ms != NEVER).then(|| Duration::from_millis(timeout_ms))
    }

    /// Whose timers serve it.
    pub(super) fn runtime(&self) -> &Handle {
        &self.transports.runtime
    }

    /// What its descriptor is in.
    pub(super) fn table(&self) -> Table {
        self.transports.table
    }

    fn reader(&self) -> MutexGuard<'_, Option<Waker>> {
        // Nothing panics while the lock is held.
        self.reader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens when its app should end it.
    pub(super) fn ending(&self) -> Event {
        let ending = self.ending.get_or_init(Event::default);
        // It may have been told before there was somebody to hear it.
        if self.was_told() {
            ending.fire();
        }
        ending.clone()
    }

    /// Has the app end it.
    fn tell(&self) {
        self.told_ms.store(self.transports.now_ms(), SeqCst);
        if let Some(ending) = self.ending.get() {
            ending.fire();
        }
    }

    fn was_told(&self) -> bool {
        self.told_ms.load(SeqCst) != NEVER
    }

    /// When it will have been silent for long enough since it was told, in milliseconds since the core's start. A request that is
    /// not answered yet is not silence.
    fn silent_at_ms(&self) -> u64 {
        let since_ms = match self.has_switched() {
            true => self.active_ms.load(Relaxed).max(self.told_ms.load(SeqCst)),
            false => self.transports.now_ms(),
        };
        since_ms + self.transports.shutdown_idle.as_millis() as u64
    }

    /// Ends the stream that its reader sees.
    fn end(&self, reason: CloseReason) {
        self.note(reason);
        self.ended.store(true, Release);
        let waker = self.reader().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

fn is_taken(entry: Entry) -> bool {
    matches!(entry, Entry::Taken(_))
}

/// Counts a connection out when it is dropped.
#[derive(Debug)]
pub(super) struct Counted(Arc<Record>);

impl Counted {
    pub(super) fn record(&self) -> &Arc<Record> {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let transports = &self.0.transports;
        let (status, counts) = (&transports.status, transports.counts());
        let reason = self.0.reason.load(Relaxed);
        // Nothing else has ended it, so it was ended here: by an answer that was the last, or by the app.
        let reason = match reason {
            NONE if self.0.is_old() => CloseReason::Age,
            NONE => CloseReason::Complete,
            noted => CloseReason::ALL[usize::from(noted)],
        };
        self.0.forget_age();
        if let Some(exchanges) = self.0.exchanges() {
            exchanges.end(reason);
        }
        counts.closed(reason).fetch_add(1, Relaxed);
        if self.0.has_switched() {
            counts.upgraded.fetch_sub(1, Relaxed);
        }
        gate::leave(status, transports.index, self.0.entry);
        if !is_taken(self.0.entry) {
            transports.beyond.fetch_sub(1, Relaxed);
        }
        let open = counts.open.fetch_sub(1, Release) - 1;
        transports.shrink(open);
        fence(SeqCst);
        if status.phase() >= Phase::Draining {
            status.cores[transports.index].inbox.wake();
        }
    }
}
