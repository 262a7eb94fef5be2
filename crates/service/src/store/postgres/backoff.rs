//! How long a slot waits before it connects again: longer with each failure, up to a maximum, and never as long as the others.
//!
//! After an outage all slots of all instances would otherwise come back in the same moment, and again after each refusal. So the
//! whole delay is random ("full jitter": Marc Brooker, "Exponential Backoff And Jitter").

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// The longest delay after the first failure.
const DELAY_FIRST_MS: u64 = 50;
/// The longest delay at all.
const DELAY_MAX_MS: u64 = 2000;
/// By then the maximum is reached.
const DOUBLINGS_MAX: u32 = 6;
const _: () = assert!(DELAY_FIRST_MS << DOUBLINGS_MAX >= DELAY_MAX_MS);

/// The failures of one slot since it was last well.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// There was one more failure: how long to wait now.
    pub(super) fn next_delay(&mut self) -> Duration {
        let longest = longest_ms(self.failures);
        self.failures = self.failures.saturating_add(1);
        // Each has keys of its own, of the system's randomness.
        let random = RandomState::new().build_hasher().finish();
        jittered(longest, random)
    }
}

fn longest_ms(failures: u32) -> u64 {
    (DELAY_FIRST_MS << failures.min(DOUBLINGS_MAX)).min(DELAY_MAX_MS)
}

fn jittered(longest_ms: u64, random: u64) -> Duration {
    Duration::from_millis(random % (longest_ms + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_maximum_and_stay_there() {
        let longest: Vec<u64> = (0..8).map(longest_ms).collect();
        assert_eq!(longest, [50, 100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(longest_ms(u32::MAX), DELAY_MAX_MS);
        let mut backoff = Backoff { failures: u32::MAX };
        assert!(backoff.next_delay() <= Duration::from_millis(DELAY_MAX_MS));
    }

    #[test]
    fn row_102_two_slots_do_not_come_back_in_the_same_moment() {
        assert_eq!(jittered(2000, 0), Duration::ZERO);
        assert_eq!(jittered(2000, 2000), Duration::from_secs(2));
        assert_eq!(jittered(2000, 2001), Duration::ZERO);
        let delays: std::collections::BTreeSet<Duration> =
            (0..64).map(|_| Backoff { failures: DOUBLINGS_MAX }.next_delay()).collect();
        assert!(delays.len() > 32, "{} delays of 64 differ", delays.len());
    }
}
