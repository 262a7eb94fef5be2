//! How far a run is, and how long it goes on. Pure: time is an argument.

use std::time::Duration;

/// A run of turns whose lengths are known about.
pub(crate) struct Progress {
    begin_ns: u64,
    planned: Duration,
    done: Duration,
    turns: usize,
    turns_done: usize,
}

impl Progress {
    /// Of turns, given about how long each takes.
    pub(crate) fn new(begin_ns: u64, turns: impl Iterator<Item = Duration>) -> Self {
        let (mut planned, mut count) = (Duration::ZERO, 0);
        for turn in turns {
            (planned, count) = (planned + turn, count + 1);
        }
        Self { begin_ns, planned, done: Duration::ZERO, turns: count, turns_done: 0 }
    }

    /// A turn has ended, or does not take place.
    pub(crate) fn advance(&mut self, turn: Duration) {
        self.done += turn;
        self.turns_done += 1;
    }

    /// `12/340, about 25 min left`
    pub(crate) fn text(&self, now_ns: u64) -> String {
        let left = self.left(now_ns).as_secs();
        let left = if left < 120 { format!("{left} s") } else { format!("{} min", left.div_ceil(60)) };
        format!("{}/{}, about {left} left", self.turns_done + 1, self.turns)
    }

    /// What is planned, as much longer as what is done has taken than was planned for it.
    fn left(&self, now_ns: u64) -> Duration {
        /// Until so much is done, its pace says little.
        const LEARNING: Duration = Duration::from_secs(10);
        let planned = self.planned.saturating_sub(self.done);
        if self.done < LEARNING {
            return planned;
        }
        let took = Duration::from_nanos(now_ns.saturating_sub(self.begin_ns));
        planned.mul_f64(took.as_secs_f64() / self.done.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_twice_as_long_as_planned_goes_on_like_that() {
        const SECOND_NS: u64 = 1_000_000_000;
        let turn = Duration::from_secs(20);
        let mut progress = Progress::new(0, [turn; 10].into_iter());
        assert_eq!(progress.text(0), "1/10, about 4 min left");
        for _ in 0..5 {
            progress.advance(turn);
        }
        assert_eq!(progress.text(100 * SECOND_NS), "6/10, about 100 s left");
        assert_eq!(progress.text(200 * SECOND_NS), "6/10, about 4 min left");
    }
}
