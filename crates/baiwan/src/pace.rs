//! How fast a request's body must come while its handler waits for it; and how fast an answer must be taken (`delivery`), where what is
//! said of bytes that come is meant of bytes for which the peer makes room.
//!
//! A peer begins with a grace of some seconds. Waiting spends it, every byte that arrives adds to it, as much as the minimum
//! rate says, up to a maximum: a token bucket (Turner, "New Directions in Communications", IEEE Communications Magazine 24:10,
//! 1986) whose tokens are microseconds of patience. So a peer that is slow on average is given up however cleverly it spreads
//! its bytes, and one whose network was away for a moment is not. There is also an end for the whole body.
//!
//! Deadlines are kept to the tick only, so bytes may come when the patience is over already. What was waited too long is not
//! forgiven then: fewer bytes than make up for it are too late.
//!
//! Only the time in which somebody waits counts: a handler that does not ask is not the peer's fault.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::{Clock, Tick};

/// What a peer has before it has sent anything.
const GRACE: Duration = Duration::from_secs(5);
/// What a peer may have gathered at the most: how long one may be silent that was fast until then.
const PATIENCE_MAX: Duration = Duration::from_secs(30);
/// What a peer may have to make up for at the most: it can be late by little more than a tick, the rest is this core's doing.
const DEBT_MAX: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Pace {
    /// Nobody waits any longer then; never, when nobody waits now.
    due: Tick,
    since: Option<Instant>,
    /// Below zero, it is over; then `due` has come.
    patience_us: i64,
    /// The whole body must be there by then.
    ends: Tick,
}

impl Pace {
    pub(crate) const NONE: Self = Self { due: Tick::NEVER, since: None, patience_us: 0, ends: Tick::NEVER };

    /// A body begins, and must have ended by `ends`.
    pub(crate) fn begin(ends: Tick) -> Self {
        Self { ends, patience_us: GRACE.as_micros() as i64, ..Self::NONE }
    }

    /// When the peer is given up.
    pub(crate) fn due(&self) -> Tick {
        self.due
    }

    /// Whether somebody waits.
    pub(crate) fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// Whether the time for the whole body is over, however fast it came.
    pub(crate) fn has_ended(&self, now: Tick) -> bool {
        self.ends <= now
    }

    /// The handler waits for bytes. `rate` is the minimum in bytes a second; 0 is none.
    pub(crate) fn start(&mut self, clock: &Clock, rate: u32) {
        if self.since.is_some() {
            return;
        }
        self.since = Some(clock.now());
        let patience = Some(Duration::from_micros(self.patience_us.max(0) as u64)).filter(|_| rate > 0);
        self.due = clock.deadline(patience).min(self.ends);
    }

    /// The whole body must be there by `ends` instead, or come at another `rate`. Who waits now begins to wait now.
    pub(crate) fn change(&mut self, ends: Tick, clock: &Clock, rate: u32) {
        self.ends = ends;
        if self.since.take().is_some() {
            self.start(clock, rate);
        }
    }

    /// When the whole body must be there.
    pub(crate) fn ends(&self) -> Tick {
        self.ends
    }

    /// `count` bytes have come.
    pub(crate) fn handle_bytes(&mut self, count: usize, clock: &Clock, rate: u32) {
        let Some(since) = self.since else { return self.earn(count, rate) };
        let waited_us = clock.now().duration_since(since).as_micros() as i64;
        self.patience_us = (self.patience_us - waited_us).max(-(DEBT_MAX.as_micros() as i64));
        self.earn(count, rate);
        if (rate > 0 && self.patience_us < 0) || self.ends <= clock.tick() {
            (self.due, self.since) = (clock.tick(), Some(clock.now()));
        } else {
            self.stop();
        }
    }

    fn earn(&mut self, count: usize, rate: u32) {
        let earned_us = (count as u64 * 1_000_000).checked_div(rate.into()).unwrap_or(0);
        self.patience_us = (self.patience_us + earned_us as i64).min(PATIENCE_MAX.as_micros() as i64);
    }

    /// Nobody waits any more.
    pub(crate) fn stop(&mut self) {
        (self.due, self.since) = (Tick::NEVER, None);
    }
}
