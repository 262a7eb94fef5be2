//! The engine of one core: a single future that owns all of the core's connections.
//!
//! [`Engine::turn`] is the loop, one named and bounded step after the other. The engine contains no HTTP syntax (that is
//! `baiwan-http1`) and no system calls (that is the driver); it decides what happens next on which connection. It runs as the
//! root future of a Tokio runtime, beside the tasks that handlers make.
//!
//! | file | part |
//! |---|---|
//! | `accept` | new connections, those too many, and a system that refuses them |
//! | `table` | the connections: states, slots, deadlines, and which have something to do |
//! | `receive` | ready connections: bytes to heads and bodies |
//! | `respond` | a head to an answer, or to a task |
//! | `exchange` | the task, and what it shares with the engine |
//! | `upload`, `feed` | a request's body: received, and on its way to its handler |
//! | `transmit` | answers to bytes on the wire |
//! | `upgrade` | offers of another protocol go to hyper |
//! | `close` | what follows an answer: the next request, or the end |
//! | `expire` | deadlines that have passed |
//! | `stop` | the server's stop |
//! | `recover` | what is left of a core whose loop panicked |
//! | `simulation` | all of it on a network in memory, decided by a seed; not part of the product |
//!
//! The invariant: when the future is pending, every connection is either waited for by the driver, by its exchange's task, or
//! by its deadline; nothing is left to do that no event will announce.

mod accept;
mod close;
mod exchange;
mod expire;
mod feed;
mod receive;
mod recover;
mod respond;
#[cfg(any(test, feature = "simulation"))]
pub(crate) mod simulation;
mod stop;
mod table;
#[cfg(test)]
mod tests;
mod transmit;
mod upgrade;
mod upload;

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use baiwan_driver::{Accepted, Driver, Events, Received, Token};
use baiwan_http1::ResponseContext;
use tokio::time::{Instant, Sleep};

use self::table::{Flags, Table};
use self::transmit::Outgoing;
use crate::app::App;
use crate::clock::{Clock, Date};
use crate::hyper::Transports;
use crate::inbox::Inbox;
use crate::settings::Settings;
use crate::status::{CloseReason, CoreStatus, Phase, Status};

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
/// Bytes of a connection that may wait for their turn.
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
const _: () = assert!(TURN_ACCEPTS_MAX as u64 <= crate::files::ACCEPTED_MAX);
const _: () = assert!(SET_ASIDE_BYTES_MAX >= RECEIVE_BYTES_MAX);

/// The tokens of listeners have a generation that no slot has.
const LISTENER_GENERATION: u64 = 0;

/// What the engine and the tasks of its core share.
#[derive(Debug)]
struct Core {
    status: Arc<Status>,
    index: usize,
    date: Cell<Date>,
    /// Answers end their connections.
    stopping: Cell<bool>,
}

impl Core {
    fn status(&self) -> &CoreStatus {
        &self.status.cores[self.index]
    }

    fn inbox(&self) -> &Arc<Inbox> {
        &self.status().inbox
    }

    fn date(&self) -> Date {
        self.date.get()
    }

    /// Whether an answer may leave its connection open is known only when its head is written.
    fn context(&self, context: ResponseContext, kept: bool) -> ResponseContext {
        ResponseContext { keep_alive: context.keep_alive && kept && !self.stopping.get(), ..context }
    }
}

struct Listener<D: Driver> {
    listener: D::Listener,
    token: Token,
    /// Connections may wait in its backlog.
    ready: bool,
    /// It rests until then.
    resumes: Option<Instant>,
}

/// The state of one core.
pub(crate) struct Engine<D: Driver, A: App> {
    driver: D,
    app: A,
    settings: Arc<Settings>,
    core: Rc<Core>,
    clock: Clock,
    listeners: Vec<Listener<D>>,
    table: Table<D::Socket>,
    /// Answers encoded in this batch.
    outgoing: Vec<Outgoing>,
    out: Vec<u8>,
    events: Events,
    lists: Lists<D::Socket>,
    sleep: Pin<Box<Sleep>>,
    /// When the answers that wait began to wait, at the earliest.
    transmitted: Instant,
    /// Connections that are being told that there are too many.
    turned_away: usize,
    /// When it was last said that the system refuses connections.
    complained: Option<Instant>,
    /// When the loop panicked, lately.
    panics: recover::Panics,
    /// Connections that were handed to hyper.
    transports: Arc<Transports>,
    drain: Option<stop::Drain>,
}

/// Lists that are empty between their uses; kept for their capacity.
struct Lists<S> {
    accepted: Vec<Accepted<S>>,
    batch: Vec<u32>,
    received: Vec<Received>,
    sent: Vec<io::Result<usize>>,
    tokens: Vec<Token>,
    expired: Vec<u32>,
}

impl<S> Lists<S> {
    fn new() -> Self {
        Self {
            accepted: Vec::new(),
            batch: Vec::new(),
            received: Vec::new(),
            sent: Vec::new(),
            tokens: Vec::new(),
            expired: Vec::new(),
        }
    }
}

