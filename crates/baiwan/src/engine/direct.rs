//! Waiting in the driver itself, and not in Tokio, while requests come one soon after the other.
//!
//! Tokio hears only that something happened at the driver; what it was takes a second system call. So a core that is asked often, and on
//! which nobody but the engine waits for anything, waits in the driver at once. What is due to others meanwhile waits too: Tokio's timers,
//! signals, a stop, a reload, a take-over, and a word from another thread. So direct waits, and the turns between them, last for
//! [`TIME_MAX`] together at most, and then Tokio has its turn. An alarm of the driver's ends them, so no event is needed for that. Each
//! turn looks into the inbox, as ever, so a word from another thread waits for the next event, or that long.
//!
//! The invariant: while an exchange, or a task of a handler or of the app, is alive on the core, nothing waits here.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use baiwan_driver::{Driver, Events};
use tokio::runtime::{Handle, RuntimeMetrics};
use tokio::time::Instant;

use super::has_budget;
use super::terms::Terms;
use crate::status::CoreStatus;

/// How long Tokio waits for its turn, the last turn of the engine apart.
const TIME_MAX: Duration = super::TURN_TIME_MAX;
/// Requests come soon after one another if that is less than this from turn to turn, on average: then dozens come in the time above, and
/// what its beginning and end cost is little.
const GAP_MAX: Duration = Duration::from_micros(200);
/// A longer gap counts as one of this length, so that what comes after a pause is soon noticed.
const GAP_COUNTED_MAX: Duration = Duration::from_millis(2);
/// The last gap has a weight of one part of this in the mean.
const MEMORY: u32 = 8;

/// Decides when a core waits in its driver.
#[derive(Debug)]
pub(super) struct Direct {
    runtime: RuntimeMetrics,
    cadence: Cadence,
    time: Time,
}

/// A time of direct waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Time {
    /// Tokio has had its turn: one may begin.
    None,
    GoesOn,
    /// It is Tokio's turn.
    Over,
}

/// How soon after one another turns come that serve something.
#[derive(Debug)]
struct Cadence {
    /// Requests until now.
    requests: u64,
    /// When the last turn began that served one.
    served: Instant,
    /// Mean of the time from one such turn to the next, in which the last has the greatest weight.
    gap: Duration,
}

impl Direct {
    /// To be called on the core's runtime, at the time `now`.
    pub(super) fn new(now: Instant) -> Self {
        let cadence = Cadence { requests: 0, served: now, gap: GAP_COUNTED_MAX };
        Self { runtime: Handle::current().metrics(), cadence, time: Time::None }
    }

    /// Tokio has had its turn.
    pub(super) fn begin_turn(&mut self) {
        if self.time == Time::Over {
            self.time = Time::None;
        }
    }

    /// Whether the next wait is a direct one, at the end of a turn that has left nothing to do.
    pub(super) fn may_wait<D: Driver>(&mut self, terms: &Terms, driver: &mut D) -> bool {
        let is_quick = self.cadence.handle_turn(terms.status(), terms.clock.now());
        if self.time == Time::Over || self.is_waited_for(terms.status()) || !has_budget() {
            return false;
        }
        // Here a push wakes nobody, so what came during this turn must be seen before the wait.
        if terms.board.inbox().has_news() {
            return false;
        }
        if self.time == Time::None && is_quick && driver.begin_direct(TIME_MAX) {
            self.time = Time::GoesOn;
        }
        self.time == Time::GoesOn
    }

    /// Waits. Returns whether a turn follows before Tokio's.
    pub(super) fn wait<D: Driver>(&mut self, driver: &mut D, events: &mut Events) -> std::io::Result<bool> {
        let goes_on = driver.wait_directly(events)?;
        if !goes_on {
            self.time = Time::Over;
        }
        Ok(goes_on || !events.is_empty())
    }

    /// Whether a task is alive on the core, or a handler waits, that may wait for Tokio.
    fn is_waited_for(&self, status: &CoreStatus) -> bool {
        status.exchanges.load(Relaxed) > 0 || self.runtime.num_alive_tasks() > status.own_tasks.load(Relaxed)
    }
}

impl Cadence {
    /// A turn that began at `now` is over. Returns whether it has served something, soon after others did.
    fn handle_turn(&mut self, status: &CoreStatus, now: Instant) -> bool {
        let requests = status.requests.load(Relaxed);
        if requests == self.requests {
            return false;
        }
        self.requests = requests;
        let gap = now.duration_since(self.served).min(GAP_COUNTED_MAX);
        self.served = now;
        self.gap = self.gap - self.gap / MEMORY + gap / MEMORY;
        self.gap < GAP_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Status;

    /// After how many turns with one request each, `gap` apart, a cadence is quick; 0 if never.
    fn turns_until_quick(cadence: &mut Cadence, now: &mut Instant, gap: Duration) -> usize {
        let status = Status::new(1, 1, 1);
        status.cores[0].requests.store(cadence.requests, Relaxed);
        for turn in 1..100 {
            *now += gap;
            status.cores[0].requests.fetch_add(1, Relaxed);
            if cadence.handle_turn(&status.cores[0], *now) {
                return turn;
            }
        }
        0
    }

    #[test]
    fn a_core_is_asked_often_after_some_turns_and_no_longer_after_a_pause() {
        let mut now = Instant::now();
        let mut cadence = Cadence { requests: 0, served: now, gap: GAP_COUNTED_MAX };
        let turns = turns_until_quick(&mut cadence, &mut now, Duration::from_micros(100));
        assert!((10..40).contains(&turns), "{turns}");
        let status = Status::new(1, 1, 1);
        status.cores[0].requests.store(cadence.requests, Relaxed);
        assert!(!cadence.handle_turn(&status.cores[0], now), "a turn that has served nothing begins nothing");
        now += Duration::from_secs(3600);
        assert_eq!(turns_until_quick(&mut cadence, &mut now, Duration::from_micros(250)), 0);
        let turns = turns_until_quick(&mut cadence, &mut now, Duration::from_micros(100));
        assert!((1..10).contains(&turns), "{turns}");
    }

    #[tokio::test(flavor = "local")]
    async fn a_task_that_is_not_the_server_s_own_is_waited_for() {
        let direct = Direct::new(Instant::now());
        let status = Status::new(1, 1, 1);
        let status = &status.cores[0];
        assert!(!direct.is_waited_for(status));
        let tasks = [tokio::task::spawn_local(std::future::pending::<()>()), tokio::spawn(std::future::pending())];
        assert!(direct.is_waited_for(status));
        status.own_tasks.store(2, Relaxed);
        assert!(!direct.is_waited_for(status));
        status.exchanges.store(1, Relaxed);
        assert!(direct.is_waited_for(status), "a handler that waits is no task");
        status.exchanges.store(0, Relaxed);
        status.own_tasks.store(0, Relaxed);
        for task in tasks {
            task.abort();
            task.await.unwrap_err();
        }
        assert!(!direct.is_waited_for(status));
    }
}
