//! The phase that opens all connections: evenly over a ramp, or as fast as they are taken.
//!
//! It ends when all are open, or when none can be had. Where a server refuses, it tries one at a time; what is not open at its end is
//! left to the phases that follow. It is not how a connection comes about: that is the fleet's.

use std::time::Duration;

use super::fleet::Fleet;
use crate::clock::SECOND_NS;

/// The phase, as one worker carries it out.
pub(super) struct Opening {
    begin: u64,
    ramp_ns: u64,
    /// Connections that were begun.
    begun: u32,
    /// How many there were at `progress_at`.
    opened: u64,
    progress_at: u64,
}

impl Opening {
    pub(super) fn begin(ramp: Duration, now: u64) -> Self {
        Self { begin: now, ramp_ns: ramp.as_nanos() as u64, begun: 0, opened: 0, progress_at: now }
    }

    /// Opens what is due. Whether the phase is over: all are open, or none was for longer than `patience`.
    pub(super) fn advance(&mut self, fleet: &mut Fleet, patience: u64, now: u64) -> bool {
        fleet.retry(now);
        while self.next_due(fleet, now).is_some_and(|due| due <= now) {
            fleet.open(self.begun, now);
            self.begun += 1;
        }
        if fleet.opened_total() != self.opened || fleet.opening() == 0 && !fleet.has_retries() {
            (self.opened, self.progress_at) = (fleet.opened_total(), now);
        }
        if self.begun == fleet.len() && !fleet.is_busy() {
            return true;
        }
        // A ramp lasts as long as it was asked to, and goes on for no longer than that without any progress.
        let patience = if self.ramp_ns == 0 { patience } else { patience.min(self.ramp_ns.max(SECOND_NS)) };
        let is_stuck = fleet.has_retries() && now > self.progress_at + patience && now >= self.begin + self.ramp_ns;
        if is_stuck {
            fleet.postpone(self.begun, now);
            self.begun = fleet.len();
        }
        is_stuck
    }

    /// When the next connection is due. None: all were begun, or there is no room for another, which an event will announce.
    pub(super) fn next_due(&self, fleet: &Fleet, now: u64) -> Option<u64> {
        let more = self.begun < fleet.len() && fleet.may_open(now) > 0;
        more.then(|| self.begin + ramp_moment(self.ramp_ns, self.begun, fleet.len()))
    }
}

/// When the `index`-th of `count` connections is due, from the begin of a ramp.
fn ramp_moment(ramp_ns: u64, index: u32, count: u32) -> u64 {
    (u128::from(ramp_ns) * u128::from(index) / u128::from(count.max(1))) as u64
}
