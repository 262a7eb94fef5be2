//! What the cores tell the rest of the process, and what they are told: atomics, and nothing else.
//!
//! Each core writes its own counters, on cache lines of its own; they are added up when somebody asks. Only those of
//! connections that hyper or the app holds are written by other threads too. Cores share one number, that of all connections,
//! because its maximum is for the process. Where each core has an fd table of its own, each has a maximum, too.
//!
//! | file | part |
//! |---|---|
//! | `phase` | how far the server is on its way from start to stop |
//! | `by_route` | counts by route, of what happens seldom |
//! | `close_reason` | why connections end |
//! | `connection_state` | what connections wait for |
//! | `counts` | the counters, and their sums |
//! | `health` | what anybody may ask |
//! | `succession` | that another process has taken over, and that none may any more |
//!
//! Nothing is decided here but whether one more connection fits: who is let in is the gate's business.
//!
//! The invariant: a connection is counted in once and out once, and never are there more than the maximum.

mod access_log_counts;
mod by_route;
mod close_reason;
mod connection_state;
mod counts;
mod health;
mod phase;
mod succession;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use baiwan_http1::Refusal;
use baiwan_limits::{MemoryLevel, MemoryPressure};
use tokio::time::Instant;

use crate::files::PROBES_MAX;
use crate::hints::Hints;
use crate::inbox::Inbox;
use crate::per_client::ClientCounts;
use crate::route_table::RouteTable;
use crate::socket_files::SocketFiles;

use self::counts::Tally;

pub(crate) use self::access_log_counts::AccessLogCounts;
pub(crate) use self::by_route::ByRoute;
pub use self::close_reason::CloseReason;
pub(crate) use self::connection_state::ConnectionState;
pub use self::counts::Counts;
pub(crate) use self::counts::{TransportCounts, add};
pub use self::health::Health;
pub use self::phase::Phase;
pub(crate) use self::succession::Succession;

/// How long a core may not turn, unless a program or setting says otherwise: a restart ends every connection.
pub(crate) const LIVE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bits of [`CoreStatus::progress_seen`] that are a count; those above are milliseconds.
const PROGRESS_BITS: u32 = 24;
/// A server that was full has room again when fewer of its connections than this are taken.
const ROOM_PERCENT: u128 = 95;

#[derive(Debug)]
pub(crate) struct Status {
    phase: AtomicU8,
    connections: AtomicU64,
    pub(crate) connections_max: u64,
    /// Somebody was turned away, and there is not much room yet.
    full: AtomicBool,
    /// Connections beyond the maximum that may ask for the server's health.
    probes: AtomicU64,
    /// Of one core: what its fd table has room for, if that is its own.
    core_connections_max: u64,
    pub(crate) bounds: Bounds,
    /// How short memory is; who watches it writes it.
    memory: AtomicU16,
    /// Times that it became another level.
    memory_steps: AtomicU64,
    pub(crate) cores: Box<[CoreStatus]>,
    pub(crate) hints: Hints,
    /// The templates of routes, where records are made.
    pub(crate) routes: RouteTable,
    started: Instant,
    /// Cores that the watchdog has named and that have not turned since.
    stuck_cores: AtomicU64,
    /// Times that the watchdog has named a core, by the route that held it.
    #[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "only where there are metrics somebody watches"))]
    pub(crate) stuck: ByRoute,
    /// Polls of a handler that took longer than `Bounds::slow_poll`.
    pub(crate) slow_polls: ByRoute,
    /// What the access log counts, if there is one.
    pub(crate) access_log: OnceLock<Arc<AccessLogCounts>>,
    /// When the cores were told to end their connections.
    draining_since: OnceLock<Instant>,
    pub(crate) succession: Succession,
    /// Of the Unix sockets that were bound.
    pub(crate) socket_files: SocketFiles,
}

