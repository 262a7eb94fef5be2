//! Connections that wait for their next request to be served, and since when: only where a core watches for overload.
//!
//! Which of them is next, and what becomes of it, is decided elsewhere (`engine/overload.rs`). One that was served and has received more than
//! that waits on from the time at which its bytes came, and is served no sooner than in the next turn. The invariant: from front to back they
//! are in the order in which they became ready.

use std::collections::VecDeque;

use baiwan_driver::Token;
use tokio::time::Instant;

/// Which of those that wait is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::engine) enum End {
    Oldest,
    Newest,
}

/// Connections that wait, the oldest in front.
#[derive(Debug)]
pub(super) struct Waiting {
    queue: VecDeque<(Token, Instant)>,
    /// How many at the back became ready since [`stamp`](Self::stamp) was called.
    unstamped: usize,
    /// The time that was stamped last.
    stamped: Instant,
    /// Which was taken last in this turn.
    taken: Option<Taken>,
    /// Those that were taken in this turn, and wait on.
    again: Vec<Taken>,
}

/// One that was taken out.
#[derive(Clone, Copy, Debug)]
struct Taken {
    token: Token,
    since: Instant,
    from: End,
}

impl Waiting {
    pub(super) fn new(now: Instant) -> Self {
        Self { queue: VecDeque::new(), unstamped: 0, stamped: now, taken: None, again: Vec::new() }
    }

    /// An empty queue for those that come after the loop has panicked.
    pub(super) fn successor(&self) -> Self {
        Self::new(self.stamped)
    }

    /// How many may be taken now.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// One more waits: since when, the next `stamp` says. One that was just taken waits on in the next turn; `holds_input` says that it has
    /// received already what it waits with.
    pub(super) fn push(&mut self, token: Token, holds_input: bool) {
        match self.taken.take_if(|taken| taken.token == token) {
            Some(taken) => {
                let since = if holds_input { taken.since } else { self.stamped };
                self.again.push(Taken { since, ..taken });
            }
            None => {
                self.queue.push_back((token, self.stamped));
                self.unstamped += 1;
            }
        }
    }

    /// The turn ends at `now`: those that wait on have their places again, behind those that have waited for as long, as seen from the end
    /// from which they were taken.
    pub(super) fn end_turn(&mut self, now: Instant) {
        self.stamp(now);
        self.taken = None;
        for Taken { token, since, from } in self.again.drain(..) {
            let place = self.queue.partition_point(|(_, other)| match from {
                End::Oldest => *other <= since,
                End::Newest => *other < since,
            });
            self.queue.insert(place, (token, since));
        }
    }

    /// Those that have come since the last call became ready at `at`.
    pub(super) fn stamp(&mut self, at: Instant) {
        self.stamped = at.max(self.stamped);
        for (_, since) in self.queue.iter_mut().rev().take(self.unstamped) {
            *since = self.stamped;
        }
        self.unstamped = 0;
    }

    /// Those that have come since the last call became ready one after the other, from `begin` to `end`.
    pub(super) fn spread(&mut self, begin: Instant, end: Instant) {
        let begin = begin.max(self.stamped);
        let (count, time) = (self.unstamped as u32, end.saturating_duration_since(begin));
        for (place, (_, since)) in (0..count).rev().zip(self.queue.iter_mut().rev()) {
            *since = begin + time * (place + 1) / count;
        }
        self.stamped = end.max(self.stamped);
        self.unstamped = 0;
    }

    /// Since when the oldest, or the newest, waits.
    pub(super) fn since(&self, end: End) -> Option<Instant> {
        let entry = match end {
            End::Oldest => self.queue.front(),
            End::Newest => self.queue.back(),
        };
        entry.map(|(_, since)| *since)
    }

    pub(super) fn take(&mut self, end: End) -> Option<Token> {
        let entry = match end {
            End::Oldest => self.queue.pop_front(),
            End::Newest => self.queue.pop_back(),
        };
        self.unstamped = self.unstamped.min(self.queue.len());
        let (token, since) = entry?;
        self.taken = Some(Taken { token, since, from: end });
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_waits_since_the_first_stamp_after_it_came() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut waiting = Waiting::new(start);
        for (count, time) in [(2, 10), (0, 20), (1, 30)] {
            (0..count).for_each(|number| waiting.push(Token(number), false));
            waiting.stamp(at(time));
        }
        assert_eq!([waiting.since(End::Oldest), waiting.since(End::Newest)], [Some(at(10)), Some(at(30))]);
        assert!(waiting.take(End::Newest).is_some());
        assert_eq!(waiting.since(End::Newest), Some(at(10)));
        // Time does not move back, or the order would be lost.
        waiting.push(Token(9), false);
        waiting.stamp(at(5));
        assert_eq!((waiting.since(End::Newest), waiting.len()), (Some(at(30)), 3));
        assert!((0..3).all(|_| waiting.take(End::Oldest).is_some()) && waiting.take(End::Oldest).is_none());
    }

    /// All tokens, the oldest first.
    fn order(waiting: &Waiting) -> Vec<u64> {
        waiting.queue.iter().map(|(token, _)| token.0).collect()
    }

    #[test]
    fn whoever_has_more_waits_on_from_the_time_at_which_it_came_and_in_the_next_turn() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        for (end, holds_input, expected) in [
            (End::Oldest, true, [1, 0, 2, 3]),
            (End::Newest, true, [0, 1, 3, 2]),
            (End::Oldest, false, [1, 2, 3, 0]),
            (End::Newest, false, [0, 1, 2, 3]),
        ] {
            let mut waiting = Waiting::new(start);
            for pair in [[0, 1], [2, 3]] {
                pair.into_iter().for_each(|number| waiting.push(Token(number), false));
                waiting.stamp(at(10 + pair[0]));
            }
            waiting.stamp(at(20));
            let taken = waiting.take(end).unwrap();
            waiting.push(taken, holds_input);
            assert_eq!(waiting.len(), 3, "it is not taken again in this turn");
            waiting.end_turn(at(30));
            assert_eq!(order(&waiting), expected, "{end:?} {holds_input}");
            // Later it is one like any other.
            let token = waiting.take(End::Oldest).unwrap();
            waiting.end_turn(at(30));
            waiting.push(token, true);
            waiting.stamp(at(40));
            assert_eq!((waiting.len(), waiting.since(End::Newest)), (4, Some(at(40))));
        }
    }

    #[test]
    fn those_that_came_in_a_time_of_which_nothing_is_known_are_spread_over_it() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut waiting = Waiting::new(start);
        waiting.push(Token(0), false);
        waiting.stamp(at(10));
        (1..5).for_each(|number| waiting.push(Token(number), false));
        waiting.spread(at(5), at(50));
        let since: Vec<_> = waiting.queue.iter().map(|(_, since)| *since).collect();
        assert_eq!(since, [10, 20, 30, 40, 50].map(at));
        waiting.spread(at(60), at(70));
        waiting.push(Token(5), false);
        waiting.stamp(at(65));
        assert_eq!(waiting.since(End::Newest), Some(at(70)));
    }
}
