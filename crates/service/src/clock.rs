//! The one place that reads the time: wall time for what is stored and shown, Tokio's clock for durations.

use tokio::time::Instant;

/// The wall time in UTC as RFC 3339 with milliseconds, for example `2026-11-22T10:15:00.123Z`.
pub fn now_rfc3339() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

/// The wall time in UTC as RFC 3339 with microseconds, for lines of the log.
pub fn now_precise() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

/// The wall time `ago` before now, in the form of [`now_rfc3339`]: such texts sort as their times do.
pub fn past_rfc3339(ago: jiff::SignedDuration) -> String {
    format!("{:.3}", jiff::Timestamp::now() - ago)
}

/// The wall time, in seconds since 1970.
pub(crate) fn now_seconds() -> f64 {
    jiff::Timestamp::now().as_millisecond() as f64 / 1000.0
}

/// The start of the process, for showing how long it runs.
#[derive(Clone, Copy, Debug)]
pub struct Uptime(Instant);

impl Uptime {
    /// Starts counting.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Whole seconds since the start.
    pub fn seconds(self) -> u64 {
        self.0.elapsed().as_secs()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn wall_time_has_milliseconds_and_is_utc() {
        let text = now_rfc3339();
        assert_eq!(text.len(), "2026-11-22T10:15:00.123Z".len(), "{text}");
        assert!(text.ends_with('Z'), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn uptime_follows_the_held_clock() {
        let uptime = Uptime::start();
        tokio::time::advance(Duration::from_millis(61_900)).await;
        assert_eq!(uptime.seconds(), 61);
    }
}
