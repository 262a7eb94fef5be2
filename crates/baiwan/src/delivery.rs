//! How fast a peer takes its answers while bytes wait for it.
//!
//! It has patience as a body's peer has ([`Pace`]), which is spent while the kernel refuses bytes, and only then: an app that has nothing
//! to send is not the peer's fault. What earns patience is what the peer has acknowledged. The engine does not see that, it sees what the
//! kernel takes, and a kernel that is full says for a long time nothing of a peer that reads slowly. So when the patience is over the
//! kernel is asked how much it holds, and what is no longer there has been acknowledged.
//!
//! It is *not* the write timeout, which judges the longest pause. The invariant: a peer that takes the minimum rate is never too slow.

use crate::clock::{Clock, Tick};
use crate::pace::Pace;

/// A peer that has taken this number of bytes of an answer has shown that it reads.
const SHOWN_BYTES: u64 = 1 << 20;

/// What a peer has taken of what is owed to it.
#[derive(Debug)]
pub(crate) struct Delivery {
    pace: Pace,
    /// What the kernel has taken in all.
    taken: u64,
    /// The part of it that has earned no patience yet.
    unjudged: u64,
    /// What the kernel held when it was asked last.
    held: u64,
}

/// What a look at a peer has shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Look {
    /// It has acknowledged something since the last look.
    pub(crate) progress: bool,
    /// It is below the minimum rate, and its patience is over.
    pub(crate) too_slow: bool,
}

impl Delivery {
    pub(crate) fn new() -> Self {
        Self { pace: Pace::begin(Tick::NEVER), taken: 0, unjudged: 0, held: 0 }
    }

    /// When the peer is to be looked at; never, when nothing waits for it.
    pub(crate) fn due(&self) -> Tick {
        self.pace.due()
    }

    /// The kernel has taken `count` bytes. Returns whether the peer has just shown that it reads.
    pub(crate) fn handle_taken(&mut self, count: usize) -> bool {
        let before = self.taken;
        self.taken += count as u64;
        self.unjudged += count as u64;
        before < SHOWN_BYTES && self.taken >= SHOWN_BYTES
    }

    /// The kernel takes no more for now. `rate` is the minimum in bytes a second; 0 is none. `held` tells what the kernel holds, if it
    /// needs to be known.
    pub(crate) fn start(&mut self, clock: &Clock, rate: u32, held: impl FnOnce() -> u64) {
        if rate > 0 && !self.pace.is_waiting() {
            let acknowledged = self.acknowledged(held());
            self.pace.handle_bytes(acknowledged, clock, rate);
            self.pace.start(clock, rate);
        }
    }

    /// The kernel holds `held` bytes now.
    pub(crate) fn look(&mut self, clock: &Clock, rate: u32, held: u64) -> Look {
        let acknowledged = self.acknowledged(held);
        self.pace.handle_bytes(acknowledged, clock, rate);
        let too_slow = self.pace.due() <= clock.tick();
        if !too_slow {
            self.pace.start(clock, rate);
        }
        Look { progress: acknowledged > 0, too_slow }
    }

    /// Nothing waits any more.
    pub(crate) fn stop(&mut self, clock: &Clock, rate: u32) {
        if self.pace.is_waiting() {
            // What the kernel holds is judged when something waits again.
            self.pace.handle_bytes(std::mem::take(&mut self.unjudged) as usize, clock, rate);
            self.pace.stop();
        }
    }

    /// What the peer has acknowledged since the last look.
    fn acknowledged(&mut self, held: u64) -> usize {
        let before = std::mem::replace(&mut self.held, held);
        (before + std::mem::take(&mut self.unjudged)).saturating_sub(held) as usize
    }
}
