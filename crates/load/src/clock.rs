//! The one clock of a run: monotonic, in nanoseconds.

use std::sync::OnceLock;
use std::time::Instant;

/// Nanoseconds in a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// Nanoseconds since the process first asked.
pub fn now_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "latencies are what is measured; Tokio's clock cannot be held here")]
    let now = Instant::now();
    now.duration_since(*START.get_or_init(|| now)).as_nanos() as u64
}

/// Unix time in seconds, to compare with the time that an event carries.
pub(crate) fn unix_seconds() -> f64 {
    #[expect(clippy::disallowed_methods, reason = "events carry wall time, because they come from another process")]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
