//! Connections that were just accepted, and are received from before they are watched.
//!
//! Whoever connects usually sends its request at once: it is there when its connection is accepted, or a moment later. One that is there is
//! answered in the turn of the accept, and a connection that ends with its answer is never watched, which saves the registration and
//! the wait for the event that says what the accept might have said. A receive that finds nothing is the price, so where most find
//! nothing, most newcomers are watched first, and only some are tried.
//!
//! The invariant: at the end of a turn every connection is watched. One that cannot be is closed.

use baiwan_driver::Token;

use super::table::{Flags, State, Table};

/// A share of one.
const ALL: u32 = 1 << 16;
/// Each first receive changes the share of those that find something by one part in this many.
const MEMORY: u32 = 8;
/// Where most find nothing, one newcomer of this number is tried all the same, so that a change shows.
const TRIED_OF: u32 = 16;

/// Those of this turn, and whether the next is received from first.
#[derive(Debug)]
pub(super) struct Newcomers {
    /// Those of this turn that are not watched yet: at most `TURN_ACCEPTS_MAX` for each listener.
    tokens: Vec<Token>,
    /// How many first receives have found something lately, as a share of [`ALL`].
    share: u32,
    /// How many were not tried since one was.
    untried: u32,
}

impl Newcomers {
    pub(super) fn new() -> Self {
        Self { tokens: Vec::new(), share: ALL, untried: 0 }
    }

    /// Whether the next newcomer is received from first.
    pub(super) fn may_be_received_from(&mut self) -> bool {
        self.untried += 1;
        let may = self.share >= ALL / 2 || self.untried >= TRIED_OF;
        if may {
            self.untried = 0;
        }
        may
    }

    /// One is going to be received from first.
    pub(super) fn push(&mut self, token: Token) {
        self.tokens.push(token);
    }

    /// Takes the next one of this turn that is still there.
    pub(super) fn next_that_stays<S>(&mut self, table: &Table<S>) -> Option<u32> {
        while let Some(token) = self.tokens.pop() {
            let Some(index) = table.find(token) else {
                self.note(true);
                continue;
            };
            let slot = &table[index];
            let has_nothing = slot.state == State::Idle && slot.flags.has(Flags::SILENT);
            // The turn was over before the turn of some came.
            if !slot.flags.has(Flags::READABLE) {
                self.note(!has_nothing);
            }
            return Some(index);
        }
        None
    }

    /// A first receive has found something, or nothing.
    fn note(&mut self, found: bool) {
        self.share -= self.share / MEMORY;
        if found {
            self.share += ALL / MEMORY;
        }
    }

    /// The system watches no more connections: until it does, most newcomers are not asked what they want, because they could not stay.
    pub(super) fn handle_unwatched(&mut self) {
        self.share = 0;
    }

    /// The loop begins anew after a panic: they are gone.
    pub(super) fn begin_anew(&mut self) {
        self.tokens.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newcomers_are_tried_while_most_have_something_and_now_and_then_otherwise() {
        let mut newcomers = Newcomers::new();
        let mut tried_of_a_hundred = |finds: bool| {
            let tried = (0..100).filter(|_| {
                let tried = newcomers.may_be_received_from();
                if tried {
                    newcomers.note(finds);
                }
                tried
            });
            tried.count()
        };
        assert_eq!(tried_of_a_hundred(true), 100);
        let tried = tried_of_a_hundred(false);
        assert!((6..20).contains(&tried), "{tried} were tried that had nothing");
        tried_of_a_hundred(true);
        assert_eq!(tried_of_a_hundred(true), 100, "they have something again");
        newcomers.handle_unwatched();
        assert!(!newcomers.may_be_received_from(), "it could not be watched behind its answer");
    }
}
