//! Connections that wait for their next request to be served, and since when: only where a core watches for overload.
//!
//! Which of them is next, and what becomes of it, is decided elsewhere (`engine/overload.rs`). The invariant: from front to back they are in
//! the order in which they became ready.

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
}

impl Waiting {
    pub(super) fn new(now: Instant) -> Self {
        Self { queue: VecDeque::new(), unstamped: 0, stamped: now }
    }

    /// An empty queue for those that come after the loop has panicked.
    pub(super) fn successor(&self) -> Self {
        Self::new(self.stamped)
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// One more waits: since when, the next `stamp` says.
    pub(super) fn push(&mut self, token: Token) {
        self.queue.push_back((token, self.stamped));
        self.unstamped += 1;
    }

    /// Those that have come since the last call became ready at `at`.
    pub(super) fn stamp(&mut self, at: Instant) {
        self.stamped = at.max(self.stamped);
        for (_, since) in self.queue.iter_mut().rev().take(self.unstamped) {
            *since = self.stamped;
        }
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
        entry.map(|(token, _)| token)
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
            (0..count).for_each(|number| waiting.push(Token(number)));
            waiting.stamp(at(time));
        }
        assert_eq!([waiting.since(End::Oldest), waiting.since(End::Newest)], [Some(at(10)), Some(at(30))]);
        assert!(waiting.take(End::Newest).is_some());
        assert_eq!(waiting.since(End::Newest), Some(at(10)));
        // Time does not move back, or the order would be lost.
        waiting.push(Token(9));
        waiting.stamp(at(5));
        assert_eq!((waiting.since(End::Newest), waiting.len()), (Some(at(30)), 3));
        assert!((0..3).all(|_| waiting.take(End::Oldest).is_some()) && waiting.take(End::Oldest).is_none());
    }
}
