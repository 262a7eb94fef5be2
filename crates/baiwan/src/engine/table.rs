//! The core's connections: where they live, when they are due, and which have something to do.
//!
//! | file | part |
//! |---|---|
//! | `state` | **the states**, as a drawing and a table |
//! | `slot`, `peer` | what a connection owns |
//! | `lifetime` | how long connections may last, where a setting asks |
//! | `slab` | where slots live, and beside them, found by a key, the parts that only some connections have |
//! | `wheel` | when they are due |
//! | `waiting` | which wait for their next request, and since when, where a core watches for overload |
//!
//! It decides nothing. The invariants: a connection is at most once in the ready queue, and at most once among those that wait; one whose
//! deadline is not `NEVER` is in the wheel.

mod lifetime;
mod peer;
mod slab;
mod slot;
mod state;
mod waiting;
mod wheel;

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};

use baiwan_driver::{Peer, Token};
use baiwan_http1::begins_request;
use tokio::time::Instant;

pub(super) use self::lifetime::Lifetime;
use self::lifetime::Lifetimes;
pub(super) use self::peer::CompactPeer;
use self::slab::Slab;
pub(super) use self::slot::{Busy, Flags, SetAside, Slot};
use self::slot::{Key, Slots};
use self::state::note_edge;
#[cfg(test)]
pub(super) use self::state::taken;
pub(super) use self::state::{Left, State};
pub(super) use self::waiting::End;
use self::waiting::Waiting;
#[cfg(any(test, feature = "simulation"))]
pub(super) use self::wheel::Link;
use self::wheel::Wheel;
use crate::clock::Tick;
use crate::status::ConnectionState;

/// Parts of busy connections that come and go together: few, because an idle core keeps one chunk.
const BUSY_CHUNK: usize = 64;

/// The connections of a core.
#[derive(Debug)]
pub(super) struct Table<S> {
    slots: Slots<S>,
    /// What those hold that are not idle: found by the key in their slot.
    busy: Slab<Busy, BUSY_CHUNK>,
    lifetimes: Lifetimes,
    wheel: Wheel,
    /// Connections with something to do, each at most once; see `Flags::QUEUED`.
    ready: VecDeque<Token>,
    /// Those that expect a request and may have one, where a core watches for overload: then they are here instead, each at most once; see
    /// `Flags::WAITING`.
    waiting: Option<Waiting>,
    /// How many are in each state, by its number.
    census: [u32; State::COUNT],
    /// How many are `Flags::UNCOUNTED`.
    turned_away: usize,
    /// Those that were `Flags::APP` and are gone since the last turn.
    gone: Vec<Token>,
}

impl<S> Table<S> {
    pub(super) fn new(now: Tick) -> Self {
        let (slots, busy) = (Slab::new(), Slab::new());
        Self {
            slots,
            busy,
            lifetimes: Lifetimes::default(),
            wheel: Wheel::new(now),
            ready: VecDeque::new(),
            waiting: None,
            census: [0; State::COUNT],
            turned_away: 0,
            gone: Vec::new(),
        }
    }

    /// An empty table whose tokens are not those of this one.
    pub(super) fn successor(&self, now: Tick) -> Self {
        let mut next = Self { slots: self.slots.successor(), ..Self::new(now) };
        next.waiting = self.waiting.as_ref().map(Waiting::successor);
        next
    }

    /// How many connections are in each state, as an operator tells them apart.
    pub(super) fn by_state(&self) -> [u64; ConnectionState::ALL.len()] {
        let mut counts = [0; ConnectionState::ALL.len()];
        let states = State::SHOWN.into_iter().zip(self.census);
        states.for_each(|(state, count)| counts[state as usize] += u64::from(count));
        counts
    }

    /// How many connections there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// One more than the highest index that can be in use.
    pub(super) fn end(&self) -> u32 {
        self.slots.end()
    }

    /// Takes a connection in, with its `lifetime` where a setting asks for one.
    pub(super) fn insert(&mut self, socket: S, peer: Peer, lifetime: Option<Lifetime>) -> u32 {
        let slot = Slot::new(socket, peer);
        self.census[slot.state.number()] += 1;
        let index = self.slots.insert(slot);
        self.lifetimes.set(index, lifetime);
        index
    }

    /// How long a connection may last, if a setting asks.
    #[inline]
    pub(super) fn lifetime(&self, index: u32) -> Option<&Lifetime> {
        self.lifetimes.get(index)
    }

    /// As [`lifetime`](Self::lifetime), to change it.
    #[inline]
    pub(super) fn lifetime_mut(&mut self, index: u32) -> Option<&mut Lifetime> {
        self.lifetimes.get_mut(index)
    }

