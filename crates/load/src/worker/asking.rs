//! The phases that send requests: a loop over what is due, until it is over and what was sent has ended.
//!
//! A loop with a time of its own ends on time, whatever has become of the server: what was due by then and still has no connection is
//! unsent. What is on its way is waited for, as long as the time limit for answers allows. It is not when requests are due: that is
//! the supply's.

use super::fleet::Fleet;
use super::supply::Supply;
use crate::clock::SECOND_NS;

/// How long after the end of a loop a request that was due before may still get a connection: the generator itself may be late.
const LATE_MAX_NS: u64 = SECOND_NS;
/// The same, since the last answer: a server that does not answer is not waited for.
const SILENCE_MAX_NS: u64 = SECOND_NS / 4;

/// The phase, as one worker carries it out.
pub(super) struct Asking {
    pub(super) supply: Supply,
    /// Requests on each connection at most.
    pub(super) each: u32,
    pub(super) outstanding_max: u64,
    /// When there was last a connection that was open.
    alive_at: u64,
    /// When the time of the loop was seen to be over.
    ended_at: Option<u64>,
    /// Nothing is started any more.
    is_over: bool,
}

impl Asking {
    pub(super) fn begin(supply: Supply, now: u64) -> Self {
        Self { supply, each: u32::MAX, outstanding_max: u64::MAX, alive_at: now, ended_at: None, is_over: false }
    }

    /// Starts what is due. Whether the phase is over. For longer than `patience` a loop without an end of its own is not without a
    /// server.
    pub(super) fn advance(&mut self, fleet: &mut Fleet, patience: u64, now: u64) -> bool {
        fleet.retry(now);
        self.start_what_is_due(fleet, now);
        if fleet.tally.open > 0 {
            self.alive_at = now;
        }
        if !self.is_over && self.has_come_to_its_time(fleet, now) {
            self.is_over = true;
            fleet.unsent(self.supply.stop(now));
            fleet.abandon_attempts(now);
        }
        let is_deserted = match self.supply.end() {
            Some(_) => !fleet.has_any(),
            // Such a loop would wait for ever for a server that does not come back.
            None => !fleet.has_any() || now > self.alive_at + patience,
        };
        if !self.is_over && is_deserted {
            self.is_over = true;
            fleet.unsent(self.supply.desert(now));
        }
        let nobody_left = self.each != u32::MAX && !fleet.has_idle(self.each);
        (self.is_over || nobody_left || self.supply.is_exhausted(now)) && fleet.tally.outstanding == 0
    }

    fn has_come_to_its_time(&mut self, fleet: &Fleet, now: u64) -> bool {
        if self.supply.end().is_none_or(|end| now < end) {
            return false;
        }
        let ended_at = *self.ended_at.get_or_insert(now);
        !fleet.is_alive() || now >= late_until(fleet, ended_at)
    }

    fn start_what_is_due(&mut self, fleet: &mut Fleet, now: u64) {
        while fleet.tally.outstanding < self.outstanding_max
            && let Some(index) = fleet.take_idle(self.each)
        {
            let Some(due) = self.supply.next(now) else { return fleet.put_back(index) };
            fleet.start(index, due, now);
        }
    }

    /// When there is something to do again: a request is due, the time of the loop is over, nothing may be late any more.
    pub(super) fn moments(&self, fleet: &mut Fleet) -> [Option<u64>; 3] {
        let next_due = self.supply.next_due().filter(|_| fleet.has_idle(u32::MAX));
        [next_due, self.supply.end(), self.ended_at.map(|ended_at| late_until(fleet, ended_at))]
    }
}

fn late_until(fleet: &Fleet, ended_at: u64) -> u64 {
    (ended_at.max(fleet.answered_at()) + SILENCE_MAX_NS).min(ended_at + LATE_MAX_NS)
}
