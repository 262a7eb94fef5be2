//! The engine of one core: a single future that owns all of the core's connections.
//!
//! [`Engine::turn`] is the loop, one named and bounded step after the other. The engine contains no HTTP syntax (that is
//! `baiwan-http1`) and no system calls (that is the driver); it decides what happens next on which connection. It runs as the
//! root future of a Tokio runtime, beside the tasks that handlers make.
//!
//! Each step is a function over the parts that it needs, so its signature says what it may change: `Terms` (settings, time, status:
//! only read), `Ports` (the driver, and what leaves in this batch), `Table` (the connections), the app. Steps further up in this
//! table call those further down, never the other way round.
//!
//! | file | part |
//! |---|---|
//! | `recover` | what is left of a core whose loop panicked |
//! | `stop` | the server's stop |
//! | `follow` | settings that change while the server runs |
//! | `accept` | new connections, those too many, and a system that refuses them |
//! | `newcomers` | connections that are received from before they are watched |
//! | `expire` | deadlines that have passed |
//! | `shrink` | connections that are idle when memory becomes short |
//! | `overload` | a core that cannot keep up: which request is next, and which are refused |
//! | `direct` | waiting without Tokio, while requests come one soon after the other |
//! | `pulse` | how late and how long turns are, where somebody counts that |
//! | `receive` | ready connections: bytes to heads and bodies |
//! | `admit` | a head to the gate's verdict |
//! | `respond` | a head to an answer, or to an exchange that is waited for |
//! | `call` | the app's call, polled once |
//! | `apps` | the app that a connection's requests are for |
//! | `upload` | a request's body: received, or discarded |
//! | `transmit` | answers to bytes on the wire |
//! | `upgrade` | offers of another protocol go to hyper |
//! | `set_aside` | what was received and has to wait |
//! | `refuse` | requests that broke a rule |
//! | `deny` | requests that the gate does not let through |
//! | `lifetime` | connections that are old enough to end |
//! | `close` | what follows an answer: the next request, or the end |
//! | `ports`, `arrival` | what is sent, received and closed through |
//! | `table` | the connections: states, slots, deadlines, and which have something to do |
//! | `waker` | what handlers and bodies wake when they can go on |
//! | `exchange`, `handling` | a handler or a body that is waited for: what the engine asks about it, and the app's part |
//! | `advance` | those that go on |
//! | `give_back` | memory of connections that are gone |
//! | `chunks` | what a connection owes to its peer |
//! | `answer` | a response to bytes |
//! | `feed` | a request's body on its way to its handler |
//! | `terms` | what all of them read |
//! | `simulation` | all of it on a network in memory, decided by a seed; not part of the product |
//!
//! The invariant: when the future is pending, every connection is either waited for by the driver, by its exchange, or
//! by its deadline; nothing is left to do that no event will announce.

mod accept;
mod admit;
mod advance;
mod answer;
mod apps;
mod arrival;
mod call;
mod chunks;
mod close;
mod deny;
mod direct;
mod exchange;
mod expire;
mod feed;
mod follow;
mod give_back;
mod handling;
mod lifetime;
mod newcomers;
mod overload;
mod place;
mod ports;
mod proxied;
mod pulse;
mod receive;
mod recover;
mod refuse;
mod respond;
mod route;
mod set_aside;
mod shrink;
#[cfg(any(test, feature = "simulation"))]
pub(crate) mod simulation;
mod stop;
mod table;
mod terms;
#[cfg(test)]
mod tests;
mod transmit;
mod upgrade;
mod upload;
mod waker;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use baiwan_driver::{Driver, Events};
use baiwan_http1::HEAD_BYTES_CEILING;
use tokio::time::Sleep;

use self::accept::{Listeners, accept, watch_newcomers};
use self::advance::{Messages, take_messages};
use self::apps::Apps;
use self::close::{close, close_all};
use self::direct::Direct;
use self::expire::expire;
use self::follow::follow_settings;
use self::give_back::Peak;
use self::overload::{Pressure, serve_waiting};
use self::ports::Ports;
use self::pulse::Pulse;
use self::receive::{Batch, serve_ready};
use self::shrink::{Sweep, follow_memory, sweep_idle};
use self::stop::{begin_stop, has_stopped};
use self::table::{Flags, Table};
use self::terms::{Board, Terms};
use crate::app::App;
use crate::clock::Clock;
use crate::hyper::Transports;
use crate::reload::{InForce, Remake};
use crate::status::{CloseReason, Status};

