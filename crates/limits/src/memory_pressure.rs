//! What a server gives up when its memory becomes short, step by step.
//!
//! ```text
//!   used   85 %            92 %            95 %          of the limit
//!   ───────┼───────────────┼───────────────┼──────────▶
//!          │ idle connections end sooner and sooner, after 5 s at 95 %
//!                          │ every answer is its connection's last
//!                                          │ requests are refused
//! ```
//!
//! A step is taken when its percentage is reached and undone 3 points below it, so that a server does not change its mind each
//! second. Nothing is measured here, and nothing acted on.
//!
//! The invariant: of two uses above a limit, the higher never gives up less.

use std::time::Duration;

/// The percentages at which [`MemoryLevel`]s begin, in their order.
const BEGINS: [u8; 3] = [85, 92, 95];
/// Percent of the limit in use from which on memory is short.
pub const MEMORY_SHORT_PERCENT: u8 = BEGINS[0];
/// How many points below its beginning a level ends.
const HYSTERESIS: u8 = 3;
/// How long a connection may be idle when requests are refused.
const IDLE_MIN: Duration = Duration::from_secs(5);
/// What a timeout that is off counts as when it begins to shrink.
const IDLE_UNLIMITED: Duration = Duration::from_secs(75);

/// What a server gives up because its memory is short; each level includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
#[repr(u8)]
pub enum MemoryLevel {
    /// Nothing.
    #[default]
    Enough,
    /// Idle connections end sooner.
    IdleSooner,
    /// Connections end after their next answer.
    NoKeepAlive,
    /// Requests are refused, and heads that have not come as a whole are not waited for.
    Refusing,
}

/// How much of the memory is used, and what is given up for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct MemoryPressure {
    /// Of the limit, at most 100; 0 where nothing is known.
    pub percent: u8,
    /// What is given up.
    pub level: MemoryLevel,
}

impl MemoryPressure {
    /// What follows this when `used` bytes of `limit` are used.
    ///
    /// # Example
    /// ```
    /// use baiwan_limits::{MemoryLevel, MemoryPressure};
    ///
    /// let short = MemoryPressure::default().next(93, 100);
    /// assert_eq!(short.level, MemoryLevel::NoKeepAlive);
    /// assert_eq!(short.next(90, 100).level, MemoryLevel::NoKeepAlive);
    /// assert_eq!(short.next(88, 100).level, MemoryLevel::IdleSooner);
    /// ```
    #[must_use]
    pub fn next(self, used: u64, limit: u64) -> Self {
        let percent = u128::from(used) * 100 / u128::from(limit.max(1));
        let percent = percent.min(100) as u8;
        let reached = |margin: u8| BEGINS.iter().filter(|begin| percent + margin >= **begin).count();
        // Those that are reached anew, or were before and are not undone yet.
        let level = reached(0).max(reached(HYSTERESIS).min(self.level as usize));
        let level =
            [MemoryLevel::Enough, MemoryLevel::IdleSooner, MemoryLevel::NoKeepAlive, MemoryLevel::Refusing][level];
        Self { percent, level }
    }

    /// How long a connection may be idle whose timeout is `timeout`; `None` is for ever. It shrinks linearly, from the whole timeout at
    /// 85 % to 5 seconds at 95 %, and never grows.
    #[must_use]
    pub fn idle_timeout(self, timeout: Option<Duration>) -> Option<Duration> {
        if self.level == MemoryLevel::Enough {
            return timeout;
        }
        let whole = timeout.unwrap_or(IDLE_UNLIMITED);
        let [from, _, to] = BEGINS;
        let points = u32::from(to.saturating_sub(self.percent).min(to - from));
        let shrunk = IDLE_MIN + whole.saturating_sub(IDLE_MIN) * points / u32::from(to - from);
        Some(shrunk.min(whole))
    }

    /// Both in one number, for an atomic.
    pub fn to_bits(self) -> u16 {
        u16::from(self.level as u8) << 8 | u16::from(self.percent)
    }

    /// What [`to_bits`](Self::to_bits) was made of.
    pub fn from_bits(bits: u16) -> Self {
        let [level, percent] = bits.to_be_bytes();
        let level = match level {
            0 => MemoryLevel::Enough,
            1 => MemoryLevel::IdleSooner,
            2 => MemoryLevel::NoKeepAlive,
            _ => MemoryLevel::Refusing,
        };
        Self { percent, level }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The levels that follow when these percentages are used, one after the other.
    fn levels(percentages: &[u64]) -> Vec<u8> {
        let mut pressure = MemoryPressure::default();
        let next = |used: &u64| {
            pressure = pressure.next(*used, 100);
            pressure.level as u8
        };
        percentages.iter().map(next).collect()
    }

    #[test]
    fn row_56_each_level_begins_at_its_percentage_and_ends_three_points_below() {
        assert_eq!(levels(&[0, 84, 85, 91, 92, 94, 95, 100]), [0, 0, 1, 1, 2, 2, 3, 3]);
        assert_eq!(levels(&[95, 92, 91, 89, 88, 82, 81]), [3, 3, 2, 2, 1, 1, 0]);
        assert_eq!(levels(&[84, 85, 84, 83, 82, 81, 84]), [0, 1, 1, 1, 1, 0, 0]);
        assert_eq!(levels(&[99, 10, 99]), [3, 0, 3], "at once, if it must be");
    }

    #[test]
    fn row_56_the_idle_timeout_shrinks_from_85_to_95_percent_and_never_grows() {
        let at = |percent: u64, timeout: Option<u64>| {
            let pressure = MemoryPressure::default().next(percent, 100);
            pressure.idle_timeout(timeout.map(Duration::from_secs)).map(|timeout| timeout.as_secs())
        };
        assert_eq!([0, 84, 85, 90, 95, 100].map(|percent| at(percent, Some(75))), [75, 75, 75, 40, 5, 5].map(Some));
        assert_eq!([84, 85, 90, 95].map(|percent| at(percent, None)), [None, Some(75), Some(40), Some(5)]);
        assert_eq!([84, 85, 90, 95].map(|percent| at(percent, Some(2))), [2; 4].map(Some));
        let times: Vec<_> = (80..=100).map(|percent| at(percent, Some(3_600))).collect();
        assert!(times.is_sorted_by(|before, after| before >= after), "{times:?}");
    }

    #[test]
    fn any_use_of_any_limit_is_a_percentage() {
        for (used, limit, percent) in
            [(0, 0, 0), (1, 0, 100), (u64::MAX, u64::MAX, 100), (u64::MAX, 1, 100), (999, 1000, 99)]
        {
            assert_eq!(MemoryPressure::default().next(used, limit).percent, percent, "{used} of {limit}");
        }
    }

    #[test]
    fn a_pressure_survives_being_a_number() {
        for used in 0..=100 {
            let pressure = MemoryPressure::default().next(used, 100);
            assert_eq!(MemoryPressure::from_bits(pressure.to_bits()), pressure);
        }
    }
}
