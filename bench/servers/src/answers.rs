//! What the routes answer, whatever serves them.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// How long `/sleep` sleeps.
pub const SLEEP: Duration = Duration::from_millis(1);

/// What `/` and `/mixed` answer.
pub const HELLO: &str = "hello";

/// What `/sleep` answers.
pub const SLEPT: &str = "slept";

/// How many bytes `/large` answers.
pub const LARGE_BYTES: usize = 10 << 20;

/// The lengths of what `/bytes/LENGTH` answers.
pub const LENGTHS: [usize; 5] = [0, 1 << 10, 64 << 10, 1 << 20, LARGE_BYTES];

/// What `/large` answers, and `/bytes` the first part of.
static LARGE: LazyLock<Bytes> = LazyLock::new(|| vec![b'x'; LARGE_BYTES].into());

/// The one event of `/sse`.
pub const EVENT: &str = "data: hello\n\n";

/// One of this number of requests of `/mixed` computes.
const COMPUTING_EVERY: u64 = 100;

/// How much CPU time that one takes.
const COMPUTING_NS: i64 = 10_000_000;

/// How much CPU time each request of `/work` takes.
const WORK_NS: i64 = 1_000_000;

/// Steps between two looks at the clock: about 10 µs.
const STEPS: u64 = 10_000;

/// How many handlers of `/pending` have begun; none of them ends.
static HELD: AtomicU64 = AtomicU64::new(0);

/// How many requests of `/mixed` there were.
static MIXED: AtomicU64 = AtomicU64::new(0);

/// What `/json` answers.
#[derive(Serialize)]
pub struct Message {
    message: &'static str,
    number: u32,
}

impl Message {
    /// The one that is answered; serialised anew for each request.
    pub const HELLO: Self = Self { message: HELLO, number: 42 };
}

/// A handler of `/pending` has begun.
pub fn hold() {
    HELD.fetch_add(1, Ordering::Relaxed);
}

/// What `/held` answers.
pub fn held() -> String {
    HELD.load(Ordering::Relaxed).to_string()
}

/// What `/large` answers: the same bytes each time, which nobody copies but the kernel.
pub fn large() -> Bytes {
    LARGE.clone()
}

/// What `/bytes/LENGTH` answers: as `large`, so much of it.
///
/// # Panics
/// If it is longer than that.
pub fn bytes(length: usize) -> Bytes {
    LARGE.slice(..length)
}

/// What `/work` answers: after 1 ms of computing on the thread that serves.
pub fn work() -> &'static str {
    compute(WORK_NS);
    HELLO
}

/// What `/mixed` answers: at once, but every hundredth time after 10 ms of computing on the thread that serves.
pub fn mixed() -> &'static str {
    if MIXED.fetch_add(1, Ordering::Relaxed) % COMPUTING_EVERY == COMPUTING_EVERY - 1 {
        compute(COMPUTING_NS);
    }
    HELLO
}

/// Computes until this thread has had so much CPU time, however often it was interrupted.
fn compute(duration_ns: i64) {
    let end_ns = thread_cpu_ns() + duration_ns;
    let mut state = 1_u64;
    while thread_cpu_ns() < end_ns {
        for _ in 0..STEPS {
            state = std::hint::black_box(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}

fn thread_cpu_ns() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

    use super::*;

    #[test]
    fn every_hundredth_mixed_request_has_ten_milliseconds_of_cpu_and_no_other_has_any() {
        for number in 1..=200 {
            let begin = thread_cpu_ns();
            assert_eq!(mixed(), "hello");
            // Time of this thread's CPU, so whatever else runs on the machine does not count.
            let computed = thread_cpu_ns() - begin >= COMPUTING_NS;
            assert_eq!(computed, number % 100 == 0, "request {number}");
        }
    }

    #[test]
    fn work_takes_its_cpu_time_each_time() {
        for _ in 0..3 {
            let begin = thread_cpu_ns();
            assert_eq!(work(), "hello");
            assert!(thread_cpu_ns() - begin >= WORK_NS);
        }
    }

    #[test]
    fn every_length_can_be_answered() {
        assert_eq!(LENGTHS.map(|length| bytes(length).len()), LENGTHS);
    }

    #[test]
    fn the_message_is_the_one_that_every_stack_writes() {
        assert_eq!(serde_json::to_string(&Message::HELLO).unwrap(), r#"{"message":"hello","number":42}"#);
    }
}
