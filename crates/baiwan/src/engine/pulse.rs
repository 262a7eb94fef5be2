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

    /// The turn is over. Called once for each, before anything is waited for.
    pub(super) fn handle_end(&mut self, terms: &Terms) {
        if let Some(recorder) = terms.recorder() {
            recorder.tell_turn(self.lag, terms.precise_time().duration_since(terms.clock.now()));
        }
    }

    /// The loop sleeps after its turn, or has something left to do.
    pub(super) fn handle_sleep(&mut self, sleeps: bool) {
        self.slept = sleeps;
    }

    /// The driver was waited for in vain: what is ready from here on has become so since.
    pub(super) fn handle_vain_wait(&mut self, terms: &Terms) {
        self.polled = terms.precise_time();
    }
}
