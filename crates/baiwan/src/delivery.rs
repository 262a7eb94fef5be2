//! How fast a peer takes its answers while bytes wait for it.
//!
//! It has patience as a body's peer has ([`Pace`]), which is spent while the kernel refuses bytes, and only then: an app that has nothing
//! to send is not the peer's fault. What earns patience, and puts off the write timeout, is the room that the peer's system makes: that the
//! window which it announces ends later in the stream than ever before. It does so when the peer reads, and only then. What is
//! acknowledged says less: the system of a peer that never reads, when its memory is short, drops what is in its window, takes the
//! window back, and takes both again when they are sent once more, half a minute later.
//!
//! The engine does not see windows, it sees what the kernel takes, and a kernel that is full says for a long time nothing of a peer that reads
//! slowly. So when the patience is over the kernel is asked how much it holds beyond the window, and what is no longer beyond it has room.
//!
//! It is *not* the write timeout, which judges the longest pause. The invariant: a peer that takes the minimum rate is never too slow.

use std::time::Duration;

use crate::clock::{Clock, Tick};
use crate::pace::Pace;

/// A peer that has taken fewer bytes, since nothing was owed to it, may be one that does not read: far more than its system receives for
/// it then, if it has not asked that for a large buffer.
pub(crate) const DOUBTED_BYTES: u64 = 512 << 10;
/// A peer that has taken this number of bytes, since nothing was owed to it, has shown that it reads. As much as a kernel holds at the
/// most, by default (`net.ipv4.tcp_wmem`): so no peer makes it hold more than it has taken before.
const SHOWN_BYTES: u64 = 4 << 20;

/// The peer has announced by then what room it had when the kernel refused bytes. Without a look at this moment, that would count as
/// progress when the write timeout is over, and a peer that never reads would be cut after twice that time.
pub(crate) const SETTLE_TIME: Duration = Duration::from_millis(500);

/// What a peer has taken of what is owed to it.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    /// What the kernel has taken in all.
    taken: u64,
    /// Nothing, as long as the kernel has taken all that there was.
    judged: Option<Box<Judged>>,
}

/// How a peer is judged for which the kernel has refused bytes.
#[derive(Debug)]
struct Judged {
    pace: Pace,
    /// The part of what the kernel has taken that has earned no patience yet.
    unjudged: u64,
    /// What the kernel held beyond the peer's window, as that was when it ended latest; below zero, the room that was left.
    excess: i64,
    /// When it is asked first after the last of the bytes that it took.
    settles: Tick,
    /// What it had taken in all when that was set.
    settling: u64,
}

/// What a look at a peer has shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Look {
    /// It has made room since the last look.
    pub(crate) progress: bool,
    /// It is below the minimum rate, and its patience is over.
    pub(crate) too_slow: bool,
}

impl Delivery {
    /// When the peer is to be looked at; never, when nothing waits for it.
    #[inline]
    pub(crate) fn due(&self) -> Tick {
        self.judged.as_ref().map_or(Tick::NEVER, |judged| judged.pace.due().min(judged.settles))
    }

    /// The kernel has taken `count` bytes. Returns whether the peer has just shown that it reads.
    pub(crate) fn handle_taken(&mut self, count: usize) -> bool {
        let before = self.taken;
        self.taken += count as u64;
        if let Some(judged) = &mut self.judged {
            judged.unjudged += count as u64;
        }
        before < SHOWN_BYTES && self.taken >= SHOWN_BYTES
    }

    /// Whether the peer has taken so little that it may not read.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.taken < DOUBTED_BYTES
    }

    /// The kernel takes no more for now. `rate` is the minimum in bytes a second; 0 is none. `excess` tells what the kernel holds beyond the
    /// peer's window, if it needs to be known.
    pub(crate) fn start(&mut self, clock: &Clock, rate: u32, excess: impl FnOnce() -> i64) {
        if rate == 0 {
            return;
        }
        let taken = self.taken;
        let judged = self.judged.get_or_insert_with(|| Box::new(Judged::begin(taken)));
        if !judged.pace.is_waiting() {
            let room = judged.room(excess());
            judged.pace.handle_bytes(room, clock, rate);
            judged.pace.start(clock, rate);
        }
        if taken != judged.settling {
            judged.settling = taken;
            judged.settles = clock.deadline(Some(SETTLE_TIME));
        }
    }

    /// The kernel holds `excess` bytes beyond the peer's window now.
    pub(crate) fn look(&mut self, clock: &Clock, rate: u32, excess: i64) -> Look {
        let taken = self.taken;
        let judged = self.judged.get_or_insert_with(|| Box::new(Judged::begin(taken)));
        judged.settles = Tick::NEVER;
        let room = judged.room(excess);
        judged.pace.handle_bytes(room, clock, rate);
        let too_slow = judged.pace.due() <= clock.tick();
        if !too_slow {
            judged.pace.start(clock, rate);
        }
        Look { progress: room > 0, too_slow }
    }

    /// Nothing waits any more.
    pub(crate) fn stop(&mut self, clock: &Clock, rate: u32) {
        if let Some(judged) = &mut self.judged
            && judged.pace.is_waiting()
        {
            // What the kernel holds is judged when something waits again.
            judged.pace.handle_bytes(std::mem::take(&mut judged.unjudged) as usize, clock, rate);
            judged.pace.stop();
            judged.settles = Tick::NEVER;
        }
    }
}

