//! How long each connection may live: spread, so that connections that were opened together do not end together.
//!
//! The spread is a sequence and not a random number: it is even over any number of connections, which random numbers are not. What
//! follows from an age is the server's business.
//!
//! The invariant: no age is longer than [`ConnectionAges::longest`], and of the connections that were opened in the same moment, about
//! the same number ends in every second between the shortest and the longest age.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// The spread is at least this wide, where the age has room for it: so at most one in 60 connections ends in the same second.
const SPREAD_MIN: Duration = Duration::from_secs(60);
/// The least and the greatest age, in hundredths of the setting; the spread is at least the last number.
const SHORTEST_PERCENT: u32 = 10;
const LONGEST_PERCENT: u32 = 110;
const SPREAD_PERCENT: u32 = 20;
/// 2^32 divided by the golden ratio: its multiples, modulo 2^32, are spread evenly however many there are (Knuth, The Art of Computer
/// Programming, volume 3, section 6.4, theorem S).
const GOLDEN: u32 = 0x9E37_79B9;

/// Deals out the ages of connections, for a setting `MAX_CONNECTION_AGE`. Shared by the cores of a server.
///
/// Ages lie within ±10 % of the setting. Where that is less than a minute wide, they begin earlier, down to a tenth of the setting: with a
/// setting of one minute, a connection lives for 6 to 66 seconds. So connections that were opened in the same moment end over a minute at
/// least, and no second has more than 2 % of them, for each setting from 55 seconds up.
///
/// # Example
/// ```
/// use std::time::Duration;
///
/// let ages = baiwan_limits::ConnectionAges::new(Duration::from_secs(3600));
/// let age = ages.draw();
/// assert!(age >= Duration::from_secs(3240) && age <= Duration::from_secs(3960));
/// assert_ne!(age, ages.draw());
/// ```
#[derive(Debug)]
pub struct ConnectionAges {
    shortest: Duration,
    longest: Duration,
    /// The place of the next age within the spread, in parts of 2^32.
    next: AtomicU32,
}

impl ConnectionAges {
    /// Ages around `age`.
    pub fn new(age: Duration) -> Self {
        let percent = |percent: u32| age.saturating_mul(percent) / 100;
        let longest = age.saturating_add(percent(LONGEST_PERCENT - 100));
        let spread = percent(SPREAD_PERCENT).max(SPREAD_MIN);
        let shortest = longest.saturating_sub(spread).max(percent(SHORTEST_PERCENT));
        Self { shortest, longest, next: AtomicU32::new(0) }
    }

    /// The age of one more connection.
    pub fn draw(&self) -> Duration {
        let place = self.next.fetch_add(GOLDEN, Relaxed);
        let spread = self.longest - self.shortest;
        self.shortest + spread.mul_f64(f64::from(place) / f64::from(u32::MAX))
    }

    /// The least age that a connection can have.
    pub fn shortest(&self) -> Duration {
        self.shortest
    }

    /// The greatest age that a connection can have.
    pub fn longest(&self) -> Duration {
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn ages_are_within_a_tenth_of_the_setting_or_a_minute_apart() {
        let range = |age: Duration| {
            let ages = ConnectionAges::new(age);
            (ages.shortest().as_millis(), ages.longest().as_millis())
        };
        assert_eq!(range(MINUTE * 60), (54 * 60_000, 66 * 60_000));
        assert_eq!(range(MINUTE * 5), (270_000, 330_000), "where both are a minute wide");
        assert_eq!(range(MINUTE), (6_000, 66_000));
        assert_eq!(range(Duration::from_secs(1)), (100, 1_100));
        assert_eq!(range(Duration::ZERO), (0, 0));
        let _ = ConnectionAges::new(Duration::MAX).draw();
    }

    /// The most of `count` connections that end within the same second, when all were opened at once.
    fn most_in_a_second(age: Duration, count: usize) -> usize {
        let ages = ConnectionAges::new(age);
        let mut ends: Vec<u128> = std::iter::repeat_with(|| ages.draw().as_millis()).take(count).collect();
        assert!(ends.iter().all(|end| (ages.shortest().as_millis()..=ages.longest().as_millis()).contains(end)));
        ends.sort_unstable();
        let (mut first, mut most) = (0, 0);
        for last in 0..ends.len() {
            while ends[last] - ends[first] >= 1000 {
                first += 1;
            }
            most = most.max(last + 1 - first);
        }
        most
    }

    #[test]
    fn no_second_has_more_than_2_percent_of_those_that_came_together() {
        for seconds in [55, 60, 90, 600, 86_400] {
            for count in [1_000, 50_000] {
                let most = most_in_a_second(Duration::from_secs(seconds), count);
                assert!(most * 50 <= count, "{most} of {count} with {seconds} s");
            }
        }
        assert!(most_in_a_second(Duration::from_secs(20), 1000) > 20, "what cannot be is not promised");
    }

    #[test]
    fn a_few_are_spread_too() {
        let ages = ConnectionAges::new(MINUTE);
        let mut few: Vec<u64> = std::iter::repeat_with(|| ages.draw().as_secs()).take(10).collect();
        few.sort_unstable();
        assert!(few.windows(2).all(|pair| pair[1] - pair[0] >= 3), "{few:?}");
    }
}
