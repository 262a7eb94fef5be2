//! A lazy hashed timer wheel (Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", 1987, scheme 6).
//!
//! Each connection has one deadline, kept in its slot, and is linked into at most one bucket. Moving a deadline further away
//! only stores it: when the bucket fires, the wheel compares and links the slot again where it now belongs. So the common
//! case, activity on a connection, costs one store. The wheel allocates nothing: the links live in the slots.
//!
//! It does not know the time, nor what a deadline means. The invariant: a linked slot's bucket fires no later than its
//! deadline's tick.

use std::cell::Cell;

use crate::clock::Tick;

/// 131 seconds of ticks, so that an idle connection is looked at once in its usual 75 seconds.
const BUCKETS: usize = 2048;
const _: () = assert!(BUCKETS.is_power_of_two() && BUCKETS.is_multiple_of(64));

/// No slot.
pub(crate) const NONE: u32 = u32::MAX;

/// A slot's place in the wheel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Link {
    next: u32,
    /// The slot before this one, or `NONE` for the first of its bucket.
    prev: u32,
    /// The tick at which the bucket fires; `NEVER` when not linked.
    due: Tick,
}

impl Link {
    pub(crate) const UNLINKED: Self = Self { next: NONE, prev: NONE, due: Tick::NEVER };

    /// Whether the slot's bucket fires no later than a deadline, so that this need not be scheduled.
    pub(crate) fn fires_by(&self, deadline: Tick) -> bool {
        self.due <= deadline
    }
}

/// Where the links and deadlines live.
pub(crate) trait Slots {
    fn link(&mut self, index: u32) -> &mut Link;
    fn deadline(&self, index: u32) -> Tick;
}

#[derive(Debug)]
pub(crate) struct Wheel {
    first: Box<[u32; BUCKETS]>,
    /// One bit for each bucket that is not empty.
    occupied: [u64; BUCKETS / 64],
    /// The next tick that has not fired yet.
    cursor: Tick,
    len: usize,
    /// The first tick at which a bucket fires, as long as that is known; else `NEVER`. Each turn asks for it several times.
    next: Cell<Tick>,
}

impl Wheel {
    pub(crate) fn new(now: Tick) -> Self {
        let (first, occupied, next) = (Box::new([NONE; BUCKETS]), [0; BUCKETS / 64], Cell::new(Tick::NEVER));
        Self { first, occupied, cursor: now, len: 0, next }
    }

    /// How many slots are linked.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Tells the wheel that the slot's deadline was stored anew.
    pub(crate) fn schedule(&mut self, slots: &mut impl Slots, index: u32) {
        let deadline = slots.deadline(index);
        let link = *slots.link(index);
        if link.fires_by(deadline) {
            return;
        }
        let due = link.due;
        if due != Tick::NEVER {
            self.remove(slots, index);
        }
        self.insert(slots, index, deadline);
    }

    /// Takes a slot out. Nothing happens if it is not linked.
    pub(crate) fn remove(&mut self, slots: &mut impl Slots, index: u32) {
        let Link { next, prev, due } = std::mem::replace(slots.link(index), Link::UNLINKED);
        if due == Tick::NEVER {
            return;
        }
        self.len -= 1;
        if next != NONE {
            slots.link(next).prev = prev;
        }
        match prev {
            NONE => {
                let bucket = bucket(due);
                self.first[bucket] = next;
                if next == NONE {
                    self.occupied[bucket / 64] &= !(1 << (bucket % 64));
                    if self.next.get() == due {
                        self.next.set(Tick::NEVER);
                    }
                }
            }
            prev => slots.link(prev).next = next,
        }
    }

    fn insert(&mut self, slots: &mut impl Slots, index: u32, deadline: Tick) {
        // A tick that has fired already is over: what is late fires with the next one. What is further away than a whole
        // rotation is looked at when the rotation ends.
        let due = Tick(deadline.0.clamp(self.cursor.0, self.cursor.0 + BUCKETS as u32 - 1));
        let bucket = bucket(due);
        let next = std::mem::replace(&mut self.first[bucket], index);
        self.occupied[bucket / 64] |= 1 << (bucket % 64);
        if due < self.next.get() && (self.next.get() != Tick::NEVER || self.len == 0) {
            self.next.set(due);
        }
        if next != NONE {
            slots.link(next).prev = index;
        }
        *slots.link(index) = Link { next, prev: NONE, due };
        self.len += 1;
    }

    /// When the wheel wants to be asked again; `None` if it is empty. May be earlier than the first deadline.
    #[inline]
    pub(crate) fn next_due(&self) -> Option<Tick> {
        if self.len == 0 {
            return None;
        }
        if self.next.get() == Tick::NEVER {
            self.next.set(self.find_next());
        }
        Some(self.next.get())
    }

