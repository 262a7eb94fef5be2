//! Overload: what a core does that gets more requests than it can answer.
//!
//! ```text
//!   became ready ──▶ waits (table) ──▶ oldest first ───────────────▶ handler
//!                         │            overloaded: newest first ──▶ handler
//!                         └─ overloaded, and 20 ms old ───────────▶ 503
//! ```
//!
//! Whether the core is overloaded, `baiwan_limits::ControlledDelay` decides by the time between a connection's readiness and the call of
//! its handler. A connection may be ready for as long as a turn before the driver is asked, so it is taken to be ready since the driver
//! was asked before. After a sleep it is ready since now, unless handlers that had waited have used the core until now, so that the sleep
//! was none: those that became ready meanwhile are taken to have come evenly over that time, in the order in which the driver names them. One that has sent requests behind
//! each other waits on, after each visit, from the time at which it became ready. Only connections that expect a request, and may have
//! one, wait here: what has begun is served as ever (`receive`).
//!
//! The invariant: each turn serves at least one of those that wait, whatever its age, and refuses at most [`TURN_REFUSALS_MAX`].

use std::time::Duration;

use baiwan_driver::Driver;
use baiwan_limits::{Change, ControlledDelay};
use tokio::time::Instant;

use super::apps::Apps;
use super::ports::Ports;
use super::receive::{Batch, serve_one};
use super::table::{End, Flags, Table};
use super::terms::{Board, Terms};
use super::transmit::transmit;
use super::{BATCH_MAX, TURN_CONNECTIONS_MAX, TURN_TIME_MAX, has_budget};
use crate::app::App;
use crate::say::say;
use crate::settings::Overload;
use crate::status::add;

/// Connections that one turn refuses to serve.
const TURN_REFUSALS_MAX: usize = BATCH_MAX;
/// The beginning of overload is said no more often than this, and its end where the beginning was.
const LOG_PAUSE: Duration = Duration::from_secs(1);
/// After a sleep that was longer than this nothing has waited for what used the core before: it would have ended the sleep at once.
const NO_SLEEP_MAX: Duration = Duration::from_millis(1);

/// Whether this core is overloaded, and what it has said of that.
#[derive(Debug)]
pub(super) struct Pressure {
    control: ControlledDelay,
    /// When the driver was asked for events in the last turn.
    polled: Instant,
    /// The last turn left nothing to do: what is ready now has become so just now.
    slept: bool,
    /// When handlers that had waited began to use the core in the last turn, and when that turn ended, if it left nothing to do.
    used: Option<[Instant; 2]>,
    /// How long handlers that had waited have used the core before this turn, if several requests have waited for that.
    delay: Duration,
    /// When the last overload began whose beginning was said, and how many had been refused by then.
    said: Option<(Instant, u64)>,
    /// The overload that goes on is one whose beginning was said.
    is_said: bool,
}

impl Pressure {
    /// For a core that watches for overload, if it is to. Its table keeps those that wait apart from then on.
    pub(super) fn watch<S>(overload: Overload, table: &mut Table<S>, board: &Board, now: Instant) -> Option<Self> {
        match overload {
            Overload::Off => None,
            Overload::Auto => {
                table.separate_waiting(now);
                board.watch_polls();
                let (control, delay) = (ControlledDelay::new(), Duration::ZERO);
                Some(Self { control, polled: now, slept: true, used: None, delay, said: None, is_said: false })
            }
        }
    }

    /// The driver was asked for the events of this turn. An exchange that was woken waits `since` an earlier one.
    pub(super) fn handle_polled<S>(&mut self, terms: &Terms, table: &mut Table<S>, since: Option<Instant>) {
        let now = terms.clock.now();
        let used = self.used.take().filter(|[_, ended]| now.saturating_duration_since(*ended) <= NO_SLEEP_MAX);
        // Others have been polled since by whoever lets them undo what they had begun.
        let began = used.map(|[began, _]| began).into_iter().chain(terms.board.take_polls()).min();
        match began {
            Some(began) if self.slept => table.spread_waiting(began, now),
            _ => table.stamp_waiting(if self.slept { now } else { self.polled }),
        }
        let waited = since.into_iter().chain(began).min().filter(|_| table.waiting() > 1);
        self.delay = waited.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        (self.polled, self.slept) = (now, false);
    }

    /// Nothing is left to do: every exchange waits for something that has not happened.
    pub(super) fn handle_idle(&mut self, terms: &Terms) {
        self.slept = true;
        self.used = terms.board.take_polls().map(|began| [began, terms.clock.precise()]);
        self.handle_lag(terms, Duration::ZERO, terms.clock.now());
    }

