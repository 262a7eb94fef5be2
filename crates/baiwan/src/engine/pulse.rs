//! How late and how long the turns of a core's loop are, where somebody counts that.
//!
//! What becomes ready while the loop is busy waits until it asks the driver again: at most for the time since it asked before, and that is
//! the lag. A loop that sleeps is woken by what becomes ready, so its next turn has none. What the lag does *not* see is a task that a
//! handler has spawned, and that keeps the thread while the loop sleeps; the watchdog does.

use std::time::Duration;

use tokio::time::Instant;

use super::terms::Terms;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Pulse {
    /// When the driver was asked last.
    polled: Instant,
    /// The last turn left nothing to do.
    slept: bool,
    /// Of the turn that goes on.
    lag: Duration,
}

impl Pulse {
    /// A core begins, at the time `now`.
    pub(super) fn begin(now: Instant) -> Self {
        Self { polled: now, slept: true, lag: Duration::ZERO }
    }

    /// The driver was asked for the events of this turn.
    pub(super) fn handle_polled(&mut self, terms: &Terms) {
        let now = terms.clock.now();
        self.lag = if self.slept { Duration::ZERO } else { now.duration_since(self.polled) };
        self.polled = now;
    }

    /// The turn is over, and the loop sleeps then or has something left to do.
    pub(super) fn handle_end(&mut self, terms: &Terms, sleeps: bool) {
        self.slept = sleeps;
        if let Some(recorder) = terms.recorder() {
            recorder.tell_turn(self.lag, terms.precise_time().duration_since(terms.clock.now()));
        }
    }
}