    /// The tick at which the first bucket fires that is not empty.
    fn find_next(&self) -> Tick {
        let start = bucket(self.cursor);
        let words = self.occupied.len();
        // The first word is looked at twice: from the cursor on now, and up to the cursor after one rotation.
        for step in 0..=words {
            let word = (start / 64 + step) % words;
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            }
            if bits != 0 {
                let found = word * 64 + bits.trailing_zeros() as usize;
                let ahead = (found + BUCKETS - start) % BUCKETS;
                return Tick(self.cursor.0 + ahead as u32);
            }
        }
        unreachable!("a linked slot has its bucket marked")
    }

    /// Takes out at most `max` slots whose deadline is at or before `now` and appends them to `expired`. Looks at no more than
    /// `visits_max` slots. Returns whether it is done with `now`; if not, ask again.
    pub(crate) fn expire(
        &mut self,
        slots: &mut impl Slots,
        now: Tick,
        visits_max: usize,
        expired: &mut Vec<u32>,
    ) -> bool {
        let mut visits = 0;
        while let Some(due) = self.next_due().filter(|due| *due <= now) {
            self.cursor = due;
            let bucket = bucket(due);
            while self.first[bucket] != NONE {
                if visits == visits_max {
                    return false;
                }
                visits += 1;
                let index = self.first[bucket];
                self.remove(slots, index);
                match slots.deadline(index) {
                    deadline if deadline <= now => expired.push(index),
                    Tick::NEVER => {}
                    // Later than `now`, so never in the bucket that is being emptied.
                    deadline => self.insert(slots, index, deadline),
                }
            }
            self.cursor = Tick(due.0 + 1);
        }
        self.cursor = Tick(self.cursor.0.max(now.0));
        true
    }
}

fn bucket(tick: Tick) -> usize {
    tick.0 as usize % BUCKETS
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Table(Vec<(Link, Tick)>);

    impl Slots for Table {
        fn link(&mut self, index: u32) -> &mut Link {
            &mut self.0[index as usize].0
        }

        fn deadline(&self, index: u32) -> Tick {
            self.0[index as usize].1
        }
    }

    fn table(len: usize) -> Table {
        Table(vec![(Link::UNLINKED, Tick::NEVER); len])
    }

    fn all_expired(wheel: &mut Wheel, slots: &mut Table, now: u32) -> Vec<u32> {
        let mut expired = Vec::new();
        while !wheel.expire(slots, Tick(now), 3, &mut expired) {}
        expired.sort_unstable();
        expired
    }

    /// A small generator (xorshift64, Marsaglia 2003), so that a failure is repeatable.
    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn every_deadline_fires_exactly_at_its_tick_as_a_naive_table_does() {
        let mut seed = 0x5eed;
        let mut slots = table(64);
        let mut wheel = Wheel::new(Tick(0));
        let mut now = 0;
        for _ in 0..20_000 {
            let index = random(&mut seed) as u32 % 64;
            match random(&mut seed) % 4 {
                0 => {
                    slots.0[index as usize].1 = Tick::NEVER;
                    wheel.remove(&mut slots, index);
                }
                _ => {
                    let far = [10, 500, 10_000][random(&mut seed) as usize % 3];
                    slots.0[index as usize].1 = Tick(now + random(&mut seed) as u32 % far);
                    wheel.schedule(&mut slots, index);
                }
            }
            if random(&mut seed).is_multiple_of(3) {
                now += random(&mut seed) as u32 % 700;
                let naive: Vec<u32> = (0..64).filter(|i| slots.0[*i as usize].1 <= Tick(now)).collect();
                let earliest = slots.0.iter().map(|slot| slot.1).min().expect("there are slots");
                if let Some(due) = wheel.next_due() {
                    assert!(due <= earliest.max(Tick(due.0)), "asked no later than the first deadline");
                }
                assert_eq!(all_expired(&mut wheel, &mut slots, now), naive);
                for index in naive {
                    slots.0[index as usize].1 = Tick::NEVER;
                }
            }
            let linked = slots.0.iter().filter(|slot| slot.0 != Link::UNLINKED).count();
            assert_eq!(wheel.len(), linked);
            let first = slots.0.iter().map(|slot| slot.0.due).min().filter(|due| *due != Tick::NEVER);
            assert_eq!(wheel.next_due(), first);
            let unlinked_deadlines = slots.0.iter().filter(|slot| slot.1 != Tick::NEVER && slot.0 == Link::UNLINKED);
            assert_eq!(unlinked_deadlines.count(), 0);
        }
    }

    #[test]
    fn moving_a_deadline_away_does_not_touch_the_wheel() {
        let mut slots = table(1);
        let mut wheel = Wheel::new(Tick(0));
        slots.0[0].1 = Tick(10);
        wheel.schedule(&mut slots, 0);
        let link = slots.0[0].0;
        slots.0[0].1 = Tick(1000);
        wheel.schedule(&mut slots, 0);
        assert_eq!(slots.0[0].0, link);
        assert!(all_expired(&mut wheel, &mut slots, 999).is_empty());
        assert_eq!(all_expired(&mut wheel, &mut slots, 1000), [0]);
        assert_eq!(wheel.next_due(), None);
    }

    #[test]
    fn a_jump_of_the_clock_fires_everything_once() {
        let mut slots = table(3000);
        let mut wheel = Wheel::new(Tick(0));
        for index in 0..3000 {
            slots.0[index as usize].1 = Tick(index * 7);
            wheel.schedule(&mut slots, index);
        }
        assert_eq!(all_expired(&mut wheel, &mut slots, 1_000_000).len(), 3000);
        assert_eq!(wheel.len(), 0);
    }
}