/// What a client holds of the connections, and what bounds each turn of a core.
#[derive(Debug)]
pub(crate) struct Bounds {
    /// Of the connections that are limited.
    pub(crate) clients: ClientCounts,
    live_timeout_ms: AtomicU64,
    /// 0 where nobody counts.
    slow_poll_ns: AtomicU64,
}

impl Bounds {
    pub(crate) fn new(clients: ClientCounts, live_timeout: Duration, slow_poll: Option<Duration>) -> Self {
        let bounds = Self { clients, live_timeout_ms: AtomicU64::new(0), slow_poll_ns: AtomicU64::new(0) };
        bounds.change(live_timeout, slow_poll);
        bounds
    }

    /// Sets how long a core may not turn until the server counts as dead, and which polls of a handler are long enough to be counted.
    pub(crate) fn change(&self, live_timeout: Duration, slow_poll: Option<Duration>) {
        let whole = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
        self.live_timeout_ms.store(whole(live_timeout.as_millis()), Relaxed);
        // Longer than nothing takes is anything.
        let slow_poll_ns = slow_poll.map_or(0, |max| whole(max.as_nanos()).max(1));
        self.slow_poll_ns.store(slow_poll_ns, Relaxed);
    }

    /// How long a core may not turn until the server counts as dead, in milliseconds.
    fn live_timeout_ms(&self) -> u64 {
        self.live_timeout_ms.load(Relaxed)
    }

    /// A poll of a handler that takes longer is counted. None where nobody counts.
    #[inline]
    pub(crate) fn slow_poll(&self) -> Option<Duration> {
        let max = self.slow_poll_ns.load(Relaxed);
        (max > 0).then(|| Duration::from_nanos(max))
    }
}

#[cfg(test)]
impl Default for Bounds {
    fn default() -> Self {
        Self::new(ClientCounts::new(64), LIVE_TIMEOUT, None)
    }
}

/// One core's side; aligned so that no two cores write to one cache line (two, as processors fetch them in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct CoreStatus {
    pub(crate) inbox: Arc<Inbox>,
    /// Those of `Status::connections` that are here. Connections that the app holds may end on other threads.
    connections: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) exchanges: AtomicU64,
    /// Tasks that are the server's own, beside exchanges and connections.
    pub(crate) own_tasks: AtomicUsize,
    pub(crate) slots: AtomicU64,
    pub(crate) deadlines: AtomicU64,
    /// The connections of the loop by state, in the order of `ConnectionState::ALL`.
    pub(crate) states: [AtomicU64; ConnectionState::ALL.len()],
    pub(crate) handler_panics: AtomicU64,
    pub(crate) core_panics: AtomicU64,
    pub(crate) accept_failures: AtomicU64,
    pub(crate) overloads: AtomicU64,
    pub(crate) shed: AtomicU64,
    pub(crate) rate_limit_allowed: AtomicU64,
    pub(crate) rate_limited: AtomicU64,
    pub(crate) rate_limit_reported: AtomicU64,
    pub(crate) untrusted_proxy_fields: AtomicU64,
    /// The route of the handler that is being polled (`RouteNumber::as_polling`), 0 while none is. Only where records are made.
    pub(crate) polling: AtomicU32,
    /// How many polls have ended, so that two looks can tell one long poll from two. Only where records are made.
    pub(crate) polls: AtomicU32,
    /// With `connections`, the only counters here that other threads write too.
    pub(crate) transports: TransportCounts,
    closed: Tally<{ CloseReason::ALL.len() }>,
    refused: Tally<{ Refusal::ALL.len() }>,
    /// When somebody asked the core to take a turn, in milliseconds since the start, plus one; 0 when it has since.
    turn_asked_ms: AtomicU64,
    /// How far the core had come at the last look, in `PROGRESS_BITS`, and above those when a look saw that first: whoever looks writes it.
    progress_seen: AtomicU64,
    /// The core's thread sleeps until something happens, so nothing blocks it. Written only where somebody watches.
    asleep: AtomicBool,
    /// The watchdog has named it, and it has neither turned nor ended a poll since. Written twice a second, by the watchdog.
    #[cfg(feature = "metrics")]
    pub(crate) is_blocked: AtomicBool,
}

