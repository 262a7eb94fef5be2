//! Opening and ending: connections that are to be there, that come about or do not, that fail and are opened again.

use std::collections::VecDeque;
use std::net::IpAddr;

use baiwan_driver::{Close, Driver};

use super::Fleet;
use crate::clock::{SECOND_NS, now_ns};
use crate::tally::ErrorCause;

/// How long to wait before a connection that could not be opened, or was lost, is opened again.
const RETRY_NS: u64 = SECOND_NS / 10;
/// How often to try whether a server that refused a connection still does.
const PROBE_NS: u64 = SECOND_NS / 20;
/// Connections that are closed in one turn.
const CLOSING_MAX: u32 = 512;
/// Connections from one address: those of the ephemeral ports that are surely there.
const PER_SOURCE_MAX: u64 = 10_000;

impl Fleet {
    /// Opens the connection of a place that has none, as one of those of which there is a maximum at a time.
    pub(in crate::worker) fn open(&mut self, index: u32, now: u64) {
        if self.connections[index as usize].socket.is_none() {
            self.connections[index as usize].opening = true;
            self.opening += 1;
            self.connect(index, now);
        }
    }

    /// How many more may be opened now. While the server refuses connections, one at a time tries whether it still does:
    /// thousands that knock together would only keep it from coming back.
    pub(in crate::worker) fn may_open(&self, now: u64) -> u64 {
        match self.refused_at {
            Some(at) if now < at + PROBE_NS => 0,
            Some(_) => 1u64.saturating_sub(self.opening),
            None => self.opening_max.saturating_sub(self.opening),
        }
    }

    /// Opens again what is due to be.
    pub(in crate::worker) fn retry(&mut self, now: u64) {
        while let Some((due, index)) = self.retries.front().copied()
            && due <= now
            && self.may_open(now) > 0
        {
            self.retries.pop_front();
            if self.connect_each {
                // It is opened with its next request.
                self.connections[index as usize].dormant = true;
                self.set_idle(index, 1);
            } else {
                self.open(index, now);
            }
        }
    }

    /// Whether anything is open or outstanding.
    pub(in crate::worker) fn is_alive(&self) -> bool {
        self.tally.open + self.tally.outstanding > 0
    }

    /// When the next connection is to be opened again. None: as soon as there is room, which an event will announce.
    pub(in crate::worker) fn next_retry(&self) -> Option<u64> {
        let (due, _) = self.retries.front()?;
        match self.refused_at {
            Some(at) => Some((*due).max(at + PROBE_NS)),
            None if self.opening < self.opening_max => Some(*due),
            None => None,
        }
    }

    /// Whether connections wait to be opened again.
    pub(in crate::worker) fn has_retries(&self) -> bool {
        !self.retries.is_empty()
    }

    fn source(&self, index: u32) -> Option<IpAddr> {
        let (sources, first) = self.sources?;
        Some(sources.at((first + u64::from(index)) / PER_SOURCE_MAX))
    }

    pub(super) fn connect(&mut self, index: u32, now: u64) {
        let source = self.source(index);
        let connection = &mut self.connections[index as usize];
        connection.began = now;
        connection.since = now;
        connection.connecting = true;
        connection.dormant = false;
        match self.driver.connect(&self.address, source, connection.token(index)) {
            Ok(socket) => connection.socket = Some(socket),
            Err(error) => self.fail(index, ErrorCause::Connect, &error.to_string(), Close::Reset),
        }
    }

    pub(super) fn connected(&mut self, index: u32) {
        let now = now_ns();
        self.refused_at = None;
        let connection = &mut self.connections[index as usize];
        connection.connecting = false;
        connection.since = now;
        self.tally.connect.record(now - connection.began);
        self.tally.open += 1;
        let began = connection.began;
        if connection.unsent > 0 {
            self.opened(index);
            self.queue_to_send(index);
        } else if self.ask_first {
            self.start(index, began, now);
        } else {
            self.opened(index);
            self.set_idle(index, self.pipeline);
        }
    }

    /// Counts a connection that is open now, with its first answer where that was wanted.
    pub(super) fn opened(&mut self, index: u32) {
        let connection = &mut self.connections[index as usize];
        self.opening -= u64::from(std::mem::take(&mut connection.opening));
        self.opened_total += 1;
        match std::mem::replace(&mut connection.was_open, true) && !self.connect_each {
            true => self.tally.reopened += 1,
            false => self.tally.opened += 1,
        }
    }