impl Judged {
    /// Of a peer for which the kernel has taken `taken` bytes until now.
    fn begin(taken: u64) -> Self {
        Self { pace: Pace::begin(Tick::NEVER), unjudged: taken, excess: 0, settles: Tick::NEVER, settling: 0 }
    }

    /// The room that the peer has made since the last look. A window that ends earlier than before is one that was taken back, and makes no
    /// room when it is given again.
    fn room(&mut self, excess: i64) -> usize {
        let without = self.excess.saturating_add_unsigned(std::mem::take(&mut self.unjudged));
        self.excess = without.min(excess);
        (without - self.excess) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 500;
    const SECOND: Duration = Duration::from_secs(1);

    /// Has a peer be looked at when it is due, until `time` is over. `excess` is what the kernel holds beyond its window, by the seconds
    /// that have passed.
    /// Returns the looks, each with its second.
    async fn looks(
        delivery: &mut Delivery,
        clock: &mut Clock,
        seconds: u64,
        excess: impl Fn(i64) -> i64,
    ) -> Vec<(u64, Look)> {
        let (began, mut looks) = (clock.now(), Vec::new());
        while clock.now() - began < Duration::from_secs(seconds) {
            tokio::time::advance(SECOND / 2).await;
            clock.read();
            let second = (clock.now() - began).as_secs();
            if delivery.due() <= clock.tick() {
                let look = delivery.look(clock, RATE, excess(second.cast_signed()));
                looks.push((second, look));
                if look.too_slow {
                    break;
                }
            }
        }
        looks
    }

    #[tokio::test(start_paused = true)]
    async fn row_38a_what_was_on_its_way_when_bytes_had_to_wait_is_no_progress_half_a_minute_later() {
        let (mut clock, mut delivery) = (Clock::start(), Delivery::default());
        delivery.handle_taken(140_000);
        delivery.start(&clock, RATE, || 140_000);
        let looks = looks(&mut delivery, &mut clock, 60, |_| 40_000).await;
        assert!(looks[0].0 <= 1 && looks[0].1 == Look { progress: true, too_slow: false }, "{looks:?}");
        assert!(looks[1..].iter().all(|(_, look)| !look.progress), "{looks:?}");
        assert!(looks.iter().any(|(second, look)| (30..=32).contains(second) && look.too_slow), "{looks:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn row_38a_nor_is_what_the_kernel_took_a_little_later() {
        let (mut clock, mut delivery) = (Clock::start(), Delivery::default());
        delivery.handle_taken(100_000);
        delivery.start(&clock, RATE, || 100_000);
        looks(&mut delivery, &mut clock, 1, |_| 20_000).await;
        delivery.handle_taken(40_000);
        delivery.start(&clock, RATE, || 60_000);
        // It takes no more, and is asked in vain.
        let settles = delivery.due();
        delivery.start(&clock, RATE, || 60_000);
        assert_eq!(delivery.due(), settles);
        let looks = looks(&mut delivery, &mut clock, 60, |_| 30_000).await;
        assert!(looks[0].0 <= 1 && looks[0].1.progress, "{looks:?}");
        assert!(looks[1..].iter().all(|(_, look)| !look.progress), "{looks:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn row_38a_a_window_that_is_taken_back_and_given_again_is_no_progress() {
        let (mut clock, mut delivery) = (Clock::start(), Delivery::default());
        delivery.handle_taken(131_072);
        delivery.start(&clock, RATE, || 65_536);
        // The peer's system has room for 128,000 bytes, then for less, then as before, when it takes what was sent again.
        let excess = |second| if (2..25).contains(&second) { 16_384 } else { 3_072 };
        let looks = looks(&mut delivery, &mut clock, 60, excess).await;
        assert!(looks[0].0 <= 1 && looks[0].1.progress, "{looks:?}");
        assert!(looks.len() > 1 && looks[1..].iter().all(|(_, look)| !look.progress), "{looks:?}");
        assert!(looks.last().is_some_and(|(second, look)| *second <= 32 && look.too_slow), "{looks:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn row_38a_a_peer_that_reads_steadily_is_seen_to_although_the_kernel_takes_nothing() {
        for (rate, too_slow) in [(400, true), (600, false)] {
            let (mut clock, mut delivery) = (Clock::start(), Delivery::default());
            delivery.handle_taken(60_000);
            delivery.start(&clock, RATE, || 60_000);
            let looks = looks(&mut delivery, &mut clock, 90, |second| 60_000 - second * rate).await;
            assert!(looks.len() > 2 && looks[..2].iter().all(|(_, look)| look.progress), "{looks:?}");
            assert_eq!(looks.iter().any(|(_, look)| look.too_slow), too_slow, "{rate}: {looks:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn row_38a_a_peer_is_doubted_for_half_a_mebibyte_and_has_shown_once_that_it_reads_after_four() {
        let mut delivery = Delivery::default();
        let doubted: Vec<_> = (0..6).map(|_| (delivery.is_doubtful(), delivery.handle_taken(150_000)).0).collect();
        assert_eq!(doubted, [true, true, true, true, false, false]);
        let shown: Vec<_> = (0..6).map(|_| delivery.handle_taken(1_000_000)).collect();
        assert_eq!(shown, [false, false, false, true, false, false]);
    }
}
