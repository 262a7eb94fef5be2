//! What is shown while a load runs: on a terminal a bar and one line that changes every second; elsewhere a line for each phase.
//!
//! It is shown on a thread of its own, which may wait for a terminal that stands still (Ctrl-S) or a pipe that nobody reads. Invariant:
//! the run never waits for it; what comes too fast for it is not shown.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use baiwan_load::units::{count, number, span, time};
use baiwan_load::{Observer, Phase, Plan, Second};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::logs;

/// A terminal is drawn to as often as it changes.
const DRAWS_PER_SECOND: u8 = 4;

/// What may wait to be shown.
const UPDATES_MAX: usize = 64;
/// How long the end of a run waits for the last of it to be shown.
const LAST_MAX: Duration = Duration::from_secs(2);

/// Has shown how a run goes.
pub(super) struct Live {
    /// None: nothing is shown.
    updates: Option<SyncSender<Update>>,
    /// Closed when all was shown.
    shown: Receiver<()>,
}

enum Update {
    Phase(Phase),
    Second(Second),
}

impl Live {
    pub(super) fn new(plan: &Plan, quiet: bool, is_terminal: bool) -> Self {
        let (updates, inbox) = sync_channel(UPDATES_MAX);
        let (end, shown) = sync_channel(1);
        let connections = plan.connections;
        let show = move || {
            let _end: SyncSender<()> = end;
            let mut screen = Screen::new(connections, is_terminal);
            for update in inbox {
                match update {
                    Update::Phase(phase) => screen.phase(&phase),
                    Update::Second(second) => screen.second(&second),
                }
            }
        };
        // Without a thread nothing is shown, and the run is as it would be.
        let is_shown = !quiet && thread::Builder::new().name("live".to_owned()).spawn(show).is_ok();
        Self { updates: is_shown.then_some(updates), shown }
    }

    fn update(&self, update: Update) {
        if let Some(updates) = &self.updates {
            let _ = updates.try_send(update);
        }
    }
}

impl Observer for Live {
    fn phase(&mut self, _index: usize, phase: &Phase) {
        self.update(Update::Phase(phase.clone()));
    }

    fn second(&mut self, second: &Second) {
        self.update(Update::Second(second.clone()));
    }
}

/// What comes after it is not mixed with it.
impl Drop for Live {
    fn drop(&mut self) {
        drop(self.updates.take());
        let _: Result<(), RecvTimeoutError> = self.shown.recv_timeout(LAST_MAX);
    }
}

/// What is shown, in a terminal or line by line.
struct Screen {
    connections: u64,
    show: Show,
    extent: Extent,
    /// When the phase began, and what was counted in it.
    begin: f64,
    at: f64,
    answered: u64,
    errors: u64,
}

enum Show {
    Lines,
    Bar(ProgressBar),
}

/// What a phase makes progress towards.
#[derive(Clone, Copy)]
enum Extent {
    Connections,
    Milliseconds,
    Requests,
    Unknown,
}