    /// The oldest of those that go on waiting has waited for `lag`; those of this turn for as long as those handlers used the core, at the least.
    fn handle_lag(&mut self, terms: &Terms, lag: Duration, now: Instant) {
        let lag = lag.max(self.delay);
        match self.control.handle_lag(lag, now.into_std()) {
            None => {}
            Some(Change::Begins) => {
                add(&terms.status().overloads, 1);
                self.say_begin(terms, lag, now);
            }
            Some(Change::Ends) => self.say_end(terms, now),
        }
    }

    fn say_begin(&mut self, terms: &Terms, lag: Duration, now: Instant) {
        self.is_said = self.said.is_none_or(|(at, _)| now.duration_since(at) >= LOG_PAUSE);
        if !self.is_said {
            return;
        }
        self.said = Some((now, terms.status().shed()));
        let (core, lag_ms) = (terms.board.index, lag.as_millis());
        say(|| {
            tracing::warn!(
                core,
                lag_ms,
                "overload: the newest requests come first, and those that have waited 20 ms get 503"
            )
        });
    }

    fn say_end(&mut self, terms: &Terms, now: Instant) {
        let Some((began, shed_before)) = self.said.filter(|_| self.is_said) else { return };
        let (core, shed) = (terms.board.index, terms.status().shed() - shed_before);
        let seconds = now.duration_since(began).as_secs_f32();
        say(|| tracing::info!(core, shed, seconds, "overload is over"));
    }
}

/// Serves those that wait for their request to be served, up to the turn's maximum.
pub(super) fn serve_waiting<D: Driver, A: App>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    apps: &mut Apps<A>,
    batch: &mut Batch,
    area: &mut [u8],
    pressure: &mut Pressure,
) {
    if table.waiting() == 0 {
        return;
    }
    // First, because each takes a few microseconds, and handlers may take the rest of the turn.
    refuse_late(terms, ports, table, apps, batch, area, &pressure.control);
    let mut left = table.waiting().min(TURN_CONNECTIONS_MAX);
    let mut is_first = true;
    while left > 0 {
        left -= 1;
        let now = terms.precise_time();
        table.stamp_waiting(now);
        let next = match pressure.control.is_overloaded() {
            true => End::Newest,
            false => End::Oldest,
        };
        if !is_first && !may_serve_another(terms, table, &pressure.control, next, now) {
            break;
        }
        let since = table.waiting_since(next);
        let index = table.next_waiting(next);
        pressure.handle_lag(terms, waited(table, End::Oldest, now), now);
        if let Some(index) = index {
            is_first = false;
            terms.note_waiting(since);
            serve_one(terms, ports, table, apps, batch, area, index);
            terms.note_waiting(None);
        }
    }
    transmit(terms, ports, table);
    table.end_turn_of_waiting(terms.clock.precise());
}

/// Whether the turn goes on after the first.
fn may_serve_another<S>(terms: &Terms, table: &Table<S>, control: &ControlledDelay, next: End, now: Instant) -> bool {
    // If the newest is late, all are: the next turns refuse them.
    !control.is_late(waited(table, next, now)) && now.duration_since(terms.clock.now()) <= TURN_TIME_MAX && has_budget()
}

/// How long the oldest, or the newest, of those that wait has waited.
fn waited<S>(table: &Table<S>, end: End, now: Instant) -> Duration {
    table.waiting_since(end).map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
}

/// Refuses what has waited too long, the oldest first. One is left: the core has the time to serve it.
fn refuse_late<D: Driver, A: App>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    apps: &mut Apps<A>,
    batch: &mut Batch,
    area: &mut [u8],
    control: &ControlledDelay,
) {
    if !control.is_overloaded() {
        return;
    }
    let now = terms.precise_time();
    table.stamp_waiting(now);
    for _ in 0..TURN_REFUSALS_MAX {
        let since = table.waiting_since(End::Oldest);
        if table.waiting() < 2 || !control.is_late(waited(table, End::Oldest, now)) {
            return;
        }
        let Some(index) = table.next_waiting(End::Oldest) else { continue };
        table[index].flags.set(Flags::LATE);
        terms.note_waiting(since);
        serve_one(terms, ports, table, apps, batch, area, index);
        terms.note_waiting(None);
        if table.get(index).is_some() {
            table[index].flags.clear(Flags::LATE);
        }
    }
}
