//! The core's connections: where they live, when they are due, and which have something to do.
//!
//! | file | part |
//! |---|---|
//! | `state` | **the states**, as a drawing and a table |
//! | `slot`, `peer` | what a connection owns |
//! | `slab` | where slots live |
//! | `wheel` | when they are due |
//!
//! It decides nothing. The invariants: a connection is in the ready queue at most once, and one whose deadline is not `NEVER` is in the
//! wheel.

mod peer;
mod slab;
mod slot;
mod state;
mod wheel;

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};

use baiwan_driver::{Peer, Token};

use self::slab::Slab;
pub(super) use self::slot::{Exchange, Flags, Slot};
use self::state::note_edge;
#[cfg(test)]
pub(super) use self::state::taken;
pub(super) use self::state::{Left, State};
#[cfg(any(test, feature = "simulation"))]
pub(super) use self::wheel::Link as WheelLink;
use self::wheel::Wheel;
use crate::clock::Tick;

/// The connections of a core.
#[derive(Debug)]
pub(super) struct Table<S> {
    slots: Slab<Slot<S>>,
    wheel: Wheel,
    /// Connections with something to do, each at most once; see `Flags::QUEUED`.
    ready: VecDeque<Token>,
}

impl<S> Table<S> {
    pub(super) fn new(now: Tick) -> Self {
        Self { slots: Slab::new(), wheel: Wheel::new(now), ready: VecDeque::new() }
    }

    /// An empty table whose tokens are not those of this one.
    pub(super) fn successor(&self, now: Tick) -> Self {
        Self { slots: self.slots.successor(), wheel: Wheel::new(now), ready: VecDeque::new() }
    }

    /// How many connections there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// One more than the highest index that can be in use.
    pub(super) fn end(&self) -> u32 {
        self.slots.end()
    }

    pub(super) fn insert(&mut self, socket: S, peer: Peer) -> u32 {
        self.slots.insert(Slot::new(socket, peer))
    }

    /// Takes a connection out, wherever it is.
    ///
    /// # Panics
    /// If the slot is free.
    pub(super) fn remove(&mut self, index: u32) -> Slot<S> {
        self.wheel.remove(&mut self.slots, index);
        self.slots.remove(index)
    }

    /// Takes a connection out, and trusts nothing but its slot: the wheel may be as a panic has left it.
    pub(super) fn salvage(&mut self, index: u32) -> Option<Slot<S>> {
        self.slots.get(index)?;
        Some(self.slots.remove(index))
    }

    pub(super) fn get(&self, index: u32) -> Option<&Slot<S>> {
        self.slots.get(index)
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Slot<S>> {
        self.slots.get_mut(index)
    }

    /// The token of a connection.
    ///
    /// # Panics
    /// If the slot is free.
    pub(super) fn token(&self, index: u32) -> Token {
        self.slots.token(index)
    }

    /// The connection that a token stands for, if it is still there.
    pub(super) fn find(&self, token: Token) -> Option<u32> {
        self.slots.find(token)
    }

    /// Has a connection looked after when its turn comes.
    pub(super) fn enqueue(&mut self, index: u32) {
        let token = self.slots.token(index);
        let flags = &mut self.slots[index].flags;
        if !flags.has(Flags::QUEUED) {
            flags.set(Flags::QUEUED);
            // A token, because the place may have another tenant by the time that its turn comes.
            self.ready.push_back(token);
        }
    }

    /// How many have something to do, or had.
    pub(super) fn queued(&self) -> usize {
        self.ready.len()
    }

    /// The next that has something to do; `None` if it is gone since.
    ///
    /// # Panics
    /// If none is queued.
    pub(super) fn next_queued(&mut self) -> Option<u32> {
        let token = self.ready.pop_front().expect("no more are visited than were queued");
        self.slots.find(token)
    }

    /// Puts a connection into a state, until a deadline.
    ///
    /// # Panics
    /// If that state cannot follow the one that it is in.
    #[inline]
    pub(super) fn enter(&mut self, index: u32, state: State, deadline: Tick) {
        let slot = &mut self.slots[index];
        assert!(slot.state.may_become(state), "{:?} does not become {state:?}", slot.state);
        note_edge(slot.state, state);
        slot.state = state;
        if slot.put_off(deadline) {
            self.wheel.schedule(&mut self.slots, index);
        }
    }

    pub(super) fn set_deadline(&mut self, index: u32, deadline: Tick) {
        if self.slots[index].put_off(deadline) {
            self.wheel.schedule(&mut self.slots, index);
        }
    }

    /// Appends connections whose deadline is at or before `now` to `expired`, and looks at no more than `visits_max`.
    pub(super) fn expire(&mut self, now: Tick, visits_max: usize, expired: &mut Vec<u32>) {
        self.wheel.expire(&mut self.slots, now, visits_max, expired);
    }

    /// When to ask for the expired again; `None` if no deadline is set. May be earlier than the first deadline.
    pub(super) fn next_due(&self) -> Option<Tick> {
        self.wheel.next_due()
    }

    /// How many deadlines are set.
    pub(super) fn deadlines(&self) -> usize {
        self.wheel.len()
    }
}

/// # Panics
/// If the slot is free.
impl<S> Index<u32> for Table<S> {
    type Output = Slot<S>;

    fn index(&self, index: u32) -> &Slot<S> {
        &self.slots[index]
    }
}

/// # Panics
/// If the slot is free.
impl<S> IndexMut<u32> for Table<S> {
    fn index_mut(&mut self, index: u32) -> &mut Slot<S> {
        &mut self.slots[index]
    }
}
