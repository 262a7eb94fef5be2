//! What the rest of the process may ask about a server: whether it lives and is ready, and what it counts.
//!
//! It reads, and asks cores for a turn; it changes nothing else, so anything may ask at any time, from any thread.
//!
//! The invariant: no answer waits for a core.

use std::sync::Arc;

use super::{Counts, Phase, Status};

/// The state of a running server: whether it lives and is ready, and what it counts.
///
/// Clones are handles on the same server. Get one from [`Builder::health`](crate::Builder::health) before the server starts,
/// and give it to the handlers that answer an orchestrator.
#[derive(Clone, Debug)]
pub struct Health(pub(crate) Arc<std::sync::OnceLock<Arc<Status>>>);

impl Health {
    /// Whether every core takes turns. A core is stuck if it was asked to, now or at an earlier call, and for
    /// [`live_timeout`](crate::Builder::live_timeout) has neither done so nor gone from one handler to the next: then one handler blocks
    /// it. Many that take long, one after another, are work. The answer does not wait, so one that is asked regularly is a watchdog.
    pub fn is_live(&self) -> bool {
        let Some(status) = self.0.get() else { return false };
        let (now_ms, timeout_ms) = (status.now_ms(), status.bounds.live_timeout_ms());
        let mut live = true;
        for core in &status.cores {
            match core.turn_asked_ms() {
                None => core.ask_for_turn(now_ms),
                Some(asked_ms) => {
                    let since_ms = asked_ms.max(core.progress_since_ms(now_ms));
                    live &= now_ms.saturating_sub(since_ms) < timeout_ms;
                }
            }
        }
        live
    }

    /// Whether the server has started: every core runs. It stays so when the server stops.
    pub fn is_started(&self) -> bool {
        self.phase() >= Phase::Serving
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

    /// The process that has taken over the listening sockets ([`Builder::takeover`](crate::Builder::takeover)), if one has: this server answers
    /// what it has accepted, and ends.
    pub fn successor(&self) -> Option<u32> {
        self.0.get()?.succession.successor()
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
        self.0.get().map_or_else(Counts::default, |status| status.counts())
    }
}