/// Events that one turn takes from the driver.
const TURN_EVENTS_MAX: usize = 512;
/// Ready connections that one turn serves.
const TURN_CONNECTIONS_MAX: usize = 512;
/// Connections that one turn accepts from each listener.
const TURN_ACCEPTS_MAX: usize = 64;
/// Connections received from, served and sent to together.
const BATCH_MAX: usize = 64;
/// Bytes taken from a connection at once while a head is expected.
const RECEIVE_BYTES_MAX: usize = 16 * 1024;
/// Bytes taken from a connection at once while a body is expected.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a connection that may wait for their turn, unless a head may be longer (`Terms::set_aside_bytes_max`).
const SET_ASIDE_BYTES_MAX: usize = 16 * 1024;
/// Answers wait for the end of their batch no longer than this.
const TRANSMIT_DELAY_MAX: Duration = Duration::from_micros(200);
/// Answers wait for the end of their batch while they have fewer bytes than this.
const TRANSMIT_AREA_BYTES: usize = 256 * 1024;
/// A turn that has lasted this long begins no further batch.
const TURN_TIME_MAX: Duration = Duration::from_millis(5);

/// What a batch can receive.
const AREA_BYTES: usize = BATCH_MAX * RECEIVE_BYTES_MAX;

const _: () = assert!(AREA_BYTES >= BODY_BYTES_MAX);
const _: () = assert!(AREA_BYTES >= HEAD_BYTES_CEILING);
const _: () = assert!(SET_ASIDE_BYTES_MAX <= HEAD_BYTES_CEILING);
const _: () = assert!(TURN_ACCEPTS_MAX as u64 <= crate::files::ACCEPTED_MAX);
const _: () = assert!(SET_ASIDE_BYTES_MAX >= RECEIVE_BYTES_MAX);

/// The state of one core.
pub(crate) struct Engine<D: Driver, A: App> {
    terms: Terms,
    ports: Ports<D>,
    table: Table<D::Socket>,
    apps: Apps<A>,
    listeners: Listeners<D>,
    events: Events,
    batch: Batch,
    lists: Lists,
    sleep: Pin<Box<Sleep>>,
    /// When the loop panicked, lately.
    panics: recover::Panics,
    drain: Option<stop::Drain>,
    /// Idle connections get less time, while memory becomes short.
    sweep: Option<Sweep>,
    /// When memory is to be given back.
    peak: Peak,
    /// Where the core watches for overload.
    pressure: Option<Pressure>,
    /// Where turns are counted.
    pulse: Option<Pulse>,
    direct: Direct,
}

/// Lists that are empty between their uses; kept for their capacity.
#[derive(Debug, Default)]
struct Lists {
    messages: Messages,
    expired: Vec<u32>,
}

impl<D: Driver, A: App> Engine<D, A> {
    /// An engine for the `index`-th core of `status`. Call it within the runtime that will poll it.
    pub(crate) fn new(
        mut driver: D,
        app: A,
        in_force: &Arc<InForce>,
        status: Arc<Status>,
        index: usize,
        bound: Vec<D::Bound>,
    ) -> io::Result<Self> {
        let (settings, follower) = in_force.follow();
        let recorder = settings.recorder(&status, index);
        let apps = Apps::new(app, recorder.as_ref());
        let clock = Clock::start();
        let listeners = Listeners::new(&mut driver, bound)?;
        let transports = Transports::new(&settings, Arc::clone(&status), index, recorder.clone());
        let mut table = Table::new(clock.tick());
        let pulse = recorder.as_ref().filter(|recorder| recorder.counts_turns()).map(|_| Pulse::begin(clock.now()));
        let board = Board::new(status, index, *clock.date(), recorder);
        let pressure = Pressure::watch(settings.overload, &mut table, &board, clock.now());
        Ok(Self {
            ports: Ports::new(driver, transports, clock.now()),
            table,
            apps,
            listeners,
            events: Events::with_capacity(TURN_EVENTS_MAX),
            batch: Batch::default(),
            lists: Lists::default(),
            sleep: Box::pin(tokio::time::sleep_until(clock.now())),
            panics: Default::default(),
            drain: None,
            sweep: None,
            peak: Peak::default(),
            pressure,
            pulse,
            direct: Direct::new(clock.now()),
            terms: Terms::new(settings, follower, clock, board),
        })
    }

