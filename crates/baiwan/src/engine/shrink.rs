//! Connections that are idle when memory becomes short.
//!
//! Whoever becomes idle then has less time from the start (`Terms::idle_timeout`). Those that were idle before get their share of the
//! shorter time here, some in each turn: what is left of their own time, scaled down, so that those that were idle longest go first and
//! not all in the same second.
//!
//! The invariant: when a sweep is over, no connection that was idle at its beginning has more than the shorter time left.

use std::time::Duration;

use super::stop::whole_ticks;
use super::table::Table;
use super::terms::Terms;
use crate::clock::Tick;

/// Connections looked at in one turn.
const TURN_VISITS_MAX: u32 = 1024;

/// A walk over all connections, some in each turn.
#[derive(Debug)]
pub(super) struct Sweep {
    /// Slots before this one were looked at.
    cursor: u32,
    slots_end: u32,
    /// The idle timeout that was in force before it shrank.
    before: Option<Duration>,
}

/// Follows what is said of the server's memory: before anything else is done in this turn.
#[inline]
pub(super) fn follow_memory<S>(terms: &Terms, sweep: &mut Option<Sweep>, table: &Table<S>) {
    let pressure = terms.board.server.memory_pressure();
    if pressure == terms.board.memory_pressure() {
        return;
    }
    let before = terms.idle_timeout();
    terms.board.post_memory_pressure(pressure);
    let now = terms.idle_timeout();
    let has_shrunk = is_shorter(now, before);
    *sweep = match sweep.take() {
        // The stop gives connections their time by itself.
        _ if terms.board.is_stopping() => None,
        Some(unfinished) if has_shrunk => Some(Sweep { cursor: 0, slots_end: table.end(), ..unfinished }),
        // What it has not reached still has the time that was in force before.
        Some(unfinished) if is_shorter(now, unfinished.before) => Some(unfinished),
        None if has_shrunk => Some(Sweep { cursor: 0, slots_end: table.end(), before }),
        _ => None,
    };
}

/// Whether a timeout is shorter than another; none is the longest.
fn is_shorter(timeout: Option<Duration>, other: Option<Duration>) -> bool {
    timeout.is_some_and(|timeout| other.is_none_or(|other| timeout < other))
}

/// Goes on with a sweep, if there is one. It ends where a stop begins, which spreads the ends of idle connections by itself.
#[inline]
pub(super) fn sweep_idle<S>(terms: &Terms, sweep: &mut Option<Sweep>, table: &mut Table<S>) {
    if sweep.is_some() && terms.board.is_stopping() {
        *sweep = None;
    }
    let Some(Sweep { cursor, slots_end, before }) = sweep else { return };
    let (from, to) = (*cursor, (*slots_end).min(*cursor + TURN_VISITS_MAX));
    *cursor = to;
    let now = terms.clock.tick();
    let timeout = terms.idle_timeout().map_or(u32::MAX, whole_ticks).max(1);
    let before = before.map_or(u32::MAX, whole_ticks).max(timeout);
    let latest = Tick(now.0.saturating_add(timeout));
    for index in from..to {
        let Some(slot) = table.get(index).filter(|slot| slot.is_quiet() && slot.deadline > latest) else { continue };
        let left = match slot.deadline {
            Tick::NEVER => index % timeout,
            deadline => (u64::from(deadline.0 - now.0) * u64::from(timeout) / u64::from(before)) as u32,
        };
        table.set_deadline(index, Tick(now.0 + left.min(timeout)));
    }
    if to == *slots_end {
        *sweep = None;
    }
}
