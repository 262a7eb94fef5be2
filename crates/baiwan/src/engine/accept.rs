//! New connections: accepted, turned away at the maximum, or refused by the system.
//!
//! A system that is out of files or memory says so at each accept. Trying at once again would spin, so the listener rests for a
//! moment, with its backlog untouched, and the connections that exist notice nothing. A log line says so at most once a second.
//!
//! An accept that finds nobody costs nearly as much as one that does. So one connection is accepted each time that a listener is reported,
//! unless more than one came lately: a connection that still waits is reported by the driver. Where the core does not see the backlog empty
//! meanwhile, only a few follow one another that take one each.

use std::io;

use baiwan_driver::{AcceptEnd, Accepted, Close, Driver, Token};
use tokio::time::Instant;

use super::TURN_ACCEPTS_MAX;
use super::close::{close, enter, turn_away};
use super::lifetime;
use super::newcomers::Newcomers;
use super::ports::Ports;
use super::table::{Flags, State, Table};
use super::terms::Terms;
use crate::client::trusts;
use crate::files::{ACCEPT_PAUSE, COMPLAINT_PAUSE, explain};
use crate::gate::{Beyond, Entry, Newcomer, admit_connection};
use crate::say::say;
use crate::status::{CloseReason, add};

/// The tokens of listeners have a generation that no slot has.
const LISTENER_GENERATION: u64 = 0;
/// This many accepts of one connection follow one another where the backlog was not seen empty meanwhile. The next shows whether a crowd waits.
const SINGLES_MAX: u32 = 8;

struct Listener<D: Driver> {
    listener: D::Listener,
    token: Token,
    /// Connections may wait in its backlog.
    ready: bool,
    /// It rests until then.
    resumes: Option<Instant>,
    /// How many connections came out of its backlog when it was accepted from last.
    taken: usize,
    /// The core has waited for events since.
    slept: bool,
    /// Accepts of one connection since the backlog was seen empty.
    singles: u32,
}

impl<D: Driver> Listener<D> {
    /// How many to accept at once, if `max` is the maximum.
    fn accepts(&self, max: usize) -> usize {
        let is_calm = self.taken <= 1 && self.slept && self.singles < SINGLES_MAX;
        if is_calm { max.min(1) } else { max }
    }
}

/// The listeners of a core.
pub(super) struct Listeners<D: Driver> {
    all: Vec<Listener<D>>,
    /// When it was last said that the system refuses connections.
    complained: Option<Instant>,
    /// Empty between its uses; kept for its capacity.
    accepted: Vec<Accepted<D::Socket>>,
    newcomers: Newcomers,
}

impl<D: Driver> Listeners<D> {
    /// # Errors
    /// What the system says about registering one of them.
    pub(super) fn new(driver: &mut D, bound: Vec<D::Bound>) -> io::Result<Self> {
        let mut all = Vec::new();
        for (number, bound) in bound.into_iter().enumerate() {
            let token = Token(LISTENER_GENERATION << 32 | number as u64);
            let listener = driver.add_listener(bound, token)?;
            // What came before the registration is found by looking.
            let (ready, resumes, taken, slept, singles) = (true, None, 0, false, 0);
            all.push(Listener { listener, token, ready, resumes, taken, slept, singles });
        }
        Ok(Self { all, complained: None, accepted: Vec::new(), newcomers: Newcomers::new() })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether one has something to accept now.
    pub(super) fn has_work(&self) -> bool {
        self.all.iter().any(|listener| listener.ready && listener.resumes.is_none())
    }

    /// When the next of those that rest goes on.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.all.iter().filter_map(|listener| listener.resumes).min()
    }

    /// Takes in an event. Returns whether it was one of a listener.
    pub(super) fn handle_event(&mut self, token: Token) -> bool {
        if token.0 >> 32 != LISTENER_GENERATION {
            return false;
        }
        // A listener that is gone may still be spoken of, if another process holds its socket.
        if let Some(listener) = self.all.iter_mut().find(|listener| listener.token == token) {
            listener.ready = true;
        }
        true
    }

