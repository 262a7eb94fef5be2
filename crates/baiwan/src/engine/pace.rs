//! How fast a request's body must come while its handler waits for it.
//!
//! A peer begins with a grace of some seconds. Waiting spends it, every byte that arrives adds to it, as much as the minimum
//! rate says, up to a maximum: a token bucket (Turner, "New Directions in Communications", IEEE Communications Magazine 24:10,
//! 1986) whose tokens are milliseconds of patience. So a peer that is slow on average is given up however cleverly it spreads
//! its bytes, and one whose network was away for a moment is not. There is also an end for the whole body.
//!
//! Only the time in which somebody waits counts: a handler that does not ask is not the peer's fault.

use std::time::Duration;

use crate::clock::{Clock, TICK, Tick};

/// What a peer has before it has sent anything.
const GRACE: Duration = Duration::from_secs(5);
/// What a peer may have gathered at the most: how long one may be silent that was fast until then.
const PATIENCE_MAX: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Pace {
    /// Nobody waits any longer then; never, when nobody waits now.
    due: Tick,
    since: Tick,
    patience_ms: u32,
    /// The whole body must be there by then.
    ends: Tick,
}

impl Pace {
    pub(super) const NONE: Self = Self { due: Tick::NEVER, since: Tick::NEVER, patience_ms: 0, ends: Tick::NEVER };

    /// A body begins, and must have ended by `ends`.
    pub(super) fn begin(ends: Tick) -> Self {
        Self { ends, patience_ms: GRACE.as_millis() as u32, ..Self::NONE }
    }

    /// When the peer is given up.
    pub(super) fn due(&self) -> Tick {
        self.due
    }

    /// The handler waits for bytes. `rate` is the minimum in bytes a second; 0 is none.
    pub(super) fn wait(&mut self, clock: &Clock, rate: u32) {
        if self.since != Tick::NEVER {
            return;
        }
        self.since = clock.tick();
        let patience = Some(Duration::from_millis(self.patience_ms.into())).filter(|_| rate > 0);
        self.due = clock.deadline(patience).min(self.ends);
    }

    /// `count` bytes have come.
    pub(super) fn handle_bytes(&mut self, count: usize, now: Tick, rate: u32) {
        let waited_ms = match self.since {
            Tick::NEVER => 0,
            since => (u64::from(now.0 - since.0) * TICK.as_millis() as u64).min(self.patience_ms.into()) as u32,
        };
        let earned_ms = (count as u64 * 1000).checked_div(rate.into()).unwrap_or(0);
        let patience_ms = u64::from(self.patience_ms - waited_ms) + earned_ms;
        self.patience_ms = patience_ms.min(PATIENCE_MAX.as_millis() as u64) as u32;
        self.stop();
    }

    /// Nobody waits any more.
    pub(super) fn stop(&mut self) {
        (self.due, self.since) = (Tick::NEVER, Tick::NEVER);
    }
}
