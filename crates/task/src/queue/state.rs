//! What a queue knows, and how it changes: pure, under the lock of its owner.
//!
//! Who waits is not handed an item (or a place for one) but the *promise* of one. The item stays where it is until the getter
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
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::Waker;

use super::line::{Line, Stand, Standing};

/// An item, and when it was put. In the order of [`Taken`](super::Taken), which says why.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Item<T> {
    pub(super) value: T,
    pub(super) since_ns: u64,
}

/// Who is to be woken, after the lock was released.
#[must_use = "somebody waits for it"]
#[derive(Debug)]
pub(super) enum Woken {
    One(Option<Waker>),
    Many(Vec<Waker>),
}

impl Woken {
    /// Wakes them.
    ///
    /// # Panics
    /// As the wakers do. If one of many does, the others are called first.
    #[inline]
    pub(super) fn wake(self) {
        match self {
            Woken::One(waker) => waker.into_iter().for_each(Waker::wake),
            Woken::Many(wakers) => wake_all(wakers),
        }
    }
}

fn wake_all(wakers: Vec<Waker>) {
    let mut panic = None;
    for waker in wakers {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
            panic.get_or_insert(payload);
        }
    }
    if let Some(payload) = panic {
        resume_unwind(payload);
    }
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
    Done(Item<T>, Woken),
    /// There is no item that is free.
    Empty,
    /// There is no item, and none will be put.
    Drained,
}

/// Sums since the queue was made.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) length_max: usize,
    pub(super) puts: u64,
    pub(super) gets: u64,
    pub(super) put_waits: u64,
    pub(super) get_waits: u64,
}

/// See the module's comment.
#[derive(Debug)]
pub(super) struct State<T> {
    items: VecDeque<Item<T>>,
    capacity: usize,
    items_promised: usize,
    places_promised: usize,
    closed: bool,
    counts: Counts,
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
            counts: Counts::default(),
            getters: Line::new(),
            putters: Line::new(),
            joiners: Line::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// When the item was put that is the next to be taken.
    pub(super) fn next_since_ns(&self) -> Option<u64> {
        self.items.front().map(|item| item.since_ns)
    }

    /// Puts the value, if there is a place that nobody waits for.
    #[inline]
    pub(super) fn put(&mut self, value: T, since_ns: u64) -> PutStep<T> {
        if self.closed {
            PutStep::Closed(value)
        } else if !self.has_free_place() {
            PutStep::Full(value)
        } else {
            PutStep::Done(self.push(Item { value, since_ns }))
        }
    }

    /// As [`put`](State::put), or not at all: whenever something is out of the ordinary, the caller has to go the long way.
    #[inline]
    pub(super) fn put_quickly(&mut self, value: T, since_ns: u64) -> Result<Option<Waker>, T> {
        if self.closed || !self.has_free_place() || !self.joiners.is_empty() {
            return Err(value);
        }
        Ok(self.push(Item { value, since_ns }))
    }

    /// As [`put`](State::put), for one who stands in line.
    pub(super) fn put_as(&mut self, key: usize, value: T, since_ns: u64) -> PutStep<T> {
        if self.closed {
            PutStep::Closed(value)
        } else if self.putters.standing(key) == Standing::Promised {
            self.places_promised -= 1;
            PutStep::Done(self.push(Item { value, since_ns }))
        } else {
            PutStep::Full(value)
        }
    }

    /// Takes the first item, if there is one that nobody waits for.
    pub(super) fn get(&mut self) -> GetStep<T> {
        let step = if self.has_free_item() { self.pop() } else { None };
        match step {
            Some((item, woken)) => GetStep::Done(item, woken),
            None if self.closed && self.items.is_empty() => GetStep::Drained,
            None => GetStep::Empty,
        }
    }

    /// As [`get`](State::get), or not at all, as [`put_quickly`](State::put_quickly). What was taken leaves a place, which is to be
    /// [promised](State::promise_place).
    #[inline]
    pub(super) fn get_quickly(&mut self) -> Option<Item<T>> {
        if self.closed || !self.has_free_item() {
            return None;
        }
        self.counts.gets = self.counts.gets.wrapping_add(1);
        self.items.pop_front()
    }

    /// As [`get`](State::get), for one who stands in line.
    pub(super) fn get_as(&mut self, key: usize) -> GetStep<T> {
        match self.getters.standing(key) {
            Standing::Waiting => GetStep::Empty,
            Standing::Promised => {
                // Now it is free, and there.
                self.items_promised -= 1;
                self.get()
            }
            Standing::Dismissed => self.get(),
        }
    }

    /// Takes an item back that was taken, as the next to be taken; more than the capacity, if need be.
    pub(super) fn put_back(&mut self, item: Item<T>) -> Option<Waker> {
        self.items.push_front(item);
        self.counts.length_max = self.counts.length_max.max(self.items.len());
        self.promise_item()
    }

    /// A getter gives up. With its waker, to be dropped.
    pub(super) fn leave_getters(&mut self, key: usize) -> (Option<Waker>, Option<Waker>) {
        let promised = self.getters.standing(key) == Standing::Promised;
        let waker = self.getters.leave(key);
        if promised {
            self.items_promised -= 1;
        }
        (if promised { self.promise_item() } else { None }, waker)
    }

    /// A putter gives up. With its waker, to be dropped.
    pub(super) fn leave_putters(&mut self, key: usize) -> (Option<Waker>, Option<Waker>) {
        let promised = self.putters.standing(key) == Standing::Promised;
        let waker = self.putters.leave(key);
        if promised {
            self.places_promised -= 1;
        }
        (if promised { self.promise_place() } else { None }, waker)
    }

    /// Takes nothing in any more. Whoever waits in vain from now on is to be woken.
    pub(super) fn close(&mut self) -> Woken {
        self.closed = true;
        let mut wakers = self.putters.dismiss_all();
        if self.items.is_empty() {
            wakers.append(&mut self.getters.dismiss_all());
        }
        Woken::Many(wakers)
    }

    /// Stands in line for an item; see [`Line::stand`].
    pub(super) fn stand_for_item(
        &mut self,
        key: &mut Option<usize>,
        current: &Waker,
        spare: &mut Option<Waker>,
    ) -> Stand {
        let stand = self.getters.stand(key, current, spare);
        self.counts.get_waits += u64::from(stand == Stand::Anew);
        stand
    }

    /// Stands in line for a place; see [`Line::stand`].
    pub(super) fn stand_for_place(
        &mut self,
        key: &mut Option<usize>,
        current: &Waker,
        spare: &mut Option<Waker>,
    ) -> Stand {
        let stand = self.putters.stand(key, current, spare);
        self.counts.put_waits += u64::from(stand == Stand::Anew);
        stand
    }

    #[cfg(all(test, not(any(baiwan_loom, baiwan_shuttle))))]
    pub(super) fn begin_counts_at(&mut self, puts: u64) {
        self.counts.puts = puts;
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
        self.counts.puts = self.counts.puts.wrapping_add(1);
        self.counts.length_max = self.counts.length_max.max(self.items.len());
        self.promise_item()
    }

    fn pop(&mut self) -> Option<(Item<T>, Woken)> {
        let item = self.items.pop_front()?;
        self.counts.gets = self.counts.gets.wrapping_add(1);
        let woken = match self.closed {
            false => Woken::One(self.promise_place()),
            true if self.items.is_empty() => Woken::Many(self.getters.dismiss_all()),
            true => Woken::One(None),
        };
        Some((item, woken))
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