    /// The server stops: whatever the last accept said, one more is due.
    pub(super) fn begin_stop(&mut self) {
        for listener in &mut self.all {
            (listener.ready, listener.resumes, listener.slept) = (true, None, false);
        }
    }

    /// The core sleeps until something happens: no listener was reported.
    pub(super) fn handle_sleep(&mut self) {
        for listener in &mut self.all {
            (listener.slept, listener.singles) = (true, 0);
        }
    }

    /// The core has waited for events, but a connection in a backlog may have been one from the beginning.
    pub(super) fn handle_direct_wait(&mut self) {
        for listener in &mut self.all {
            listener.slept = true;
        }
    }

    pub(super) fn drop_all(&mut self, driver: &mut D) {
        for listener in self.all.drain(..) {
            // It may be held by somebody else too, and would be reported to us for as long: so it is taken out first. One that rested was
            // taken out already.
            let _ = driver.set_listening(&listener.listener, listener.token, false);
        }
    }

    /// The loop begins anew after a panic: what was accepted and not counted yet is closed, what waits is looked for.
    pub(super) fn begin_anew(&mut self, driver: &mut D) {
        for accepted in std::mem::take(&mut self.accepted) {
            driver.close(accepted.socket, Close::Reset);
        }
        self.newcomers.begin_anew();
        for listener in &mut self.all {
            listener.ready = listener.resumes.is_none();
        }
    }

    fn resume(&mut self, terms: &Terms, driver: &mut D, number: usize) {
        let listener = &mut self.all[number];
        if listener.resumes.is_none_or(|at| at > terms.clock.now()) {
            return;
        }
        match driver.set_listening(&listener.listener, listener.token, true) {
            Ok(()) => (listener.resumes, listener.ready) = (None, true),
            Err(error) => {
                listener.resumes = Some(terms.clock.now() + ACCEPT_PAUSE);
                self.complain(terms, &error, "cannot resume a listener for now");
            }
        }
    }

    /// A connection could not be watched, and is closed.
    fn handle_unwatched(&mut self, terms: &Terms, error: &io::Error) {
        self.newcomers.handle_unwatched();
        self.complain(terms, error, "cannot watch a connection");
    }

    /// Counts what the system refused, and says so at most once a second.
    fn complain(&mut self, terms: &Terms, error: &io::Error, what: &'static str) {
        add(&terms.status().accept_failures, 1);
        let now = terms.clock.now();
        if self.complained.is_none_or(|at| now.duration_since(at) >= COMPLAINT_PAUSE) {
            self.complained = Some(now);
            say(|| tracing::warn!(error = explain(error), core = terms.board.index, "{what}"));
        }
    }
}

/// Accepts from every listener that has something, up to a maximum each.
pub(super) fn accept<D: Driver>(
    terms: &Terms,
    listeners: &mut Listeners<D>,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
) {
    // More would be more files at once than are kept for them.
    let max = TURN_ACCEPTS_MAX.min(terms.settings.turned_away_max);
    for number in 0..listeners.all.len() {
        listeners.resume(terms, &mut ports.driver, number);
        let listener = &mut listeners.all[number];
        if !listener.ready || listener.resumes.is_some() {
            continue;
        }
        let max = listener.accepts(max);
        let end = ports.driver.accept(&listener.listener, max, &mut listeners.accepted);
        (listener.taken, listener.slept) = (listeners.accepted.len(), false);
        match end {
            AcceptEnd::Drained => (listener.ready, listener.singles) = (false, 0),
            // A connection that waits behind a single one is reported.
            AcceptEnd::Max if max == 1 => {
                (listener.ready, listener.singles) = (false, SINGLES_MAX.min(listener.singles + 1));
            }
            AcceptEnd::Max => listener.ready = true,
            AcceptEnd::Exhausted(error) => {
                listener.resumes = Some(terms.clock.now() + ACCEPT_PAUSE);
                if let Err(error) = ports.driver.set_listening(&listener.listener, listener.token, false) {
                    say(|| tracing::error!(%error, "cannot pause a listener"));
                }
                listeners.complain(terms, &error, "cannot accept connections for now; those that wait are kept");
            }
        }
        let mut accepted = std::mem::take(&mut listeners.accepted);
        for connection in accepted.drain(..) {
            open(terms, listeners, ports, table, connection);
        }
        listeners.accepted = accepted;
    }
}