impl Screen {
    fn new(connections: u64, is_terminal: bool) -> Self {
        let show = if is_terminal {
            let bar = ProgressBar::no_length();
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND));
            Show::Bar(bar)
        } else {
            Show::Lines
        };
        Self { connections, show, extent: Extent::Unknown, begin: 0.0, at: 0.0, answered: 0, errors: 0 }
    }

    fn progress(&self, second: &Second) -> u64 {
        match self.extent {
            Extent::Connections => second.open,
            Extent::Milliseconds => ((second.at - self.begin) * 1e3) as u64,
            Extent::Requests => self.answered,
            Extent::Unknown => 0,
        }
    }

    fn phase(&mut self, phase: &Phase) {
        self.begin = self.at;
        self.answered = 0;
        let milliseconds = phase.duration().map(|duration| duration.as_millis() as u64);
        let (extent, length) = match phase {
            Phase::Open { .. } => (Extent::Connections, Some(self.connections)),
            Phase::Closed { duration: None, requests, .. } => (Extent::Requests, *requests),
            Phase::Close => (Extent::Unknown, None),
            _ => (Extent::Milliseconds, milliseconds),
        };
        self.extent = extent;
        match &self.show {
            Show::Lines => logs::print_to_stderr(&format!("{}\n", announced(phase, self.connections))),
            Show::Bar(bar) => {
                let template = if length.is_some() {
                    "{prefix} {bar:16} {percent:>3} %  {wide_msg}"
                } else {
                    "{prefix}  {wide_msg}"
                };
                let style = ProgressStyle::with_template(template).expect("the template is right");
                bar.set_style(style.progress_chars("━╸─"));
                bar.set_position(0);
                match length {
                    Some(length) => bar.set_length(length),
                    None => bar.unset_length(),
                }
                bar.set_message("");
                bar.set_prefix(phase.name());
                bar.tick();
            }
        }
    }

    fn second(&mut self, second: &Second) {
        let length = second.at - self.at;
        self.at = second.at;
        self.answered += second.answered;
        self.errors += second.errors;
        let Show::Bar(bar) = &self.show else { return };
        bar.set_message(state(second, length, self.errors));
        bar.set_position(self.progress(second).min(bar.length().unwrap_or(u64::MAX)));
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Show::Bar(bar) = &self.show {
            bar.finish_and_clear();
        }
    }
}

/// A phase in one line.
fn announced(phase: &Phase, connections: u64) -> String {
    let mut words = Vec::new();
    match phase {
        Phase::Open { .. } => words.push(format!("{} connections", count(connections))),
        Phase::Closed { requests: Some(requests), .. } => words.push(format!("{} requests", count(*requests))),
        Phase::Rate { per_second, .. } => words.push(format!("{} requests/s", number(*per_second))),
        Phase::Closed { requests: None, .. } | Phase::Hold { .. } | Phase::Close => {}
    }
    words.extend(phase.duration().map(|duration| format!("for {}", span(duration.as_secs_f64()))));
    let over = words.join(" ").replacen("connections for", "connections over", 1);
    if over.is_empty() { phase.name().to_owned() } else { format!("{}: {over}", phase.name()) }
}

/// A second in one line. `length` is how long it was; `errors` are all so far.
fn state(second: &Second, length: f64, errors: u64) -> String {
    let rate = |events: u64| number(events as f64 / length.max(1e-3));
    let mut parts = vec![format!("{} open", count(second.open))];
    if second.answered > 0 {
        parts.push(format!("{}/s", rate(second.answered)));
        parts.push(format!("p50 {}, p99 {}", time(second.p50), time(second.p99)));
    }
    if second.events > 0 {
        parts.push(format!("{} events/s", rate(second.events)));
    }
    match errors {
        0 => {}
        1 => parts.push("1 error".to_owned()),
        _ => parts.push(format!("{} errors", count(errors))),
    }
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_phase_is_one_line() {
        let duration = Duration::from_mins(1);
        for (phase, line) in [
            (Phase::Open { ramp: duration, ask: false, opening_max: 9 }, "open: 1,000,000 connections over 60 s"),
            (Phase::Open { ramp: Duration::ZERO, ask: false, opening_max: 9 }, "open: 1,000,000 connections"),
            (Phase::Rate { per_second: 1e4, duration, warm_up: true }, "warm-up: 10,000 requests/s for 60 s"),
            (
                Phase::Closed {
                    duration: None,
                    requests: Some(5000),
                    each: None,
                    outstanding_max: None,
                    warm_up: false,
                },
                "closed loop: 5,000 requests",
            ),
            (Phase::Hold { duration: duration * 5 }, "hold: for 5 min"),
            (Phase::Close, "close"),
        ] {
            assert_eq!(announced(&phase, 1_000_000), line);
        }
    }

    #[test]
    fn a_second_is_one_line() {
        let second = Second { open: 1000, answered: 5000, p50: 0.0004, p99: 0.0123, events: 10, ..Second::default() };
        assert_eq!(state(&second, 0.5, 3), "1,000 open · 10,000/s · p50 400 µs, p99 12.3 ms · 20 events/s · 3 errors");
        assert_eq!(state(&Second { open: 7, ..Second::default() }, 1.0, 0), "7 open");
    }
}