impl Status {
    /// With the settings' defaults.
    #[cfg(test)]
    pub(crate) fn new(cores: usize, connections_max: u64, core_connections_max: u64) -> Arc<Self> {
        Self::with(Bounds::default(), cores, connections_max, core_connections_max)
    }

    /// `core_connections_max` is for each core, `connections_max` for all together.
    pub(crate) fn with(bounds: Bounds, cores: usize, connections_max: u64, core_connections_max: u64) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            phase: AtomicU8::new(Phase::Starting as u8),
            connections: AtomicU64::new(0),
            connections_max,
            full: AtomicBool::new(false),
            probes: AtomicU64::new(0),
            core_connections_max,
            memory: AtomicU16::new(MemoryPressure::default().to_bits()),
            memory_steps: AtomicU64::new(0),
            cores: (0..cores).map(|_| CoreStatus::default()).collect(),
            hints: Hints::default(),
            routes: RouteTable::default(),
            started: Instant::now(),
            stuck_cores: AtomicU64::new(0),
            stuck: ByRoute::default(),
            slow_polls: ByRoute::default(),
            access_log: OnceLock::new(),
            draining_since: OnceLock::new(),
            succession: Succession::default(),
            socket_files: SocketFiles::default(),
        })
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            2 => Phase::NotReady,
            3 => Phase::Draining,
            _ => Phase::Stopping,
        }
    }

    /// Milliseconds since the start, plus one.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    #[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "only metrics show it"))]
    /// Cores that a handler has blocked for 2 seconds or longer, as far as somebody watches.
    pub(crate) fn stuck_cores(&self) -> u64 {
        self.stuck_cores.load(Relaxed)
    }

    #[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "only where there are metrics somebody watches"))]
    pub(crate) fn set_stuck_cores(&self, count: u64) {
        self.stuck_cores.store(count, Relaxed);
    }

    /// Goes on to a later phase and tells every core. Never goes back.
    pub(crate) fn advance(&self, phase: Phase) {
        if phase == Phase::Draining {
            self.draining_since.get_or_init(Instant::now);
        }
        if phase >= Phase::Draining {
            self.socket_files.remove();
        }
        self.phase.fetch_max(phase as u8, Relaxed);
        self.wake_cores();
    }

    /// Has every core look at what has changed.
    pub(crate) fn wake_cores(&self) {
        for core in &self.cores {
            core.inbox.wake();
        }
    }

    /// Open connections by state, in the order of [`ConnectionState::ALL`].
    #[cfg(feature = "metrics")]
    pub(crate) fn connections_by_state(&self) -> [u64; ConnectionState::ALL.len()] {
        let mut sums = [0; ConnectionState::ALL.len()];
        for core in &self.cores {
            sums.iter_mut().zip(&core.states).for_each(|(sum, count)| *sum += count.load(Relaxed));
            let TransportCounts { open, upgraded, handling, .. } = &core.transports;
            let [open, upgraded, handling] = [open, upgraded, handling].map(|count| count.load(Relaxed));
            sums[ConnectionState::Upgraded as usize] += upgraded;
            sums[ConnectionState::Handling as usize] += handling;
            // What hyper has and nobody asks anything of. The three are not taken at one instant.
            sums[ConnectionState::Idle as usize] += open.saturating_sub(upgraded + handling);
        }
        sums
    }

    /// Requests that the rate limit has counted and let through.
    #[cfg(feature = "metrics")]
    pub(crate) fn rate_limit_allowed(&self) -> u64 {
        self.cores.iter().map(|core| core.rate_limit_allowed.load(Relaxed)).sum()
    }

    /// How short memory is.
    pub(crate) fn memory_pressure(&self) -> MemoryPressure {
        MemoryPressure::from_bits(self.memory.load(Relaxed))
    }

    /// Times that it became another level.
    pub(crate) fn memory_steps(&self) -> u64 {
        self.memory_steps.load(Relaxed)
    }

    /// Tells every core how short memory is. Only one thread may.
    pub(crate) fn set_memory_pressure(&self, pressure: MemoryPressure) {
        let before = self.memory_pressure();
        if before == pressure {
            return;
        }
        self.memory.store(pressure.to_bits(), Relaxed);
        if before.level != pressure.level {
            self.memory_steps.fetch_add(1, Relaxed);
        }
        if before.level.max(pressure.level) > MemoryLevel::Enough {
            self.wake_cores();
        }
    }

    /// When the orderly stop that goes on began to end connections.
    pub(crate) fn draining_since(&self) -> Option<Instant> {
        (self.phase() == Phase::Draining).then(|| *self.draining_since.get_or_init(Instant::now))
    }

    /// The number of open connections.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    /// Counts a connection of a core in; `false`, and not counted, if that would be one too many, there or in all.
    pub(crate) fn try_open(&self, core: usize) -> bool {
        let here = &self.cores[core].connections;
        if here.fetch_add(1, Relaxed) < self.core_connections_max {
            if self.connections.fetch_add(1, Relaxed) < self.connections_max {
                return true;
            }
            self.connections.fetch_sub(1, Relaxed);
        }
        here.fetch_sub(1, Relaxed);
        // A core may be full by itself; then the others have room.
        if self.connections.load(Relaxed) >= self.connections_max {
            self.full.store(true, Relaxed);
        }
        false
    }

    /// Whether one that could not be counted in may stay for a moment: up to `PROBES_MAX` of them. Ends with
    /// [`end_probe`](Self::end_probe).
    pub(crate) fn try_probe(&self) -> bool {
        let free = |probes: u64| (probes < PROBES_MAX).then_some(probes + 1);
        self.probes.fetch_update(Relaxed, Relaxed, free).is_ok()
    }

    pub(crate) fn end_probe(&self) {
        self.probes.fetch_sub(1, Relaxed);
    }

    /// Whether new connections find room. One that was full has room again only below `ROOM_PERCENT`, lest whoever asks sends
    /// everybody here and away by turns.
    fn has_room(&self) -> bool {
        let connections = self.connections.load(Relaxed);
        let much = u128::from(connections) * 100 < u128::from(self.connections_max) * ROOM_PERCENT;
        let full = connections >= self.connections_max || (self.full.load(Relaxed) && !much);
        self.full.store(full, Relaxed);
        !full
    }

    /// Counts a connection of a core out.
    pub(crate) fn closed(&self, core: usize) {
        self.cores[core].connections.fetch_sub(1, Relaxed);
        self.connections.fetch_sub(1, Relaxed);
    }
}

