//! The only place that reads a clock or sleeps. Measured times are nanoseconds of the monotonic clock.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// Monotonic nanoseconds.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * SECOND_NS + now.tv_nsec.unsigned_abs()
}

/// Lets the kernel finish what it does later: freed memory, closed sockets.
#[allow(clippy::disallowed_methods, reason = "there is no event to wait for")]
pub(crate) fn settle(duration: Duration) {
    std::thread::sleep(duration);
}

/// The date and time of the report, in UTC.
pub(crate) fn date() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string()
}