    /// Takes a connection out, wherever it is, with what it holds.
    ///
    /// # Panics
    /// If the slot is free.
    pub(super) fn remove(&mut self, index: u32) -> (Slot<S>, Option<Busy>) {
        self.wheel.remove(&mut self.slots, index);
        if self.slots[index].flags.has(Flags::APP) {
            self.gone.push(self.slots.token(index));
        }
        if self.slots[index].flags.has(Flags::QUEUED) && self.ready.back() == Some(&self.slots.token(index)) {
            // Only if it is the last: a search would cost more than the empty visit.
            self.ready.pop_back();
        }
        let slot = self.slots.take(index).expect("a connection is taken out once");
        self.turned_away -= usize::from(slot.flags.has(Flags::UNCOUNTED));
        self.census[slot.state.number()] -= 1;
        let busy = slot.busy.and_then(|key| self.busy.take(key.index()));
        (slot, busy)
    }

    /// Takes the token of a connection that had an app of its own and is gone.
    #[inline]
    pub(super) fn take_gone(&mut self) -> Option<Token> {
        self.gone.pop()
    }

    /// Takes a connection out, and trusts nothing but its slot: the wheel may be as a panic has left it.
    pub(super) fn salvage(&mut self, index: u32) -> Option<(Slot<S>, Option<Busy>)> {
        let slot = self.slots.take(index)?;
        let busy = slot.busy.and_then(|key| self.busy.take(key.index()));
        Some((slot, busy))
    }

    /// Marks a connection as not counted among the server's: it is turned away.
    pub(super) fn turn_away(&mut self, index: u32) {
        self.slots[index].flags.set(Flags::UNCOUNTED);
        self.turned_away += 1;
    }

    /// How many connections are being turned away.
    pub(super) fn turned_away(&self) -> usize {
        self.turned_away
    }

    /// What a connection holds while it is not idle; none if it holds nothing, or is gone.
    #[inline]
    pub(super) fn busy(&self, index: u32) -> Option<&Busy> {
        let key = self.slots.get(index)?.busy?;
        Some(&self.busy[key.index()])
    }

    /// As [`busy`](Self::busy), to change it.
    #[inline]
    pub(super) fn busy_mut(&mut self, index: u32) -> Option<&mut Busy> {
        let key = self.slots.get(index)?.busy?;
        Some(&mut self.busy[key.index()])
    }

    /// A connection, and what it holds.
    ///
    /// # Panics
    /// If the slot is free.
    #[inline(always)]
    pub(super) fn both(&mut self, index: u32) -> (&mut Slot<S>, Option<&mut Busy>) {
        let slot = &mut self.slots[index];
        let busy = slot.busy.map(|key| &mut self.busy[key.index()]);
        (slot, busy)
    }

    /// Has a connection hold what a busy one does.
    ///
    /// # Panics
    /// If the slot is free.
    pub(super) fn activate(&mut self, index: u32) -> &mut Busy {
        let slot = &mut self.slots[index];
        let key = *slot.busy.get_or_insert_with(|| Key::new(self.busy.insert(Busy::new())));
        &mut self.busy[key.index()]
    }

    /// Lets go of what a connection holds.
    ///
    /// # Panics
    /// If the slot is free.
    pub(super) fn deactivate(&mut self, index: u32) {
        if let Some(key) = self.slots[index].busy.take() {
            drop(self.busy.take(key.index()));
        }
    }

    /// How many connections hold more than their slot.
    pub(super) fn busy_len(&self) -> usize {
        self.busy.len()
    }

    /// Whether a connection owes bytes to its peer. One that is gone owes nothing.
    #[inline]
    pub(super) fn owes(&self, index: u32) -> bool {
        self.busy(index).is_some_and(|busy| !busy.output.is_empty())
    }

    /// Whether part of a request, or a whole one, is set aside.
    pub(super) fn holds_request(&self, index: u32) -> bool {
        self.busy(index).is_some_and(|busy| begins_request(busy.set_aside_bytes()))
    }

    pub(super) fn get(&self, index: u32) -> Option<&Slot<S>> {
        self.slots.get(index)
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
        // A token, because the place may have another tenant by the time that its turn comes.
        let token = self.slots.token(index);
        let slot = &mut self.slots[index];
        match &mut self.waiting {
            Some(waiting) if slot.state.expects_request() => {
                // One that has no request waits for nothing yet: the next would be taken to be as old as this.
                let begins = slot.has_request() && !slot.flags.has(Flags::WAITING);
                if begins {
                    slot.flags.set(Flags::WAITING);
                    waiting.push(token, slot.flags.has(Flags::INPUT));
                }
            }
            _ if !slot.flags.has(Flags::QUEUED) => {
                slot.flags.set(Flags::QUEUED);
                self.ready.push_back(token);
            }
            _ => {}
        }
    }

    /// How many have something to do, or had; but for [`waiting`](Self::waiting).
    pub(super) fn queued(&self) -> usize {
        self.ready.len()
    }

