//! What an operator hears of a stop: at once that it has begun, what is waited for and for how long; then once a second what is
//! left, if anything is; and that a second signal has come. systemd hears that it has begun.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use baiwan::{EventLoop, Health, Phase};
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::info;

use crate::config::Config;
use crate::notify;

/// Between two lines about what is left.
const INTERVAL: Duration = Duration::from_secs(1);

/// How far the stop is, as far as an operator is concerned.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Step {
    Serving,
    /// Not ready any more; nothing is closed yet.
    Delaying,
    /// Connections are closed one after the other.
    Closing,
    /// A second signal has come.
    Cutting,
}

/// What was said of the stop so far.
pub(crate) struct Stopping {
    health: Health,
    delay: Duration,
    idle: Duration,
    timeout: Duration,
    /// The portable event loop does not count what is being answered.
    counts_exchanges: bool,
    said: Step,
    /// Another process has taken over, and systemd was told so.
    is_handed_over: bool,
    /// When the stop is over at the latest; None before it has begun.
    ends: Option<Instant>,
    /// When what is left is said next.
    next: Option<Pin<Box<Sleep>>>,
}

impl Stopping {
    /// Nothing was said yet.
    pub(crate) fn new(health: Health, config: &Config, event_loop: EventLoop) -> Self {
        Self {
            health,
            delay: config.server.shutdown_delay,
            idle: config.server.shutdown_idle,
            timeout: config.server.shutdown_timeout,
            counts_exchanges: event_loop != EventLoop::Portable,
            said: Step::Serving,
            is_handed_over: false,
            ends: None,
            next: None,
        }
    }

    /// Says what is new. To be called after each poll of the running server, in which its phase changes.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) {
        self.tell_of_successor();
        let step = self.step(self.health.phase());
        if self.said < step {
            self.said = step;
            let now = Instant::now();
            let ends = *self.ends.get_or_insert_with(|| {
                notify::stopping(self.timeout);
                now + self.timeout
            });
            self.say(step, seconds(ends - now));
            if step == Step::Closing {
                self.next = Some(Box::pin(sleep_until(now + INTERVAL)));
            }
        }
        while let (Some(next), Some(ends)) = (&mut self.next, self.ends)
            && next.as_mut().poll(cx).is_ready()
        {
            next.as_mut().reset(Instant::now() + INTERVAL);
            self.say_what_is_left(seconds(ends - Instant::now()));
        }
    }

    /// Tells systemd of the process that has taken over: this one speaks for the service no more.
    fn tell_of_successor(&mut self) {
        if self.is_handed_over {
            return;
        }
        if let Some(pid) = self.health.successor() {
            self.is_handed_over = true;
            // 0 is one that cannot be seen from here.
            if pid > 0 {
                notify::main_pid(pid);
            }
            notify::handed_over();
        }
    }

    fn step(&self, phase: Phase) -> Step {
        match phase {
            Phase::Starting | Phase::Serving => Step::Serving,
            Phase::NotReady if !self.delay.is_zero() => Step::Delaying,
            Phase::NotReady | Phase::Draining => Step::Closing,
            _ => Step::Cutting,
        }
    }

    fn say(&self, step: Step, at_most_seconds: f64) {
        let (connections, being_answered) = self.open();
        match step {
            Step::Serving => {}
            Step::Delaying => info!(
                connections,
                being_answered,
                delay_seconds = seconds(self.delay),
                at_most_seconds,
                "stopping: serves on as not ready, and begins to close connections after the delay; a second signal ends it at once"
            ),
            Step::Closing if connections == 0 => info!(connections, at_most_seconds, "stopping: no connection is open"),
            Step::Closing => info!(
                connections,
                being_answered,
                idle_seconds = seconds(self.idle),
                at_most_seconds,
                "stopping: closes each connection after its answer, or once it has been idle; a second signal ends it at once"
            ),
            Step::Cutting => {
                info!(connections, being_answered, "a second signal has come: closes every connection now")
            }
        }
    }

    fn say_what_is_left(&self, at_most_seconds: f64) {
        let (connections, being_answered) = self.open();
        if connections > 0 {
            info!(connections, being_answered, at_most_seconds, "still stopping: waits for connections");
        }
    }

    /// Connections that are open, and those of them that are being answered.
    fn open(&self) -> (u64, Option<u64>) {
        let counts = self.health.counts();
        (counts.connections, Some(counts.exchanges).filter(|_| self.counts_exchanges))
    }
}

fn seconds(duration: Duration) -> f64 {
    duration.as_millis() as f64 / 1000.0
}
