//! Whether a queue is overloaded, by how long what is in it waits.
//!
//! A burst makes a queue long for a moment, and overload makes it long for good; the *minimum* of the wait tells them apart. This is the
//! law of CoDel (K. Nichols and V. Jacobson, "Controlling Queue Delay", ACM Queue 10(5), 2012), applied to requests, with newest first
//! while it lasts, as in B. Maurer, "Fail at Scale" (ACM Queue 13(8), 2015, "adaptive LIFO").
//!
//! It is *not* a queue, and reads no clock. The invariant: the state changes only after the wait was on the other side of
//! [`ControlledDelay::TARGET`] for [`ControlledDelay::INTERVAL`] without a break.

use std::time::{Duration, Instant};

/// Decides, for one queue, whether it is overloaded.
///
/// Tell it how long the oldest request that goes on waiting has waited, whenever one is taken out of the queue
/// ([`handle_lag`](Self::handle_lag)), and ask it what to do: [`is_overloaded`](Self::is_overloaded), [`is_late`](Self::is_late).
///
/// ```
/// use std::time::{Duration, Instant};
/// use baiwan_limits::{Change, ControlledDelay};
///
/// let (mut control, start) = (ControlledDelay::new(), Instant::now());
/// let ms = Duration::from_millis;
/// assert_eq!(control.handle_lag(ms(30), start), None);
/// assert_eq!(control.handle_lag(ms(30), start + ms(100)), Some(Change::Begins));
/// assert!(control.is_late(ms(20)) && !control.is_late(ms(19)));
/// ```
#[derive(Clone, Debug, Default)]
pub struct ControlledDelay {
    overloaded: bool,
    /// Since when every lag was on the side of the target that belongs to the other state.
    crossed: Option<Instant>,
}

/// A change of state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// The queue is overloaded from now on.
    Begins,
    /// The queue is overloaded no more.
    Ends,
}

impl ControlledDelay {
    /// A wait of this length and more, without a break, is overload.
    pub const TARGET: Duration = Duration::from_millis(5);
    /// Without a break means for this long.
    pub const INTERVAL: Duration = Duration::from_millis(100);
    /// While the queue is overloaded, a request that has waited this long is refused.
    pub const WAIT_MAX: Duration = Duration::from_millis(20);

    /// A queue that is not overloaded.
    pub fn new() -> Self {
        Self::default()
    }

    /// One request was taken out of the queue at `now`, and the oldest of those that go on waiting has waited for `lag`: zero if none
    /// waits. Call it with zero, too, when the queue is found empty. Returns the change of state, if there is one.
    pub fn handle_lag(&mut self, lag: Duration, now: Instant) -> Option<Change> {
        let is_long = lag >= Self::TARGET;
        if is_long == self.overloaded {
            self.crossed = None;
            return None;
        }
        let crossed = *self.crossed.get_or_insert(now);
        if now.saturating_duration_since(crossed) < Self::INTERVAL {
            return None;
        }
        self.crossed = None;
        self.overloaded = is_long;
        Some(if is_long { Change::Begins } else { Change::Ends })
    }

    /// Whether the queue is overloaded: then the newest request is to be served first.
    #[inline]
    pub fn is_overloaded(&self) -> bool {
        self.overloaded
    }

    /// Whether a request that has waited for `waited` is to be refused.
    #[inline]
    pub fn is_late(&self, waited: Duration) -> bool {
        self.overloaded && waited >= Self::WAIT_MAX
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn start() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    /// What the module says, from all that was told so far.
    fn is_overloaded(told: &[(Duration, Instant)]) -> bool {
        let mut overloaded = false;
        let mut begin = 0;
        for at in 0..told.len() {
            let other = |(lag, _): &(Duration, Instant)| (*lag >= ControlledDelay::TARGET) != overloaded;
            let streak = told[begin..=at].iter().rev().take_while(|one| other(one)).count();
            if streak > 0 && told[at].1.duration_since(told[at + 1 - streak].1) >= ControlledDelay::INTERVAL {
                overloaded = !overloaded;
                begin = at + 1;
            }
        }
        overloaded
    }

    proptest! {
        #[test]
        fn the_state_is_what_the_whole_history_says(steps in prop::collection::vec((0_u64..12, 0_u64..40), 0..200)) {
            let mut now = start();
            let (mut control, mut told) = (ControlledDelay::new(), Vec::new());
            for (lag, pause) in steps {
                // Lags cluster, so that there are streaks.
                let lag = ms(if lag < 3 { lag } else { lag + 3 });
                now += ms(pause);
                told.push((lag, now));
                let before = control.is_overloaded();
                let change = control.handle_lag(lag, now);
                prop_assert_eq!(control.is_overloaded(), is_overloaded(&told));
                let expected = match (before, control.is_overloaded()) {
                    (false, true) => Some(Change::Begins),
                    (true, false) => Some(Change::Ends),
                    _ => None,
                };
                prop_assert_eq!(change, expected);
            }
        }
    }

    #[test]
    fn a_burst_that_is_worked_off_within_the_interval_is_no_overload() {
        let (mut control, start) = (ControlledDelay::new(), start());
        for burst in 0..50 {
            let begin = start + ms(burst * 200);
            // The queue is 90 ms long at first, and works itself off.
            for step in 0..18 {
                assert_eq!(control.handle_lag(ms(90 - 5 * step), begin + ms(5 * step)), None);
            }
            assert_eq!(control.handle_lag(Duration::ZERO, begin + ms(95)), None);
        }
        assert!(!control.is_overloaded() && !control.is_late(ms(90)));
    }

    #[test]
    fn overload_begins_and_ends_after_one_interval_and_one_lag_in_between_puts_both_off() {
        let (mut control, start) = (ControlledDelay::new(), start());
        let mut tell = |lag, at| (control.handle_lag(ms(lag), start + ms(at)), control.is_overloaded());
        assert_eq!(tell(5, 0), (None, false));
        assert_eq!(tell(900, 99), (None, false));
        assert_eq!(tell(4, 99), (None, false), "one that waited less");
        assert_eq!(tell(5, 100), (None, false));
        assert_eq!(tell(5, 199), (None, false));
        assert_eq!(tell(5, 200), (Some(Change::Begins), true));
        assert_eq!(tell(4, 210), (None, true));
        assert_eq!(tell(5, 309), (None, true), "one that waited longer");
        assert_eq!(tell(0, 310), (None, true));
        assert_eq!(tell(4, 410), (Some(Change::Ends), false));
    }

    #[test]
    fn a_clock_that_moves_back_changes_nothing() {
        let (mut control, start) = (ControlledDelay::new(), start());
        let later = start + ms(500);
        assert_eq!(control.handle_lag(ms(50), later), None);
        assert_eq!(control.handle_lag(ms(50), start), None);
        assert_eq!(control.handle_lag(ms(50), later + ms(100)), Some(Change::Begins));
    }
}