impl CoreStatus {
    pub(crate) fn count_close(&self, reason: CloseReason) {
        add(&self.closed.0[reason as usize], 1);
    }

    pub(crate) fn count_refusal(&self, refusal: Refusal) {
        add(&self.refused.0[refusal.index()], 1);
    }

    fn closed_by(&self, reason: CloseReason) -> u64 {
        self.closed.0[reason as usize].load(Relaxed) + self.transports.closed(reason).load(Relaxed)
    }

    /// Waits for a condition, on a core whose engine is gone or that has none; looks whenever the core is woken.
    pub(crate) async fn until(&self, condition: impl Fn() -> bool) {
        let mut forgotten = Vec::new();
        std::future::poll_fn(|cx| {
            loop {
                self.inbox.begin_turn();
                self.turned();
                self.inbox.take(&mut forgotten);
                forgotten.clear();
                if condition() {
                    return Poll::Ready(());
                }
                if self.inbox.end_turn(cx.waker()) {
                    return Poll::Pending;
                }
            }
        })
        .await;
    }

    /// Requests that were refused because they had waited too long.
    pub(crate) fn shed(&self) -> u64 {
        self.shed.load(Relaxed)
    }

    /// When it was asked to take a turn that it has not taken yet, as [`Status::now_ms`] was.
    pub(crate) fn turn_asked_ms(&self) -> Option<u64> {
        Some(self.turn_asked_ms.load(Relaxed)).filter(|asked_ms| *asked_ms != 0)
    }

