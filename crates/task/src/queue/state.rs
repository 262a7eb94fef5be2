//! What a queue knows, and how it changes: pure, under the lock of its owner.
//!
//! A task that waits is not handed an item (or a place for one) but the *promise* of one. The item stays where it is until the getter
//! comes for it, so its order is never lost, and when a getter gives up, the promise goes to the next.
//!
//! | event | what is promised, and to whom |
//! |---|---|
//! | an item comes in | if it is free, an item to the first getter |
//! | an item is taken | if that frees a place, a place to the first putter |
//! | a getter or putter gives up what it was promised | the same to the next one |
//! | the queue is closed | nothing any more to putters, who are all dismissed, whatever was promised |
//! | the last item of a closed queue is taken | the getters who are left are dismissed |
//!
//! Invariants, with `free` for what is not promised: items promised ≤ items; a getter waits only while no item is free, a putter
//! only while no place is. Nothing of the caller runs in here, neither a waker nor a destructor: what is to be woken or dropped
//! is handed out.

use std::collections::VecDeque;
use std::task::Waker;

use super::line::{Line, Standing};

/// An item, and when it was put. In the order of [`Taken`](super::Taken), which says why.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Item<T> {
    pub(super) value: T,
    pub(super) since_ns: u64,
}

/// Of one who gives up: the waker of the one who has its promise now, and its own, to be dropped.
pub(super) struct Parting {
    pub(super) woken: Option<Waker>,
    pub(super) dropped: Option<Waker>,
}

/// What an attempt to put came to.
#[derive(Debug)]
pub(super) enum PutStep<T> {
    /// The value is in the queue.
    Done(Option<Waker>),
    /// There is no place that is free.
    Full(T),
    Closed(T),
}

/// What an attempt to get came to.
#[derive(Debug)]
pub(super) enum GetStep<T> {
    /// With the putter who has its place now, and the getters who wait in vain.
    Done(Item<T>, Option<Waker>, Vec<Waker>),
    /// There is no item that is free.
    Empty,
    /// There is no item, and none will be put.
    Drained,
}

/// See the module's comment.
#[derive(Debug)]
pub(super) struct State<T> {
    items: VecDeque<Item<T>>,
    pub(super) capacity: usize,
    items_promised: usize,
    places_promised: usize,
    pub(super) closed: bool,
    /// Since the queue was made: the most items at once, and how many were put.
    pub(super) length_max: usize,
    pub(super) puts: u64,
    /// Those who wait for an item.
    pub(super) getters: Line,
    /// Those who wait for a place.
    pub(super) putters: Line,
    /// Those who wait until all is finished.
    pub(super) joiners: Line,
}

impl<T> State<T> {
    pub(super) fn new(capacity: usize) -> Self {
        State {
            items: VecDeque::new(),
            capacity,
            items_promised: 0,
            places_promised: 0,
            closed: false,
            length_max: 0,
            puts: 0,
            getters: Line::new(),
            putters: Line::new(),
            joiners: Line::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// When the item was put that is the next to be taken.
    pub(super) fn next_since_ns(&self) -> Option<u64> {
        self.items.front().map(|item| item.since_ns)
    }

    /// Puts the value, if there is a place that nobody waits for; for one who stands in line, if one was promised to it.
    #[inline]
    pub(super) fn put(&mut self, key: Option<usize>, value: T, since_ns: u64) -> PutStep<T> {
        if self.closed {
            return PutStep::Closed(value);
        }
        let has_place = match key {
            None => self.has_free_place(),
            Some(key) => self.putters.standing(key) == Standing::Promised,
        };
        if !has_place {
            return PutStep::Full(value);
        }
        self.places_promised -= usize::from(key.is_some());
        PutStep::Done(self.push(Item { value, since_ns }))
    }

    /// Takes the first item, if there is one that nobody waits for; for one who stands in line, if one was promised to it.
    pub(super) fn get(&mut self, key: Option<usize>) -> GetStep<T> {
        match key.map(|key| self.getters.standing(key)) {
            Some(Standing::Waiting) => return GetStep::Empty,
            // Now it is free, and there.
            Some(Standing::Promised) => self.items_promised -= 1,
            Some(Standing::Dismissed) | None => {}
        }
        let item = if self.has_free_item() { self.items.pop_front() } else { None };
        let is_drained = self.closed && self.items.is_empty();
        match item {
            Some(item) if is_drained => GetStep::Done(item, None, self.getters.dismiss_all()),
            Some(item) => GetStep::Done(item, self.promise_place(), Vec::new()),
            None if is_drained => GetStep::Drained,
            None => GetStep::Empty,
        }
    }

    /// As [`get`](State::get), or not at all: whenever something is out of the ordinary, the caller has to go the long way. What was
    /// taken leaves a place, which is to be [promised](State::promise_place).
    #[inline]
    pub(super) fn get_quickly(&mut self) -> Option<Item<T>> {
        if self.closed || !self.has_free_item() {
            return None;
        }
        self.items.pop_front()
    }

    /// Takes an item back that was taken, as the next to be taken; more than the capacity, if need be.
    pub(super) fn put_back(&mut self, item: Item<T>) -> Option<Waker> {
        self.items.push_front(item);
        self.length_max = self.length_max.max(self.items.len());
        self.promise_item()
    }

    /// A getter gives up.
    pub(super) fn leave_getters(&mut self, key: usize) -> Parting {
        let promised = self.getters.standing(key) == Standing::Promised;
        self.items_promised -= usize::from(promised);
        let dropped = self.getters.leave(key);
        Parting { woken: if promised { self.promise_item() } else { None }, dropped }
    }

    /// A putter gives up.
    pub(super) fn leave_putters(&mut self, key: usize) -> Parting {
        let promised = self.putters.standing(key) == Standing::Promised;
        self.places_promised -= usize::from(promised);
        let dropped = self.putters.leave(key);
        Parting { woken: if promised { self.promise_place() } else { None }, dropped }
    }

    /// Takes nothing in any more. Whoever waits in vain from now on is to be woken.
    pub(super) fn close(&mut self) -> Vec<Waker> {
        self.closed = true;
        let mut wakers = self.putters.dismiss_all();
        if self.items.is_empty() {
            wakers.append(&mut self.getters.dismiss_all());
        }
        wakers
    }

    fn has_free_item(&self) -> bool {
        self.items.len() > self.items_promised
    }

    fn has_free_place(&self) -> bool {
        // No sum: after items were put back there may be more of them than places.
        self.items.len() < self.capacity && self.places_promised < self.capacity - self.items.len()
    }

    #[inline]
    fn push(&mut self, item: Item<T>) -> Option<Waker> {
        self.items.push_back(item);
        // At one in a nanosecond these sums last for 584 years.
        self.puts = self.puts.wrapping_add(1);
        self.length_max = self.length_max.max(self.items.len());
        self.promise_item()
    }

    #[inline]
    fn promise_item(&mut self) -> Option<Waker> {
        if self.getters.is_empty() || !self.has_free_item() {
            return None;
        }
        self.items_promised += 1;
        self.getters.promise_first()
    }

    /// Promises a place to the first putter, if there is one that is free. With the one to be woken.
    #[inline]
    pub(super) fn promise_place(&mut self) -> Option<Waker> {
        if self.putters.is_empty() || !self.has_free_place() {
            return None;
        }
        self.places_promised += 1;
        self.putters.promise_first()
    }
}
