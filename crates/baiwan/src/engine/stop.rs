//! The server's stop, on one core.
//!
//! It gives every connection its chance: those that are being answered are answered, those that were idle for a while are
//! looked at once more and closed, a few at a time, so that a million clients do not come back in the same second.
//!
//! The invariant: no connection outlives the time that the stop has in all.

use std::time::Duration;

use baiwan_driver::Driver;
use tokio::time::Instant;

use super::accept::{Listeners, drop_emptied};
use super::close::close_all;
use super::ports::Ports;
use super::table::{Slot, State, Table};
use super::terms::Terms;
use crate::clock::{TICK, Tick};
use crate::settings::{STOP_MAX, Settings};
use crate::status::{CloseReason, Phase};

/// Connections looked at in one turn when the server begins to stop.
const TURN_DRAINS_MAX: usize = 1024;
/// Idle connections are closed at this rate when the server stops, but all of them within `DRAIN_SPREAD_MAX`.
const DRAIN_CLOSES_PER_SECOND: u64 = 20_000;
const DRAIN_SPREAD_MAX: Duration = Duration::from_secs(5);

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

/// Follows the server when it begins to stop: before anything else is answered in this turn.
pub(super) fn begin_stop<D: Driver>(
    terms: &Terms,
    drain: &mut Option<Drain>,
    listeners: &mut Listeners<D>,
    ports: &Ports<D>,
    table: &Table<D::Socket>,
) {
    let is_stopping = matches!(terms.board.server.phase(), Phase::Draining | Phase::Stopping);
    if drain.is_some() || !is_stopping {
        return;
    }
    terms.board.post_stop();
    ports.transports.begin_drain();
    listeners.begin_stop();
    let Settings { shutdown_timeout, shutdown_delay, .. } = *terms.settings;
    let timeout = shutdown_timeout.saturating_sub(shutdown_delay).min(STOP_MAX);
    let seconds = Duration::from_secs(table.len() as u64) / DRAIN_CLOSES_PER_SECOND as u32;
    let spread = seconds.min(DRAIN_SPREAD_MAX).min(timeout / 2);
    *drain = Some(Drain {
        cursor: 0,
        slots_end: table.end(),
        ends: terms.clock.now() + timeout,
        spread: whole_ticks(spread),
    });
}

/// Goes on with the stop. Returns whether this core is done.
pub(super) fn has_stopped<D: Driver>(
    terms: &Terms,
    drain: &mut Option<Drain>,
    listeners: &mut Listeners<D>,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
) -> bool {
    let Some(drain) = drain else { return false };
    // What was in a backlog has been accepted.
    drop_emptied(terms, listeners, ports, table);
    if terms.board.server.phase() == Phase::Stopping || terms.clock.now() >= drain.ends {
        listeners.drop_all(&mut ports.driver);
        close_all(terms, ports, table, CloseReason::DrainTimeout);
        return true;
    }
    settle(terms, drain, table);
    table.len() == 0 && listeners.is_empty() && ports.transports.all_closed()
}

/// Gives each connection without a request, a number of them in each turn, its time to close.
fn settle<S>(terms: &Terms, drain: &mut Drain, table: &mut Table<S>) {
    let (from, to) = (drain.cursor, drain.slots_end.min(drain.cursor + TURN_DRAINS_MAX as u32));
    let (spread, slots_end) = (u64::from(drain.spread), u64::from(drain.slots_end.max(1)));
    drain.cursor = to;
    let now = terms.clock.tick();
    let patience = whole_ticks(terms.settings.shutdown_idle);
    let from_now = terms.deadline(Some(terms.settings.shutdown_idle));
    let idle_since = |deadline: Tick, ages: Tick| match terms.keep_alive_timeout_min() {
        // It has to end for its age; since when it is idle does not show.
        _ if ages <= deadline => now.0,
        // The deadline may be that of another timeout, from before a reload. The shortest timeout gives the latest time at which the
        // connection can have become idle, so that it is not closed too soon.
        Some(timeout) if deadline != Tick::NEVER => deadline.0.saturating_sub(whole_ticks(timeout)).min(now.0),
        _ => now.0,
    };
    // One that became idle during the stop, or nearly was over before it, has its time already: its deadline is rounded up, in a tick that
    // has begun.
    let is_due = |slot: &&Slot<S>| slot.deadline > Tick(now.0.saturating_add(patience + 2));
    for index in from..to {
        let Some(slot) = table.get(index).filter(is_due) else { continue };
        if slot.is_quiet() {
            let ages = table.lifetime(index).map_or(Tick::NEVER, |lifetime| lifetime.ends);
            let quiet = idle_since(slot.deadline, ages).saturating_add(patience);
            let turn = now.0 + (u64::from(index) * spread / slots_end) as u32;
            table.set_deadline(index, Tick(quiet.max(turn)));
        } else if slot.state == State::Head {
            table.set_deadline(index, from_now);
        }
    }
}

pub(super) fn whole_ticks(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis() / TICK.as_millis()).unwrap_or(u32::MAX)
}
