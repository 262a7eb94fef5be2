//! What follows an answer: the rest of its body, the next request, or the end of the connection.
//!
//! A connection that ends does so in stages (RFC 9112, section 9.6): the last answer is sent, our direction is ended, what still comes in
//! is discarded, so that the peer can read the answer.
//!
//! The invariant: `close` is the only place where a connection ends, and it counts exactly one reason.

use std::time::Duration;

use baiwan_driver::{Close, Driver};
use baiwan_http1::{encode_error_response, encode_error_response_head};
use bytes::Bytes;
use http::StatusCode;

use super::Engine;
use super::table::{Flags, Left, State};
use crate::BodyError;
use crate::app::App;
use crate::clock::Tick;
use crate::gate::PROBE_TIMEOUT;
use crate::settings::Linger;
use crate::status::CloseReason;

impl<D: Driver, A: App> Engine<D, A> {
    /// Sends an answer of the server's own; then the connection lingers and closes.
    pub(super) fn answer_and_close(&mut self, index: u32, status: StatusCode, text: &str, reason: CloseReason) {
        let mut bytes = Vec::new();
        let slot = &mut self.table[index];
        match slot.flags.has(Flags::HEAD_REQUEST) {
            true => encode_error_response_head(&mut bytes, status, text, self.clock.date()),
            false => encode_error_response(&mut bytes, status, text, self.clock.date()),
        }
        let active = slot.activate();
        active.set_aside = Vec::new();
        active.unread = None;
        active.output.push_back(Bytes::from(bytes));
        self.end_after_flush(index, reason);
    }

    /// Nothing follows what is owed now.
    pub(super) fn end_after_flush(&mut self, index: u32, reason: CloseReason) {
        self.table[index].flags.clear(Flags::INPUT);
        self.flush_and(index, Some(reason));
    }

    /// Goes on when everything is sent: as it was decided, if it was.
    pub(super) fn flush(&mut self, index: u32) {
        let last = match self.table[index].state {
            State::Flush { last } => last,
            _ => None,
        };
        self.flush_and(index, last);
    }

    fn flush_and(&mut self, index: u32, last: Option<CloseReason>) {
        let due = self.clock.deadline(self.settings.write_timeout);
        let active = self.table[index].activate();
        if active.write_due == Tick::NEVER {
            active.write_due = due;
        }
        self.enter(index, State::Flush { last });
        self.table.enqueue(index);
    }

    /// Puts a connection into a state, for as long as that may last. One that waits for its next request holds what is set aside, and
    /// nothing else.
    #[inline]
    pub(super) fn enter(&mut self, index: u32, state: State) {
        let slot = &mut self.table[index];
        let is_probe = slot.flags.has(Flags::PROBE);
        if state == State::Idle {
            slot.active.take_if(|active| active.set_aside.is_empty());
        }
        let timeout = match state {
            State::Head if is_probe => {
                let deadline = slot.deadline;
                return self.table.enter(index, state, deadline);
            }
            State::Idle if is_probe => Some(PROBE_TIMEOUT),
            State::Idle => self.unless_stopping(self.settings.keep_alive_timeout),
            State::Head => self.unless_stopping(self.settings.header_timeout),
            State::Exchange | State::Flush { .. } => {
                let due = slot.active.as_ref().map_or(Tick::NEVER, |active| active.due());
                return self.table.enter(index, state, due);
            }
            State::Discard { .. } => Some(Linger::SHORT.timeout),
            State::Linger { .. } if slot.flags.has(Flags::UPLOADING) => Some(Linger::UPLOAD.timeout),
            State::Linger { .. } => Some(Linger::SHORT.timeout),
        };
        self.table.enter(index, state, self.clock.deadline(timeout));
    }

    /// Everything is answered and sent: on to what waits, or to the next request.
    pub(super) fn finish_answer(&mut self, index: u32) {
        let slot = &mut self.table[index];
        let active = slot.activate();
        if active.unread.is_some() {
            self.enter(index, State::Discard { left: Left::new(Linger::SHORT.bytes_max) });
            return self.table.enqueue(index);
        }
        if !active.set_aside.is_empty() {
            slot.flags.set(Flags::INPUT);
        }
        self.enter(index, State::Idle);
        self.table.enqueue(index);
    }

    /// The time for something that is no request yet: less when the server stops.
    pub(super) fn unless_stopping(&self, timeout: Option<Duration>) -> Option<Duration> {
        match self.drain {
            Some(_) => Some(self.settings.shutdown_idle.min(timeout.unwrap_or(Duration::MAX))),
            None => timeout,
        }
    }

    /// As [`linger`](Self::linger), for a peer that is still sending a well-framed body.
    pub(super) fn linger_for_upload(&mut self, index: u32, reason: CloseReason) {
        self.table[index].flags.set(Flags::UPLOADING);
        self.linger(index, reason);
    }

    /// Ends our direction, and discards what still comes in, so that the peer can read the last answer: closing with
    /// bytes unread would reset the connection and could destroy it (RFC 9112, section 9.6).
    pub(super) fn linger(&mut self, index: u32, reason: CloseReason) {
        let slot = &mut self.table[index];
        let bounds = if slot.flags.has(Flags::UPLOADING) { Linger::UPLOAD } else { Linger::SHORT };
        slot.active = None;
        slot.flags.clear(Flags::INPUT);
        self.driver.shutdown_write(&slot.socket);
        self.enter(index, State::Linger { reason, left: Left::new(bounds.bytes_max) });
        self.table.enqueue(index);
    }

    /// Ends a connection.
    pub(super) fn close(&mut self, index: u32, reason: CloseReason) {
        self.end_exchange_if_any(index);
        // What was encoded for it in this batch is not sent any more.
        self.outgoing.retain(|outgoing| !outgoing.is_for(index));
        let slot = self.table.remove(index);
        let cut = matches!(
            reason,
            CloseReason::Reset
                | CloseReason::WriteTimeout
                | CloseReason::HandlerFailed
                | CloseReason::DrainTimeout
                | CloseReason::CoreFailed
        );
        let how = if cut && !matches!(slot.state, State::Linger { .. }) { Close::Reset } else { Close::Orderly };
        self.driver.close(slot.socket, how);
        match slot.flags.has(Flags::UNCOUNTED) {
            true => self.turned_away -= 1,
            false => self.core.status.closed(self.core.index),
        }
        if slot.flags.has(Flags::PROBE) {
            self.core.status.end_probe();
        }
        self.core.status().count_close(reason);
    }

    fn end_exchange_if_any(&mut self, index: u32) {
        if self.table.get(index).is_some_and(|slot| slot.active.is_some()) {
            self.end_exchange(index, BodyError::Disconnected);
        }
    }

    /// Ends all connections.
    pub(super) fn close_all(&mut self, reason: CloseReason) {
        for index in 0..self.table.end() {
            if self.table.get(index).is_some() {
                self.close(index, reason);
            }
        }
    }
}
