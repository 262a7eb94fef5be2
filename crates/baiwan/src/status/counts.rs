//! What is counted: the counters that cores write, and the numbers that come of them.
//!
//! A core's own counters are written by that core alone, with plain loads and stores. [`TransportCounts`] is what any thread may
//! write: connections that hyper or the app holds live and end anywhere. It is *not* the place where anything is decided by
//! these numbers.
//!
//! The invariant: a counter is written by one core, or with atomic additions.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use baiwan_http1::Refusal;

use super::{CloseReason, CoreStatus, Status};
use crate::rate_limit::Decisions;

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
    /// Times that a core became overloaded; see [`Overload`](crate::Overload).
    pub overloads: u64,
    /// Requests refused since the start because an overloaded core had let them wait too long.
    pub shed: u64,
    /// Those of the requests that the rate limit has refused, or one among the layers of the app ([`baiwan_limits::RateLimit`]).
    pub rate_limited: u64,
    /// Those of the requests that a rate limit would have refused, but for [`RateLimitMode::Report`](crate::RateLimitMode::Report).
    pub rate_limit_reported: u64,
    /// Requests with a field that only proxies send (`X-Forwarded-For`, `Forwarded`, `X-Real-IP`, `CF-Connecting-IP`), from peers that are
    /// not trusted ([`Builder::trusted_proxies`](crate::Builder::trusted_proxies)): it was not believed. Where no proxy is trusted,
    /// only the first 64 requests of each core are looked at, and one in 64 of those that follow.
    pub untrusted_proxy_fields: u64,
    /// Times that the server began or ceased to give something up because its memory was short
    /// ([`Health::memory_percent`](crate::Health::memory_percent)).
    pub memory_steps: u64,
    /// Exchanges that are in no line of the [access log](crate::Builder::access_log), because its output was too slow, full or gone.
    pub access_log_dropped: u64,
    /// What the thread that writes the access log has used of the processor; known on Linux.
    pub access_log_writer_cpu: Duration,
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

impl Status {
    /// Everything that is counted.
    pub(crate) fn counts(&self) -> Counts {
        let sum = |counter: fn(&CoreStatus) -> &AtomicU64| -> u64 {
            self.cores.iter().map(|core| counter(core).load(Relaxed)).sum()
        };
        let closed = |reason: CloseReason| -> u64 { self.cores.iter().map(|core| core.closed_by(reason)).sum() };
        let refused = |refusal: &Refusal| -> (&'static str, u64) {
            let count = |core: &CoreStatus| core.refused.0[refusal.index()].load(Relaxed);
            (refusal.name(), self.cores.iter().map(count).sum())
        };
        Counts {
            connections: self.connections.load(Relaxed),
            upgraded: sum(|core| &core.transports.upgraded),
            slots: sum(|core| &core.slots),
            exchanges: sum(|core| &core.exchanges),
            deadlines: sum(|core| &core.deadlines),
            accepted: sum(|core| &core.accepted),
            requests: sum(|core| &core.requests),
            handler_panics: sum(|core| &core.handler_panics),
            core_panics: sum(|core| &core.core_panics),
            accept_failures: sum(|core| &core.accept_failures),
            overloads: sum(|core| &core.overloads),
            shed: sum(|core| &core.shed),
            rate_limited: sum(|core| &core.rate_limited),
            rate_limit_reported: sum(|core| &core.rate_limit_reported),
            untrusted_proxy_fields: sum(|core| &core.untrusted_proxy_fields),
            memory_steps: self.memory_steps(),
            access_log_dropped: self.access_log.get().map_or(0, |log| log.dropped()),
            access_log_writer_cpu: self.access_log.get().map_or(Duration::ZERO, |log| log.writer_cpu()),
            closed: CloseReason::ALL.map(|reason| (reason, closed(reason))).to_vec(),
            refused: Refusal::ALL.iter().map(refused).collect(),
        }
    }
}

impl CoreStatus {
    /// Counts what rate limits among the layers of the app have decided, beside what the gate decides.
    pub(crate) fn count_decisions(&self, Decisions { allowed, reported, refused }: Decisions) {
        add(&self.rate_limit_allowed, allowed.into());
        add(&self.rate_limit_reported, reported.into());
        add(&self.rate_limited, refused.into());
    }
}

/// What any thread may count of a core's transports.
#[derive(Debug, Default)]
pub(crate) struct TransportCounts {
    /// Those that are open.
    pub(crate) open: AtomicU64,
    /// Those of them that have switched protocols.
    pub(crate) upgraded: AtomicU64,
    /// Those of them whose request is not answered yet, where records are made.
    pub(crate) handling: AtomicU64,
    closed: Tally<{ CloseReason::ALL.len() }>,
}

impl TransportCounts {
    /// How many ended for a reason.
    pub(crate) fn closed(&self, reason: CloseReason) -> &AtomicU64 {
        &self.closed.0[reason as usize]
    }
}

/// A counter for each of `N` things.
#[derive(Debug)]
pub(super) struct Tally<const N: usize>(pub(super) [AtomicU64; N]);

impl<const N: usize> Default for Tally<N> {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; N])
    }
}

/// Adds to a counter that only this core writes: no locked instruction is needed.
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(count), Relaxed);
}
