//! What the cores tell the rest of the process, and what they are told: atomics, and nothing else.
//!
//! Each core writes its own counters, on cache lines of its own; they are added up when somebody asks. Only those of
//! connections that hyper or the app holds are written by other threads too (`transport`). Cores share one number, that of all
//! connections, because its maximum is for the process. Where each core has an fd table of its own, each has a maximum, too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use baiwan_http1::Refusal;
use tokio::time::Instant;

use crate::files::PROBES_MAX;
use crate::hints::Hints;
use crate::inbox::Inbox;
use crate::transport::TransportCounts;

pub use crate::close_reason::CloseReason;

/// A core that has not taken a turn for so long after it was asked to is stuck.
const TURN_DUE: Duration = Duration::from_secs(5);

/// A server that was full has room again when fewer of its connections than this are taken.
const ROOM_PERCENT: u128 = 95;

/// How far a server is on its way from start to stop; see [`Health::phase`]. It never goes back, and may leave phases out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
#[non_exhaustive]
pub enum Phase {
    /// Not every core runs.
    Starting,
    /// Accepts connections and answers requests.
    Serving,
    /// Still serving, but asks not to be sent more: the shutdown delay.
    NotReady,
    /// Accepts no more, and ends each connection as soon as it can be done in order.
    Draining,
    /// Ends every connection now.
    Stopping,
}

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
    pub(crate) cores: Box<[CoreStatus]>,
    pub(crate) hints: Hints,
    started: Instant,
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
    pub(crate) slots: AtomicU64,
    pub(crate) deadlines: AtomicU64,
    pub(crate) handler_panics: AtomicU64,
    pub(crate) core_panics: AtomicU64,
    pub(crate) accept_failures: AtomicU64,
    /// With `connections`, the only counters here that other threads write too.
    pub(crate) transports: TransportCounts,
    closed: Tally<{ CloseReason::ALL.len() }>,
    refused: Tally<{ Refusal::ALL.len() }>,
    /// When somebody asked the core to take a turn, in milliseconds since the start, plus one; 0 when it has since.
    turn_asked_ms: AtomicU64,
}

/// A counter for each of `N` things.
#[derive(Debug)]
struct Tally<const N: usize>([AtomicU64; N]);

impl<const N: usize> Default for Tally<N> {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; N])
    }
}

impl Status {
    /// `core_connections_max` is for each core, `connections_max` for all together.
    pub(crate) fn new(cores: usize, connections_max: u64, core_connections_max: u64) -> Arc<Self> {
        Arc::new(Self {
            phase: AtomicU8::new(Phase::Starting as u8),
            connections: AtomicU64::new(0),
            connections_max,
            full: AtomicBool::new(false),
            probes: AtomicU64::new(0),
            core_connections_max,
            cores: (0..cores).map(|_| CoreStatus::default()).collect(),
            hints: Hints::default(),
            started: Instant::now(),
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

    /// Goes on to a later phase and tells every core. Never goes back.
    pub(crate) fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Relaxed);
        for core in &self.cores {
            core.inbox.wake();
        }
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

    /// The core has taken a turn.
    pub(crate) fn turned(&self) {
        if self.turn_asked_ms.load(Relaxed) != 0 {
            self.turn_asked_ms.store(0, Relaxed);
        }
    }
}

/// Adds to a counter that only this core writes: no locked instruction is needed.
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(count), Relaxed);
}

/// The state of a running server: whether it lives and is ready, and what it counts.
///
/// Clones are handles on the same server. Get one from [`Builder::health`](crate::Builder::health) before the server starts,
/// and give it to the handlers that answer an orchestrator.
#[derive(Clone, Debug)]
pub struct Health(pub(crate) Arc<std::sync::OnceLock<Arc<Status>>>);