    /// The same, with a way to make its app anew.
    pub(crate) fn remaking(mut self, remake: Option<Remake<A>>) -> Self {
        self.apps.set_remake(remake);
        self
    }

    /// Runs until the server has stopped and every connection of this core is closed.
    ///
    /// # Errors
    /// When the kernel's readiness interface fails, or the loop panics again and again.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        let mut area = receive_area();
        std::future::poll_fn(|cx| self.turn_and_recover(&mut area, cx)).await
    }

    /// Takes a turn of the loop, and others for as long as the driver is waited for directly; then yields to Tokio. Everything is received
    /// into `area`.
    fn turn(&mut self, area: &mut [u8], cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.direct.begin_turn();
        self.begin_turn();
        let _ = self.poll_events(cx)?;
        while !self.take_steps(area) {
            if let Some(pulse) = &mut self.pulse {
                pulse.handle_end(&self.terms);
            }
            if self.wait_directly()? {
                self.begin_turn();
                self.take_events();
                continue;
            }
            // Events that come in while the engine looks are left for the next turn.
            let sleeps = !self.has_work()
                && self.poll_events(cx)?.is_pending()
                && self.poll_sleep(cx).is_pending()
                && self.terms.board.inbox().end_turn(cx.waker());
            if !sleeps {
                cx.waker().wake_by_ref();
            }
            self.handle_sleep(sleeps);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Does what a turn does, when the events are taken in. Returns whether the core is done.
    fn take_steps(&mut self, area: &mut [u8]) -> bool {
        let Self { terms, ports, table, apps, listeners, batch, lists, drain, sweep, peak, pressure, pulse, .. } = self;
        if let Some(pulse) = pulse {
            pulse.handle_polled(terms);
        }
        if let Some(pressure) = pressure {
            pressure.handle_polled(terms, table, lists.messages.waits_since());
        }
        accept(terms, listeners, ports, table);
        take_messages(terms, ports, table, &mut lists.messages);
        serve_ready(terms, ports, table, apps, batch, area);
        if let Some(pressure) = pressure {
            serve_waiting(terms, ports, table, apps, batch, area, pressure);
        }
        expire(terms, ports, table, apps, &mut lists.expired, area);
        sweep_idle(terms, sweep, table);
        // It may close some, which the steps behind it must see.
        watch_newcomers(terms, listeners, ports, table);
        apps.forget_gone(table);
        if has_stopped(terms, drain, listeners, ports, table) {
            return true;
        }
        let in_hyper = terms.status().transports.open.load(Relaxed) as usize;
        peak.handle_turn(table.len() + table.busy_len() + in_hyper);
        self.publish();
        false
    }

    /// Waits for the events of another turn without Tokio, where that pays. Returns whether one follows.
    fn wait_directly(&mut self) -> io::Result<bool> {
        if self.has_work() || !self.direct.may_wait(&self.terms, &mut self.ports.driver) {
            return Ok(false);
        }
        if let Some(pressure) = &mut self.pressure {
            pressure.handle_idle(&self.terms);
        }
        let follows = self.direct.wait(&mut self.ports.driver, &mut self.events)?;
        if follows {
            self.listeners.handle_direct_wait();
        }
        match &mut self.pulse {
            Some(pulse) if follows => pulse.handle_sleep(true),
            Some(pulse) => pulse.handle_vain_wait(&self.terms),
            None => {}
        }
        Ok(follows)
    }

    /// The core waits for Tokio to come back to it: when something happens, if it `sleeps`, or else at once.
    fn handle_sleep(&mut self, sleeps: bool) {
        if sleeps {
            self.listeners.handle_sleep();
            if let Some(pressure) = &mut self.pressure {
                pressure.handle_idle(&self.terms);
            }
        }
        if let Some(pulse) = &mut self.pulse {
            pulse.handle_sleep(sleeps);
        }
    }

    /// Reads the time, once for the whole turn, and follows the server when it stops.
    fn begin_turn(&mut self) {
        let Self { terms, ports, table, apps, listeners, drain, sweep, .. } = self;
        terms.board.inbox().begin_turn();
        terms.status().turned();
        follow_settings(terms, ports, table, apps);
        terms.read_clock();
        terms.board.post_date(terms.clock.date());
        ports.outbox.begin_wait(terms.clock.now());
        begin_stop(terms, drain, listeners, ports, table);
        follow_memory(terms, sweep, table);
        terms.begin_turn();
    }

    /// Takes in what the driver reports. May be called at any time.
    fn poll_events(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        if self.ports.driver.poll_wait(cx, &mut self.events)?.is_pending() {
            return Ok(Poll::Pending);
        }
        self.take_events();
        Ok(Poll::Ready(()))
    }

    /// Marks the connections that were reported and puts them into the ready queue. No more is done.
    fn take_events(&mut self) {
        let Self { terms, ports, table, listeners, events, .. } = self;
        for at in 0..events.len() {
            let event = events.at(at);
            if listeners.handle_event(event.token) {
                continue;
            }
            let Some(index) = table.find(event.token) else { continue };
            let slot = &mut table[index];
            if event.readable {
                slot.flags.set(Flags::READABLE);
            }
            if event.hangup || event.reset {
                slot.flags.set(Flags::HANGUP);
            }
            if event.writable {
                slot.flags.clear(Flags::BLOCKED);
            }
            match event.reset {
                true => close(terms, ports, table, index, CloseReason::Reset),
                false => table.enqueue(index),
            }
        }
    }

    fn has_work(&self) -> bool {
        let due = self.table.next_due().is_some_and(|due| due <= self.terms.clock.tick());
        let unsettled = self.drain.as_ref().is_some_and(|drain| !drain.is_settled());
        let waits = self.table.queued() > 0 || self.table.waiting() > 0;
        waits || self.lists.messages.has_work() || self.listeners.has_work() || due || unsettled || self.sweep.is_some()
    }

    /// Has the turn come back when the next deadline is due.
    fn poll_sleep(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let wheel = self.table.next_due().map(|due| self.terms.clock.instant(due));
        let drain = self.drain.as_ref().map(stop::Drain::ends);
        let listeners = self.listeners.next_due();
        let Some(next) = wheel.into_iter().chain(drain).chain(listeners).min() else { return Poll::Pending };
        if self.sleep.deadline() != next {
            self.sleep.as_mut().reset(next);
        }
        self.sleep.as_mut().poll(cx)
    }

    /// Shows others what this core holds.
    fn publish(&self) {
        let status = self.terms.status();
        status.slots.store(self.table.len() as u64, Relaxed);
        status.deadlines.store(self.table.deadlines() as u64, Relaxed);
        status.states.iter().zip(self.table.by_state()).for_each(|(posted, count)| posted.store(count, Relaxed));
    }
}

impl<D: Driver, A: App> Drop for Engine<D, A> {
    fn drop(&mut self) {
        close_all(&self.terms, &mut self.ports, &mut self.table, CloseReason::DrainTimeout);
        // Those of the connections that were cut: dropped with the other fields, one that panics would fail the core.
        self.apps.begin_anew();
        self.ports.transports.cut();
        self.publish();
        self.terms.board.inbox().close();
    }
}

/// Room for what a batch receives. A core has one.
fn receive_area() -> Vec<u8> {
    vec![0; AREA_BYTES]
}

/// Whether a turn may poll another handler: not when the budget is spent that Tokio gives a task for one poll.
fn has_budget() -> bool {
    tokio::task::coop::has_budget_remaining()
}
