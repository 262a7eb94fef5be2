//! What time it is, roughly: for the age of the items of a queue, and for how long an iterator takes.
//!
//! On Linux the kernel's coarse clock: it goes on with each tick, every 1 to 10 ms, and costs a few nanoseconds to read, where
//! the precise one costs about as much as the rest of a put. Elsewhere Tokio's clock. It is *not* for deadlines.

/// Nanoseconds since some moment that stays the same for the process.
pub(crate) fn now_ns() -> u64 {
    #[cfg(all(test, not(any(baiwan_loom, baiwan_shuttle))))]
    if let Some(held) = held::now_ns() {
        return held;
    }
    running_ns()
}

// Miri knows no system calls but those of the C library.
#[cfg(all(target_os = "linux", not(any(miri, baiwan_portable))))]
fn running_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse);
    // The clock starts with the machine: both parts are positive, and the sum fits for 584 years.
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

#[cfg(any(not(target_os = "linux"), miri, baiwan_portable))]
fn running_ns() -> u64 {
    use std::sync::OnceLock;
    use tokio::time::Instant;

    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// A clock that stands still unless the test moves it, for the test's own thread.
#[cfg(all(test, not(any(baiwan_loom, baiwan_shuttle))))]
pub(crate) mod held {
    use std::cell::Cell;
    use std::time::Duration;

    std::thread_local! {
        static NOW: Cell<Option<u64>> = const { Cell::new(None) };
    }

    pub(super) fn now_ns() -> Option<u64> {
        NOW.get()
    }

    /// Holds the clock, if it runs still, and moves it on.
    pub(crate) fn advance(by: Duration) {
        NOW.set(Some(NOW.get().unwrap_or(1_000) + by.as_nanos() as u64));
    }
}
