//! New connections: accepted, turned away at the maximum, or refused by the system.
//!
//! A system that is out of files or memory says so at each accept. Trying at once again would spin, so the listener rests for a
//! moment, with its backlog untouched, and the connections that exist notice nothing. A log line says so at most once a second.

use baiwan_driver::{AcceptEnd, Accepted, Driver, Transmit};

use super::table::{Flags, State};
use super::{Engine, TURN_ACCEPTS_MAX};
use crate::app::App;
use crate::files::explain;
use crate::gate::{Beyond, Denial, Entry, admit_connection};
use crate::listen::{ACCEPT_PAUSE, COMPLAINT_PAUSE};
use crate::say::say;
use crate::status::{CloseReason, add};

impl<D: Driver, A: App> Engine<D, A> {
    /// Accepts from every listener that has something, up to a maximum each.
    pub(super) fn accept(&mut self) {
        // More would be more files at once than are kept for them.
        let max = TURN_ACCEPTS_MAX.min(self.settings.turned_away_max);
        for number in 0..self.listeners.len() {
            self.resume_listener(number);
            let listener = &mut self.listeners[number];
            if !listener.ready || listener.resumes.is_some() {
                continue;
            }
            let end = self.driver.accept(&listener.listener, max, &mut self.lists.accepted);
            match end {
                AcceptEnd::Drained => listener.ready = false,
                AcceptEnd::Max => {}
                AcceptEnd::Exhausted(error) => {
                    listener.resumes = Some(self.clock.now() + ACCEPT_PAUSE);
                    if let Err(error) = self.driver.set_listening(&listener.listener, listener.token, false) {
                        say(|| tracing::error!(%error, "cannot pause a listener"));
                    }
                    self.complain(&error, "cannot accept connections for now; those that wait are kept");
                }
            }
            let mut accepted = std::mem::take(&mut self.lists.accepted);
            for connection in accepted.drain(..) {
                self.open(connection);
            }
            self.lists.accepted = accepted;
        }
    }

    fn resume_listener(&mut self, number: usize) {
        let listener = &mut self.listeners[number];
        if listener.resumes.is_none_or(|at| at > self.clock.now()) {
            return;
        }
        match self.driver.set_listening(&listener.listener, listener.token, true) {
            Ok(()) => (listener.resumes, listener.ready) = (None, true),
            Err(error) => {
                listener.resumes = Some(self.clock.now() + ACCEPT_PAUSE);
                self.complain(&error, "cannot resume a listener for now");
            }
        }
    }

    /// Counts what the system refused, and says so at most once a second.
    fn complain(&mut self, error: &std::io::Error, what: &'static str) {
        add(&self.core.status().accept_failures, 1);
        let now = self.clock.now();
        if self.complained.is_none_or(|at| now.duration_since(at) >= COMPLAINT_PAUSE) {
            self.complained = Some(now);
            say(|| tracing::warn!(error = explain(error), core = self.core.index, "{what}"));
        }
    }

    /// Gives an accepted connection a slot and has it watched.
    fn open(&mut self, connection: Accepted<D::Socket>) {
        add(&self.core.status().accepted, 1);
        let beyond = Beyond { count: self.turned_away, max: self.settings.turned_away_max };
        let entry = admit_connection(&self.core.status, self.core.index, beyond);
        let index = self.table.insert(connection.socket, connection.peer);
        let token = self.table.token(index);
        let slot = &mut self.table[index];
        if entry != Entry::Taken {
            slot.flags.set(Flags::UNCOUNTED);
            self.turned_away += 1;
        }
        match entry {
            Entry::Dropped(reason) => return self.close(index, reason),
            Entry::Probe => slot.flags.set(Flags::PROBE),
            Entry::Taken | Entry::Refused(_) => {}
        }
        if let Err(error) = self.driver.watch(&slot.socket, token) {
            self.complain(&error, "cannot watch a connection");
            self.close(index, CloseReason::System);
        } else if let Entry::Refused(denial) = entry {
            self.turn_away(index, denial);
        } else {
            self.enter(index, State::Idle);
        }
    }

    /// Answers a peer that may not stay. Whatever the load, this allocates nothing but for a HEAD.
    pub(super) fn turn_away(&mut self, index: u32, denial: Denial) {
        assert!(!denial.stays, "whoever may stay is not turned away");
        let slot = &self.table[index];
        if slot.flags.has(Flags::HEAD_REQUEST) {
            return self.answer_and_close(index, denial.status, denial.text, denial.reason);
        }
        let token = self.table.token(index);
        let answer = Transmit { socket: &slot.socket, token, front: denial.answer, queue: None };
        self.driver.transmit(std::iter::once(answer), &mut self.lists.sent);
        // A connection that has just begun has room for so little, or is dead.
        match self.lists.sent.pop() {
            Some(Ok(count)) if count == denial.answer.len() => self.linger(index, denial.reason),
            _ => self.close(index, denial.reason),
        }
    }
}