impl<D: Driver, A: App> Engine<D, A> {
    /// An engine for the `index`-th core of `status`. Call it within the runtime that will poll it.
    pub(crate) fn new(
        mut driver: D,
        app: A,
        settings: Arc<Settings>,
        status: Arc<Status>,
        index: usize,
        bound: Vec<D::Bound>,
    ) -> io::Result<Self> {
        let clock = Clock::start();
        let mut listeners = Vec::new();
        for (number, bound) in bound.into_iter().enumerate() {
            let token = Token(LISTENER_GENERATION << 32 | number as u64);
            let listener = driver.add_listener(bound, token)?;
            // What came before the registration is found by looking.
            listeners.push(Listener { listener, token, ready: true, resumes: None });
        }
        let transports = Transports::new(&settings, Arc::clone(&status), index);
        let core = Core { status, index, date: Cell::new(*clock.date()), stopping: Cell::new(false) };
        Ok(Self {
            driver,
            app,
            settings,
            core: Rc::new(core),
            table: Table::new(clock.tick()),
            listeners,
            outgoing: Vec::new(),
            out: Vec::new(),
            events: Events::with_capacity(TURN_EVENTS_MAX),
            lists: Lists::new(),
            sleep: Box::pin(tokio::time::sleep_until(clock.now())),
            transmitted: clock.now(),
            clock,
            turned_away: 0,
            complained: None,
            panics: Default::default(),
            transports,
            drain: None,
        })
    }

    /// Runs until the server has stopped and every connection of this core is closed.
    ///
    /// # Errors
    /// When the kernel's readiness interface fails, or the loop panics again and again.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        let mut area = receive_area();
        std::future::poll_fn(|cx| self.turn_and_recover(&mut area, cx)).await
    }

    /// One turn of the loop. It yields to Tokio after each. `area` is where everything is received.
    fn turn(&mut self, area: &mut [u8], cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.core.inbox().begin_turn();
        self.core.status().turned();
        self.clock.read();
        self.core.date.set(*self.clock.date());
        self.transmitted = self.clock.now();

        self.begin_stop();
        let _ = self.wait(cx)?;
        self.accept();
        self.take_messages();
        self.serve_ready(area);
        self.expire(area);
        if self.has_stopped() {
            return Poll::Ready(Ok(()));
        }
        self.publish();

        // Events that come in while the engine looks are left for the next turn.
        let sleeps = !self.has_work()
            && self.wait(cx)?.is_pending()
            && self.poll_sleep(cx).is_pending()
            && self.core.inbox().end_turn(cx.waker());
        if !sleeps {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Takes in what the driver reports: it marks connections and puts them into the ready queue. No more is done, so this
    /// may be called at any time.
    fn wait(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        if self.driver.poll_wait(cx, &mut self.events)?.is_pending() {
            return Ok(Poll::Pending);
        }
        for at in 0..self.events.len() {
            let event = self.events.at(at);
            if event.token.0 >> 32 == LISTENER_GENERATION {
                // A listener that is gone may still be spoken of, if another process holds its socket.
                if let Some(listener) = self.listeners.iter_mut().find(|listener| listener.token == event.token) {
                    listener.ready = true;
                }
                continue;
            }
            let Some(index) = self.table.find(event.token) else { continue };
            let Some(slot) = self.table.get_mut(index) else { continue };
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
                true => self.close(index, CloseReason::Reset),
                false => self.table.enqueue(index),
            }
        }
        Ok(Poll::Ready(()))
    }

    /// Looks after the connections whose exchange or body has news.
    fn take_messages(&mut self) {
        let mut tokens = std::mem::take(&mut self.lists.tokens);
        self.core.inbox().take(&mut tokens);
        for token in tokens.drain(..) {
            if let Some(index) = self.table.find(token) {
                self.take_output(index);
            }
        }
        self.lists.tokens = tokens;
    }

    fn has_work(&self) -> bool {
        let listeners = self.listeners.iter().any(|listener| listener.ready && listener.resumes.is_none());
        let due = self.table.next_due().is_some_and(|due| due <= self.clock.tick());
        self.table.queued() > 0 || listeners || due || self.drain.as_ref().is_some_and(|drain| !drain.is_settled())
    }

    /// Has the turn come back when the next deadline is due.
    fn poll_sleep(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let wheel = self.table.next_due().map(|due| self.clock.instant(due));
        let drain = self.drain.as_ref().map(stop::Drain::ends);
        let listeners = self.listeners.iter().filter_map(|listener| listener.resumes);
        let Some(next) = wheel.into_iter().chain(drain).chain(listeners).min() else { return Poll::Pending };
        if self.sleep.deadline() != next {
            self.sleep.as_mut().reset(next);
        }
        self.sleep.as_mut().poll(cx)
    }

    /// Shows others what this core holds.
    fn publish(&self) {
        let status = self.core.status();
        status.slots.store(self.table.len() as u64, Relaxed);
        status.deadlines.store(self.table.deadlines() as u64, Relaxed);
    }
}

impl<D: Driver, A: App> Drop for Engine<D, A> {
    fn drop(&mut self) {
        self.close_all(CloseReason::DrainTimeout);
        self.transports.cut();
        self.publish();
        self.core.inbox().close();
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

/// How far the server is, as this core sees it.
fn is_stopping(status: &Status) -> bool {
    matches!(status.phase(), Phase::Draining | Phase::Stopping)
}