/// Numbers of a running server, added up over its cores. Each is exact, but they are not taken at one instant.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Connections that are open.
    pub connections: u64,
    /// Those of them that an app has taken to another protocol, such as WebSocket.
    pub upgraded: u64,
    /// Slots in use; those of connections that are being turned away are among them.
    pub slots: u64,
    /// Handlers and response bodies that are being waited for, each in a task.
    pub exchanges: u64,
    /// Deadlines that are set.
    pub deadlines: u64,
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Requests whose head was accepted since the start.
    pub requests: u64,
    /// Handlers that panicked.
    pub handler_panics: u64,
    /// Loops of cores that panicked; each cost the connections of its core.
    pub core_panics: u64,
    /// Times that the system refused to accept or to watch a connection: it was out of files or memory.
    pub accept_failures: u64,
    /// Connections ended since the start, by reason.
    pub closed: Vec<(CloseReason, u64)>,
    /// Requests refused since the start, by the rule that they broke: its name in kebab case, as in the answer, for example
    /// `host-missing`.
    pub refused: Vec<(&'static str, u64)>,
}

impl Counts {
    /// Connections ended since the start for one reason.
    pub fn closed_by(&self, reason: CloseReason) -> u64 {
        self.closed.iter().find(|(known, _)| *known == reason).map_or(0, |(_, count)| *count)
    }

    /// Requests refused since the start for breaking one rule, by its name.
    pub fn refused_by(&self, rule: &str) -> u64 {
        self.refused.iter().find(|(known, _)| *known == rule).map_or(0, |(_, count)| *count)
    }
}

impl Health {
    /// Whether every core takes turns. A core that was asked to, now or at an earlier call, and did not within 5 seconds
    /// is stuck: a handler blocks it. The answer does not wait, so one that is asked regularly is a watchdog.
    pub fn is_live(&self) -> bool {
        let Some(status) = self.0.get() else { return false };
        let now_ms = u64::try_from(status.started.elapsed().as_millis()).unwrap_or(u64::MAX) + 1;
        let mut live = true;
        for core in &status.cores {
            match core.turn_asked_ms.load(Relaxed) {
                0 => {
                    core.turn_asked_ms.store(now_ms, Relaxed);
                    core.inbox.wake();
                }
                asked_ms => live &= now_ms.saturating_sub(asked_ms) < TURN_DUE.as_millis() as u64,
            }
        }
        live
    }

    /// Whether new connections are welcome: started, not stopping, and with room. A server that was full, so that it had to turn
    /// somebody away, has room again below 95 % of its maximum.
    pub fn is_ready(&self) -> bool {
        let Some(status) = self.0.get() else { return false };
        status.phase() == Phase::Serving && status.has_room()
    }

    /// How far the server is on its way from start to stop.
    ///
    /// A request to stop takes effect while [`Running::wait`](crate::Running::wait) is polled: whoever polls it, and looks here
    /// after each poll, sees every step of a stop at once. The time of an orderly stop being over is no step: what is open then
    /// is cut in [`Phase::Draining`].
    pub fn phase(&self) -> Phase {
        self.0.get().map_or(Phase::Starting, |status| status.phase())
    }

    /// How many connections are open.
    pub fn connections(&self) -> u64 {
        self.0.get().map_or(0, |status| status.connections.load(Relaxed))
    }

    /// Everything that is counted.
    pub fn counts(&self) -> Counts {
        let Some(status) = self.0.get() else { return Counts::default() };
        let sum = |counter: fn(&CoreStatus) -> &AtomicU64| -> u64 {
            status.cores.iter().map(|core| counter(core).load(Relaxed)).sum()
        };
        let closed = |reason: CloseReason| -> u64 { status.cores.iter().map(|core| core.closed_by(reason)).sum() };
        let refused = |refusal: &Refusal| -> (&'static str, u64) {
            let count = |core: &CoreStatus| core.refused.0[refusal.index()].load(Relaxed);
            (refusal.name(), status.cores.iter().map(count).sum())
        };
        Counts {
            connections: status.connections.load(Relaxed),
            upgraded: sum(|core| core.transports.upgraded()),
            slots: sum(|core| &core.slots),
            exchanges: sum(|core| &core.exchanges),
            deadlines: sum(|core| &core.deadlines),
            accepted: sum(|core| &core.accepted),
            requests: sum(|core| &core.requests),
            handler_panics: sum(|core| &core.handler_panics),
            core_panics: sum(|core| &core.core_panics),
            accept_failures: sum(|core| &core.accept_failures),
            closed: CloseReason::ALL.map(|reason| (reason, closed(reason))).to_vec(),
            refused: Refusal::ALL.iter().map(refused).collect(),
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
