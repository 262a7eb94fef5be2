//! The one clock: monotonic time for deadlines, wall time for the `Date` field.
//!
//! Monotonic time is Tokio's, so a test that pauses Tokio's clock holds this one too. It is read once per turn; whoever needs
//! the time within a turn uses what was read. Wall time is read when the second changes and decides nothing.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Deadlines are counted in ticks of this length; none is missed by more than one.
pub(crate) const TICK: Duration = Duration::from_millis(64);

/// A point in time, in ticks since the clock was started. 32 bits last for eight years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Tick(pub(crate) u32);

impl Tick {
    /// Later than every other.
    pub(crate) const NEVER: Self = Self(u32::MAX);
}

/// An IMF-fixdate, RFC 9110 section 5.6.7: always 29 bytes.
pub(crate) type Date = [u8; 29];

#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    now: Instant,
    date: Date,
    /// The second of monotonic time, since the start, in which `date` was made.
    date_second: u64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        let now = Instant::now();
        Self { started: now, now, date: wall_date(), date_second: 0 }
    }

    /// Reads the time. Called once at the beginning of a turn.
    pub(crate) fn read(&mut self) {
        self.now = Instant::now();
        let second = self.now.duration_since(self.started).as_secs();
        if second != self.date_second {
            self.date_second = second;
            self.date = wall_date();
        }
    }

    /// The time of this turn.
    pub(crate) fn now(&self) -> Instant {
        self.now
    }

    /// The time as it is, in the middle of a turn. Does not move `now`.
    pub(crate) fn precise(&self) -> Instant {
        Instant::now()
    }

    /// The tick that has begun at the time of this turn.
    #[inline]
    pub(crate) fn tick(&self) -> Tick {
        ticks(nanoseconds(self.now.duration_since(self.started)))
    }

    /// The first tick that begins no earlier than `timeout` from now; never, if there is no timeout.
    #[inline]
    pub(crate) fn deadline(&self, timeout: Option<Duration>) -> Tick {
        match timeout {
            None => Tick::NEVER,
            Some(timeout) => {
                let from_start = nanoseconds(self.now.duration_since(self.started));
                ticks(from_start.saturating_add(nanoseconds(timeout)).saturating_add(TICK_NS - 1))
            }
        }
    }

    /// When a tick begins.
    pub(crate) fn instant(&self, tick: Tick) -> Instant {
        self.started + TICK * tick.0
    }

    /// The current second for a `Date` field.
    pub(crate) fn date(&self) -> &Date {
        &self.date
    }
}

/// Each request asks for deadlines, so these are numbers that processors divide fast; they last for centuries.
const TICK_NS: u64 = TICK.as_nanos() as u64;

#[inline]
fn nanoseconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000_000).saturating_add(duration.subsec_nanos().into())
}

/// What lies beyond the last tick is the last tick.
#[inline]
fn ticks(nanoseconds: u64) -> Tick {
    Tick((nanoseconds / TICK_NS).min(u64::from(Tick::NEVER.0) - 1) as u32)
}

/// The wall time, for the lines of logs: microseconds since 1970.
pub(crate) fn wall_time_us() -> i64 {
    let since_1970 = wall_time().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since_1970.as_micros().try_into().unwrap_or(i64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "wall time is read here only, for the Date field and for logs")]
fn wall_time() -> SystemTime {
    SystemTime::now()
}

fn wall_date() -> Date {
    let text = httpdate::fmt_http_date(wall_time());
    text.as_bytes().try_into().expect("an IMF-fixdate has 29 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_never_early_and_less_than_a_tick_late() {
        let mut clock = Clock::start();
        for _ in 0..50 {
            tokio::time::advance(Duration::from_millis(37)).await;
            clock.read();
            for timeout in [1, 63, 64, 65, 10_000].map(Duration::from_millis) {
                let begins = clock.instant(clock.deadline(Some(timeout)));
                let late = begins.duration_since(clock.now() + timeout);
                assert!(begins >= clock.now() + timeout && late < TICK);
            }
        }
        assert_eq!(clock.deadline(None), Tick::NEVER);
        assert!(clock.deadline(Some(Duration::MAX)) < Tick::NEVER);
    }

    #[test]
    fn a_date_is_what_the_field_wants() {
        assert!(wall_date().ends_with(b" GMT"));
    }
}
