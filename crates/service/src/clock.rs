//! The one place that reads the time: wall time for what is stored and shown, Tokio's clock for durations.

use tokio::time::Instant;

use crate::store::IDEMPOTENCY_KEY_LIFETIME;

/// The wall time in UTC as RFC 3339 with milliseconds, for example `2026-11-22T10:15:00.123Z`.
pub fn now_rfc3339() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

/// Idempotency keys that were made before this are forgotten, in the form of [`now_rfc3339`], whose order is that of time.
pub fn expiry_of_keys() -> String {
    format!("{:.3}", jiff::Timestamp::now() - IDEMPOTENCY_KEY_LIFETIME)
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
