//! What became of the requests.

use std::time::Duration;

use serde::Serialize;

/// Failures that are kept in words.
const FAILURES_MAX: usize = 5;

#[derive(Debug, Default, Serialize)]
pub(crate) struct Tally {
    pub(crate) shape: &'static str,
    pub(crate) answered: u64,
    /// Those of them that created a user.
    pub(crate) created: u64,
    /// Asked once more, because the connection was closed in order before a byte of the answer had come.
    pub(crate) again: u64,
    /// Connects that were refused.
    pub(crate) refused: u64,
    /// Connections that were reset before a byte of the answer had come.
    pub(crate) reset: u64,
    pub(crate) failed: u64,
    pub(crate) slowest_ms: u128,
    pub(crate) failures: Vec<String>,
}

impl Tally {
    pub(crate) fn fail(&mut self, why: String) {
        self.failed += 1;
        if self.failures.len() < FAILURES_MAX {
            self.failures.push(why);
        }
    }

    pub(crate) fn slowest(&mut self, latency: Duration) {
        self.slowest_ms = self.slowest_ms.max(latency.as_millis());
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.created += other.created;
        self.again += other.again;
        self.refused += other.refused;
        self.reset += other.reset;
        self.failed += other.failed;
        self.slowest_ms = self.slowest_ms.max(other.slowest_ms);
        self.failures.extend(other.failures);
        self.failures.truncate(FAILURES_MAX);
    }
}
