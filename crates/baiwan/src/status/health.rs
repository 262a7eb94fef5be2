//! What the rest of the process may ask about a server: whether it lives and is ready, and what it counts.
//!
//! It reads, and asks cores for a turn; it changes nothing else, so anything may ask at any time, from any thread.
//!
//! The invariant: no answer waits for a core.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use baiwan_http1::Refusal;

use super::{CloseReason, CoreStatus, Counts, Phase, Status};

/// A core that has not taken a turn for this long after it was asked to is stuck.
const TURN_DUE: Duration = Duration::from_secs(5);

/// The state of a running server: whether it lives and is ready, and what it counts.
///
/// Clones are handles on the same server. Get one from [`Builder::health`](crate::Builder::health) before the server starts,
/// and give it to the handlers that answer an orchestrator.
#[derive(Clone, Debug)]
pub struct Health(pub(crate) Arc<std::sync::OnceLock<Arc<Status>>>);

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
    /// A request to stop takes effect while [`Running::wait`](crate::Running::wait) is polled, if it ever was: whoever polls it, and
    /// looks here after each poll, sees every step of a stop at once. The time of an orderly stop being over is no step: what is open then
    /// is cut in [`Phase::Draining`].
    pub fn phase(&self) -> Phase {
        self.0.get().map_or(Phase::Starting, |status| status.phase())
    }

    /// How many connections are open.
    pub fn connections(&self) -> u64 {
        self.0.get().map_or(0, |status| status.connections())
    }

    /// How much of the memory is used that the process's cgroup may have, in percent, pages of files that nobody reads apart. From 85 % on
    /// idle connections end sooner, after 5 s at 95 %; from 92 % on every answer is its connection's last; from 95 % on every request
    /// gets a 503 (`memory-pressure`) but those for `/health` and `/health/*`. `None` where no cgroup has a limit.
    pub fn memory_percent(&self) -> Option<u8> {
        let percent = self.0.get()?.memory_pressure().percent;
        (percent > 0).then_some(percent)
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
            memory_steps: status.memory_steps(),
            closed: CloseReason::ALL.map(|reason| (reason, closed(reason))).to_vec(),
            refused: Refusal::ALL.iter().map(refused).collect(),
        }
    }
}
