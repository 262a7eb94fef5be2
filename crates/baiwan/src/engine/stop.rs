//! The server's stop, on one core.
//!
//! It gives every connection its chance: those that are being answered are answered, those that were idle for a while are
//! looked at once more and closed, a few at a time, so that a million clients do not come back in the same second.
//!
//! The invariant: no connection outlives the time that the stop has in all.

use std::time::Duration;

use baiwan_driver::Driver;
use tokio::time::Instant;

use super::table::{Slot, State};
use super::{Engine, Listener, is_stopping};
use crate::app::App;
use crate::clock::{TICK, Tick};
use crate::status::{CloseReason, Phase};

/// Connections looked at in one turn when the server begins to stop.
const TURN_DRAINS_MAX: usize = 1024;
/// Idle connections are closed at this rate when the server stops, but all of them within `DRAIN_SPREAD_MAX`.
const DRAIN_CLOSES_PER_SECOND: u64 = 20_000;
const DRAIN_SPREAD_MAX: Duration = Duration::from_secs(5);

/// No stop takes longer, whatever it is allowed.
const DRAIN_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// The stop of this core.
#[derive(Debug)]
pub(super) struct Drain {
    /// Slots before this one were looked at.
    cursor: u32,
    slots_end: u32,
    /// What is still open then is cut.
    ends: Instant,
    /// Over how many ticks the idle connections are spread.
    spread: u32,
}

impl Drain {
    pub(super) fn is_settled(&self) -> bool {
        self.cursor >= self.slots_end
    }

    /// Nobody is left to be looked at.
    pub(super) fn skip(&mut self) {
        self.cursor = self.slots_end;
    }

    pub(super) fn ends(&self) -> Instant {
        self.ends
    }
}

impl<D: Driver, A: App> Engine<D, A> {
    /// Goes on with the stop. Returns whether this core is done.
    pub(super) fn has_stopped(&mut self) -> bool {
        let Some(ends) = self.drain.as_ref().map(Drain::ends) else { return false };
        // What was in a backlog has been accepted; what comes now finds nobody.
        let (kept, drained) = std::mem::take(&mut self.listeners).into_iter().partition(|listener| listener.ready);
        self.listeners = kept;
        self.drop_listeners(drained);
        let now = self.clock.now();
        if self.core.status.phase() == Phase::Stopping || now >= ends {
            let rest = std::mem::take(&mut self.listeners);
            self.drop_listeners(rest);
            self.close_all(CloseReason::DrainTimeout);
            return true;
        }
        self.settle();
        self.table.len() == 0 && self.listeners.is_empty() && self.transports.all_closed()
    }

    /// Follows the server when it begins to stop: before anything else is answered in this turn.
    pub(super) fn begin_stop(&mut self) {
        if self.drain.is_some() || !is_stopping(&self.core.status) {
            return;
        }
        self.core.stopping.set(true);
        self.transports.begin_drain();
        // Whatever the last accept said, one more is due.
        for listener in &mut self.listeners {
            (listener.ready, listener.resumes) = (true, None);
        }
        let timeout = self.settings.shutdown_timeout.saturating_sub(self.settings.shutdown_delay).min(DRAIN_MAX);
        let seconds = Duration::from_secs(self.table.len() as u64) / DRAIN_CLOSES_PER_SECOND as u32;
        let spread = seconds.min(DRAIN_SPREAD_MAX).min(timeout / 2);
        self.drain = Some(Drain {
            cursor: 0,
            slots_end: self.table.end(),
            ends: self.clock.now() + timeout,
            spread: whole_ticks(spread),
        });
    }

    /// A listener may be held by somebody else too, and would be reported to us for as long: so it is taken out first.
    fn drop_listeners(&mut self, listeners: Vec<Listener<D>>) {
        for listener in listeners {
            // One that rested was taken out already.
            let _ = self.driver.set_listening(&listener.listener, listener.token, false);
        }
    }

    /// Gives each connection without a request, a number of them in each turn, its time to close.
    fn settle(&mut self) {
        let Some(drain) = &mut self.drain else { return };
        let (from, to) = (drain.cursor, drain.slots_end.min(drain.cursor + TURN_DRAINS_MAX as u32));
        let (spread, slots_end) = (u64::from(drain.spread), u64::from(drain.slots_end.max(1)));
        drain.cursor = to;
        let now = self.clock.tick();
        let patience = whole_ticks(self.settings.shutdown_idle);
        let from_now = self.clock.deadline(Some(self.settings.shutdown_idle));
        let idle_since = |deadline: Tick| match self.settings.keep_alive_timeout {
            Some(timeout) if deadline != Tick::NEVER => deadline.0.saturating_sub(whole_ticks(timeout)),
            _ => now.0,
        };
        let mut due = Vec::new();
        for index in from..to {
            // One that became idle during the stop, or nearly was over before it, has its time already.
            let is_due = |slot: &&Slot<D::Socket>| slot.deadline > Tick(now.0.saturating_add(patience + 1));
            let Some(slot) = self.table.get(index).filter(is_due) else { continue };
            if slot.is_quiet() {
                let quiet = idle_since(slot.deadline).saturating_add(patience);
                let turn = now.0 + (u64::from(index) * spread / slots_end) as u32;
                due.push((index, Tick(quiet.max(turn))));
            } else if slot.state == State::Head {
                due.push((index, from_now));
            }
        }
        for (index, deadline) in due {
            self.table.set_deadline(index, deadline);
        }
    }
}

fn whole_ticks(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis() / TICK.as_millis()).unwrap_or(u32::MAX)
}
