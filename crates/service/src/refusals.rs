//! What an operator hears of refused requests: one line a minute, with a count for each rule that was broken.
//!
//! Each single refusal is a line at debug level, written by the engine. A scanner that breaks a thousand rules a second must not
//! fill the log, so above that level there is only the sum.

use std::fmt::Write;
use std::time::Duration;

use baiwan::{Counts, Health};
use tracing::info;

const INTERVAL: Duration = Duration::from_secs(60);

/// What was said so far.
pub(crate) struct Refusals {
    health: Health,
    said: Counts,
}

impl Refusals {
    /// Nothing was said yet.
    pub(crate) fn new(health: Health) -> Self {
        Self { health, said: Counts::default() }
    }

    /// Says once a minute what was refused since. Never ends.
    pub(crate) async fn say_every_minute(&mut self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.say();
        }
    }

    /// Says what was refused since the last time; nothing, if that is nothing.
    pub(crate) fn say(&mut self) {
        let counts = self.health.counts();
        let rules = grown(&self.said, &counts);
        if !rules.is_empty() {
            info!(rules, "requests were refused; each that broke a rule is a line at LOG_LEVEL=debug");
        }
        self.said = counts;
    }
}

/// The rules that were broken between two counts, and how often.
fn grown(earlier: &Counts, later: &Counts) -> String {
    let mut text = String::new();
    let limited = ("rate-limited", later.rate_limited - earlier.rate_limited);
    let rules = later.refused.iter().map(|(rule, count)| (*rule, count - earlier.refused_by(rule)));
    for (rule, count) in rules.chain([limited]) {
        if count > 0 {
            let space = if text.is_empty() { "" } else { " " };
            let _ = write!(text, "{space}{rule}={count}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_said() {
        let counts = |refused: &[(&'static str, u64)]| {
            let mut counts = Counts::default();
            counts.refused = refused.to_vec();
            counts
        };
        let (none, first) = (Counts::default(), counts(&[("host-missing", 2), ("control-byte", 0)]));
        let second = counts(&[("host-missing", 5), ("control-byte", 1)]);
        assert_eq!(grown(&none, &first), "host-missing=2");
        assert_eq!(grown(&first, &second), "host-missing=3 control-byte=1");
        assert_eq!(grown(&second, &second), "");
        let mut third = second.clone();
        third.rate_limited = 7;
        assert_eq!(grown(&second, &third), "rate-limited=7");
    }
}