/// The stop: lets go of the listeners whose backlog is empty. What comes now finds nobody.
///
/// The kernel resets what is in a backlog when its listener is closed, and a proxy that has sent a request by then cannot send it
/// again if it is a POST. So each listener is looked at once more, with nothing between that look and the close.
pub(super) fn drop_emptied<D: Driver>(
    terms: &Terms,
    listeners: &mut Listeners<D>,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
) {
    let max = TURN_ACCEPTS_MAX.min(terms.settings.turned_away_max);
    let mut accepted = std::mem::take(&mut listeners.accepted);
    listeners.all.retain_mut(|Listener { listener, token, ready, .. }| {
        if *ready {
            return true;
        }
        // It may be held by somebody else too, and would be reported to us for as long.
        let _ = ports.driver.set_listening(listener, *token, false);
        if let AcceptEnd::Drained = ports.driver.accept(listener, max, &mut accepted) {
            return false;
        }
        *ready = true;
        let _ = ports.driver.set_listening(listener, *token, true);
        true
    });
    for connection in accepted.drain(..) {
        open(terms, listeners, ports, table, connection);
    }
    listeners.accepted = accepted;
    watch_newcomers(terms, listeners, ports, table);
}

/// Gives an accepted connection a slot, and has it received from or watched.
fn open<D: Driver>(
    terms: &Terms,
    listeners: &mut Listeners<D>,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    connection: Accepted<D::Socket>,
) {
    let (server, core) = (&terms.board.server, terms.board.index);
    add(&terms.status().accepted, 1);
    let beyond = Beyond { count: table.turned_away(), max: terms.settings.turned_away_max };
    let limits = terms.settings.clients_in_force.as_deref();
    let newcomer = Newcomer { peer: connection.peer, now: terms.clock.now(), limits };
    let entry = admit_connection(server, core, beyond, newcomer);
    let index = table.insert(connection.socket, connection.peer, lifetime::begin(terms));
    match entry {
        Entry::Taken(client) => {
            if client.is_some() {
                table[index].flags.set(Flags::CLIENT);
            }
        }
        Entry::Probe | Entry::Refused(_) | Entry::Dropped(_) => table.turn_away(index),
    }
    if terms.settings.proxy_protocol && trusts(&terms.settings, connection.peer) {
        table[index].flags.set(Flags::PROXIED);
    }
    match entry {
        Entry::Dropped(reason) => return close(terms, ports, table, index, reason),
        Entry::Probe => table[index].flags.set(Flags::PROBE),
        Entry::Taken(_) | Entry::Refused(_) => {}
    }
    let is_heard = !matches!(entry, Entry::Refused(_));
    if is_heard && listeners.newcomers.may_be_received_from() {
        enter(terms, table, index, State::Idle);
        table[index].flags.set(Flags::READABLE);
        table.enqueue(index);
        listeners.newcomers.push(table.token(index));
    } else if watch(terms, listeners, ports, table, index) {
        match entry {
            Entry::Refused(denial) => turn_away(terms, ports, table, index, denial),
            _ => enter(terms, table, index, State::Idle),
        }
    }
}

/// Has those watched that were received from first, and are still there; tells of those that could not be when they were sent to.
pub(super) fn watch_newcomers<D: Driver>(
    terms: &Terms,
    listeners: &mut Listeners<D>,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
) {
    while let Some(index) = listeners.newcomers.next_that_stays(table) {
        watch(terms, listeners, ports, table, index);
    }
    for error in ports.outbox.unwatched.drain(..) {
        listeners.handle_unwatched(terms, &error);
    }
}

/// Has a connection watched. Returns whether it is; otherwise it is closed.
fn watch<D: Driver>(
    terms: &Terms,
    listeners: &mut Listeners<D>,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    index: u32,
) -> bool {
    let Err(error) = ports.driver.watch(&table[index].socket, table.token(index)) else { return true };
    listeners.handle_unwatched(terms, &error);
    close(terms, ports, table, index, CloseReason::System);
    false
}