    /// The next that has something to do; `None` if it is gone since, or waits for its request to be served, or if none is queued: the last
    /// one leaves the queue when it is [taken out](Self::remove), also where the visits of a turn were counted before.
    pub(super) fn next_queued(&mut self) -> Option<u32> {
        let token = self.ready.pop_front()?;
        let index = self.slots.find(token)?;
        let slot = &mut self.slots[index];
        slot.flags.clear(Flags::QUEUED);
        if self.waiting.is_some() && slot.state.expects_request() {
            // It was not ready for a request before now.
            self.enqueue(index);
            return None;
        }
        Some(index)
    }

    /// Has those that expect a request, and are ready, wait in a queue of their own ([`next_waiting`](Self::next_waiting)) from now on.
    pub(super) fn separate_waiting(&mut self, now: Instant) {
        self.waiting = Some(Waiting::new(now));
    }

    /// How many wait there.
    #[inline]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.as_ref().map_or(0, Waiting::len)
    }

    /// Those that have come there since the last call became ready at `at`.
    pub(super) fn stamp_waiting(&mut self, at: Instant) {
        if let Some(waiting) = &mut self.waiting {
            waiting.stamp(at);
        }
    }

    /// Those that have come there since the last call became ready one after the other, from `begin` to `end`.
    pub(super) fn spread_waiting(&mut self, begin: Instant, end: Instant) {
        if let Some(waiting) = &mut self.waiting {
            waiting.spread(begin, end);
        }
    }

    /// Those that were taken there in this turn, and have received more, wait on.
    pub(super) fn end_turn_of_waiting(&mut self, now: Instant) {
        if let Some(waiting) = &mut self.waiting {
            waiting.end_turn(now);
        }
    }

    /// Since when the oldest, or the newest, waits there.
    pub(super) fn waiting_since(&self, end: End) -> Option<Instant> {
        self.waiting.as_ref()?.since(end)
    }

    /// Takes the oldest, or the newest, out; `None` if it is gone since, or expects no request any more, or none waits.
    pub(super) fn next_waiting(&mut self, end: End) -> Option<u32> {
        let token = self.waiting.as_mut()?.take(end)?;
        let index = self.slots.find(token)?;
        let slot = &mut self.slots[index];
        slot.flags.clear(Flags::WAITING);
        if !slot.state.expects_request() {
            // A last look at its deadline has found what it waited for. What is left to do needs no patience.
            self.enqueue(index);
            return None;
        }
        slot.has_request().then_some(index)
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
        self.census[slot.state.number()] -= 1;
        self.census[state.number()] += 1;
        slot.state = state;
        if slot.put_off(deadline) {
            self.wheel.schedule(&mut self.slots, index);
        }
    }

    /// Has the deadline of an exchange, or of what it owes, be the least of those that its connection holds.
    pub(super) fn update_deadline(&mut self, index: u32) {
        let due = self.busy(index).map_or(Tick::NEVER, Busy::due);
        self.set_deadline(index, due);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> (Table<()>, u32) {
        let mut table = Table::new(Tick(0));
        table.separate_waiting(Instant::now());
        let index = table.insert((), Peer::Unix, None);
        (table, index)
    }

    #[test]
    fn whoever_has_no_request_does_not_wait_to_be_served() {
        let (mut table, index) = table();
        table.enqueue(index);
        assert_eq!((table.queued(), table.waiting()), (0, 0));
        table[index].flags.set(Flags::READABLE);
        table.enqueue(index);
        table.enqueue(index);
        assert_eq!((table.queued(), table.waiting()), (0, 1));
        // It was looked at meanwhile: what comes next has not waited.
        table[index].flags.clear(Flags::READABLE);
        assert_eq!((table.next_waiting(End::Oldest), table.waiting()), (None, 0));
    }

    #[test]
    fn those_that_are_queued_and_gone_are_not_visited() {
        let mut table: Table<()> = Table::new(Tick(0));
        let indexes: Vec<_> = (0..3).map(|_| table.insert((), Peer::Unix, None)).collect();
        for index in &indexes {
            table.enqueue(*index);
        }
        let visits = table.queued();
        for gone in [0, 2] {
            table.remove(indexes[gone]);
        }
        let visited: Vec<_> = (0..visits).filter_map(|_| table.next_queued()).collect();
        assert_eq!((visited, table.queued()), (vec![indexes[1]], 0));
    }

    #[test]
    fn an_exchange_that_began_while_its_connection_waited_has_its_turn_like_any_other() {
        let (mut table, index) = table();
        table[index].flags.set(Flags::READABLE);
        table.enqueue(index);
        table.enter(index, State::Exchange, Tick::NEVER);
        for _ in 0..2 {
            table.enqueue(index);
        }
        assert_eq!((table.queued(), table.waiting()), (1, 1));
        assert_eq!((table.next_queued(), table.queued()), (Some(index), 0));
        // Its place among those that wait is none any more, but what it may still have to do is done.
        assert_eq!((table.next_waiting(End::Oldest), table.waiting()), (None, 0));
        assert_eq!(table.next_queued(), Some(index));
    }
}