    /// The kernel says that a connection did not come about.
    pub(super) fn fail_to_connect(&mut self, index: u32) {
        let Some(socket) = &self.connections[index as usize].socket else { return };
        let error = match self.driver.receive_into(socket, &mut [0; 1]) {
            Err(error) => error.to_string(),
            Ok(_) => "the connection failed".to_owned(),
        };
        self.fail(index, ErrorCause::Connect, &error, Close::Reset);
    }

    /// Ends a connection that failed, with all that is outstanding on it. Each request is an error; one that came to nothing is a
    /// failed attempt beside.
    pub(super) fn fail(&mut self, index: u32, cause: ErrorCause, detail: &str, how: Close) {
        let now = now_ns();
        let was_open = self.connections[index as usize].is_open();
        let (outstanding, opening) = self.end(index, how);
        if cause == ErrorCause::Connect {
            self.refused_at = Some(now);
        }
        if cause == ErrorCause::Timeout {
            outstanding.iter().for_each(|due| self.tally.latency.record(now.saturating_sub(*due)));
        }
        self.tally.lost += u64::from(was_open);
        self.tally.attempts_failed += u64::from(!was_open);
        if !was_open || outstanding.is_empty() {
            self.tally.failure(format!("{cause}: {detail}"));
        }
        self.tally.error(cause, outstanding.len() as u64, || format!("{cause}: {detail}"));
        self.open_later(index, opening, now);
    }

    /// Ends the attempts to connect that requests wait for: those were never sent.
    pub(in crate::worker) fn abandon_attempts(&mut self, now: u64) {
        for index in 0..self.len() {
            let connection = &self.connections[index as usize];
            if connection.connecting && !connection.due.is_empty() {
                let (waited, opening) = self.end(index, Close::Reset);
                self.unsent(waited.len() as u64);
                self.open_later(index, opening, now);
            }
        }
    }

    /// Leaves the places from `first` on, of which none was opened yet, to be opened in the phases to come.
    pub(in crate::worker) fn postpone(&mut self, first: u32, now: u64) {
        self.retries.extend((first..self.len()).map(|index| (now + RETRY_NS, index)));
    }

    fn open_later(&mut self, index: u32, opening: bool, now: u64) {
        if self.reopen || opening || self.connect_each {
            self.retries.push_back((now + RETRY_NS, index));
        }
    }

    /// Frees a place. What was outstanding, and whether it was being opened.
    pub(super) fn end(&mut self, index: u32, how: Close) -> (VecDeque<u64>, bool) {
        let connection = &mut self.connections[index as usize];
        self.tally.open -= u64::from(connection.is_open());
        let opening = std::mem::take(&mut connection.opening);
        self.opening -= u64::from(opening);
        let (socket, due) = connection.vacate();
        self.tally.outstanding -= due.len() as u64;
        if let Some(socket) = socket {
            self.driver.close(socket, how);
        }
        (due, opening)
    }

    /// Opens and asks nothing any more.
    pub(in crate::worker) fn begin_closing(&mut self) {
        self.retries.clear();
        self.idle.clear();
    }

    /// Closes some connections, from a place on. Returns the place to go on with: to close tens of thousands takes seconds, and others
    /// want to know meanwhile that all is well.
    pub(in crate::worker) fn close_from(&mut self, first: u32) -> u32 {
        let next = self.len().min(first.saturating_add(CLOSING_MAX));
        for index in first..next {
            self.end(index, Close::Orderly);
        }
        next
    }

    /// Ends what has taken too long. Looks at all connections, so it does so rarely.
    pub(in crate::worker) fn expire(&mut self, now: u64) {
        let Some(timeout_ns) = self.timeout_ns else { return };
        if now < self.next_scan || self.tally.outstanding + self.opening == 0 {
            return;
        }
        self.next_scan = now + (timeout_ns / 10).clamp(SECOND_NS / 100, SECOND_NS);
        for index in 0..self.len() {
            let connection = &self.connections[index as usize];
            let waits = connection.connecting || !connection.due.is_empty();
            if !waits || now < connection.since + timeout_ns {
                continue;
            }
            match connection.connecting {
                true => self.fail(index, ErrorCause::Connect, "no answer to SYN in time", Close::Reset),
                false => self.fail(index, ErrorCause::Timeout, "no whole answer in time", Close::Reset),
            }
        }
    }

    /// When it is worth while to look for what has taken too long.
    pub(in crate::worker) fn next_scan(&self) -> Option<u64> {
        (self.timeout_ns.is_some() && self.tally.outstanding + self.opening > 0).then_some(self.next_scan)
    }
}
