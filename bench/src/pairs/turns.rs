//! Whose turn it is: two sides, each in a thread of its own, and one of them at work at any time. It knows nothing of what they do.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The sides: Baiwan is the first.
pub(super) const OURS: usize = 0;
pub(super) const THEIRS: usize = 1;

/// The order of the turns of a sitting, and how far it has come.
#[derive(Debug)]
pub(super) struct Turns {
    /// The side of each turn.
    order: Vec<usize>,
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The turn that goes on, or is about to begin.
    position: usize,
    /// A side has ended, in order or not: nobody waits for it.
    is_gone: [bool; 2],
}

/// Which side comes first in a pair. They alternate, so that what a turn leaves behind meets both alike.
pub(super) fn first(pair: usize) -> usize {
    if pair.is_multiple_of(2) { OURS } else { THEIRS }
}

impl Turns {
    /// A turn of each side to open its connections, if there are any to open; the pairs; and a turn of each to close.
    pub(super) fn new(opens: bool, pairs: usize) -> Self {
        let opening = if opens { &[OURS, THEIRS][..] } else { &[] };
        let pairs = (0..pairs).flat_map(|pair| [first(pair), 1 - first(pair)]);
        let order = opening.iter().copied().chain(pairs).chain([OURS, THEIRS]).collect();
        Self { order, state: Mutex::default(), moved: Condvar::new() }
    }

    /// The turns of one side.
    pub(super) fn of(&self, side: usize) -> Taker<'_> {
        Taker { turns: self, side, holds: false }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Who panicked has not been in the middle of a change: each is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A side. When it is dropped, the other waits no more.
#[derive(Debug)]
pub(super) struct Taker<'a> {
    turns: &'a Turns,
    side: usize,
    /// A turn of its own goes on.
    holds: bool,
}

impl Taker<'_> {
    /// Ends the turn of this side that goes on, and waits for its next. It does not wait where the other side has ended.
    pub(super) fn wait_next(&mut self) {
        let Turns { order, moved, .. } = self.turns;
        let mut state = self.turns.state();
        if std::mem::replace(&mut self.holds, true) {
            state.position += 1;
            moved.notify_all();
        }
        let is_others = |state: &mut State| {
            order.get(state.position).is_some_and(|side| *side != self.side) && !state.is_gone[1 - self.side]
        };
        drop(moved.wait_while(state, is_others).unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Taker<'_> {
    fn drop(&mut self) {
        let mut state = self.turns.state();
        state.position += usize::from(self.holds);
        state.is_gone[self.side] = true;
        self.turns.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What two threads do that take `count` turns each.
    fn taken(turns: &Turns, counts: [usize; 2]) -> Vec<usize> {
        let log = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for side in [OURS, THEIRS] {
                let log = &log;
                scope.spawn(move || {
                    let mut taker = turns.of(side);
                    for _ in 0..counts[side] {
                        taker.wait_next();
                        log.lock().unwrap().push(side);
                    }
                });
            }
        });
        log.into_inner().unwrap()
    }

    #[test]
    fn the_sides_open_take_turns_in_pairs_of_alternating_order_and_close() {
        let turns = Turns::new(true, 4);
        assert_eq!(taken(&turns, [6, 6]), [0, 1, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1]);
        assert_eq!(taken(&Turns::new(false, 2), [3, 3]), [0, 1, 1, 0, 0, 1]);
    }

    #[test]
    fn nobody_waits_for_a_side_that_has_ended() {
        for counts in [[6, 0], [0, 6], [2, 6], [6, 3]] {
            assert_eq!(taken(&Turns::new(true, 4), counts).len(), counts[0] + counts[1]);
        }
    }
}