    /// Asks for a turn, if nobody has.
    pub(crate) fn ask_for_turn(&self, now_ms: u64) {
        if self.turn_asked_ms.compare_exchange(0, now_ms, Relaxed, Relaxed).is_ok() {
            self.progress_since_ms(now_ms);
            self.inbox.wake();
        }
    }

    /// Since when the core has begun no request and ended no poll, as far as looks have seen, of which this is one; as [`Status::now_ms`] is. A
    /// turn may be long without a handler that does not return: it calls many, one after another, and each of them is progress.
    pub(crate) fn progress_since_ms(&self, now_ms: u64) -> u64 {
        let progress = self.requests.load(Relaxed).wrapping_add(self.polls.load(Relaxed).into());
        let progress = progress & ((1 << PROGRESS_BITS) - 1);
        let seen = self.progress_seen.load(Relaxed);
        if seen & ((1 << PROGRESS_BITS) - 1) == progress {
            return seen >> PROGRESS_BITS;
        }
        self.progress_seen.store(now_ms << PROGRESS_BITS | progress, Relaxed);
        now_ms
    }

    /// Whether the core's thread sleeps until something happens.
    #[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "only where there are metrics somebody watches"))]
    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep.load(Relaxed)
    }

    /// The core's thread is about to sleep, or has woken up.
    pub(crate) fn set_asleep(&self, asleep: bool) {
        self.asleep.store(asleep, Relaxed);
    }

    /// The core has taken a turn.
    pub(crate) fn turned(&self) {
        if self.turn_asked_ms.load(Relaxed) != 0 {
            self.turn_asked_ms.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maximum_of_connections_is_exact() {
        let status = Status::new(1, 2, 2);
        assert!(status.try_open(0) && status.try_open(0) && !status.try_open(0));
        status.closed(0);
        assert!(status.try_open(0) && !status.try_open(0));
    }

    #[test]
    fn a_core_that_is_full_leaves_room_to_the_others() {
        let status = Status::new(2, 3, 2);
        assert!(status.try_open(0) && status.try_open(0) && !status.try_open(0), "the core's own maximum");
        assert!(status.try_open(1) && !status.try_open(1), "the maximum of all");
        status.closed(0);
        assert!(status.try_open(1) && !status.try_open(1) && !status.try_open(0));
        status.closed(1);
        assert!(status.try_open(0));
    }

    #[test]
    fn a_server_that_was_full_has_room_again_below_95_percent() {
        let status = Status::new(1, 100, 100);
        assert!((0..99).all(|_| status.try_open(0)) && status.has_room());
        assert!(status.try_open(0) && !status.has_room(), "the maximum itself");
        (0..5).for_each(|_| status.closed(0));
        assert!(!status.has_room(), "95 of 100");
        status.closed(0);
        assert!(status.has_room(), "94 of 100");
        // Full and not, between two questions, but somebody was turned away.
        assert!((0..6).all(|_| status.try_open(0)) && !status.try_open(0));
        status.closed(0);
        assert!(!status.has_room(), "99 of 100");
    }

    #[test]
    fn sixteen_beyond_the_maximum_may_ask_for_the_health() {
        let status = Status::new(1, 1, 1);
        assert!((0..16).all(|_| status.try_probe()) && !status.try_probe());
        status.end_probe();
        assert!(status.try_probe() && !status.try_probe());
    }
}
