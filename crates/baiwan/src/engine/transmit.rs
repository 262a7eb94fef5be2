//! Answers on their way out.
//!
//! What was encoded in a batch lies in the core's transmit area, one range for each connection, and leaves with one call to
//! the driver. What the kernel does not take is copied out of the area and kept by the connection, which then does nothing else
//! until it is gone.
//!
//! The invariant: after `transmit` the area is empty.

use std::io;

use baiwan_driver::{Driver, Transmit};
use bytes::Bytes;

use super::table::{Flags, State};
use super::{Engine, TRANSMIT_AREA_BYTES, TRANSMIT_DELAY_MAX};
use crate::app::App;
use crate::clock::Tick;
use crate::status::CloseReason;

/// What one connection sends in this batch: a range of the area, then its queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing {
    index: u32,
    start: usize,
    end: usize,
}

impl Outgoing {
    pub(super) fn is_for(&self, index: u32) -> bool {
        self.index == index
    }
}

impl<D: Driver, A: App> Engine<D, A> {
    /// Has what the area holds from `start` on sent to a connection, and its queue behind that.
    pub(super) fn outgoing_area(&mut self, index: u32, start: usize) {
        let end = self.out.len();
        if end > start {
            self.outgoing_range(index, start, end);
        } else if self.table.get(index).is_some_and(|slot| slot.owes()) {
            self.table.enqueue(index);
        }
    }

    /// Has a connection's queue sent.
    pub(super) fn outgoing_queue(&mut self, index: u32) {
        let end = self.out.len();
        self.outgoing_range(index, end, end);
    }

    fn outgoing_range(&mut self, index: u32, start: usize, end: usize) {
        let flags = &mut self.table[index].flags;
        // Sent twice in one batch, a queue would be answers told twice.
        assert!(!flags.has(Flags::SENDING), "a connection has one part in a batch");
        flags.set(Flags::SENDING);
        self.outgoing.push(Outgoing { index, start, end });
    }

    /// Sends early when the answers that wait are many or old.
    pub(super) fn transmit_if_late(&mut self) {
        if self.outgoing.is_empty() {
            return;
        }
        let late = || self.clock.precise().duration_since(self.transmitted) > TRANSMIT_DELAY_MAX;
        if self.out.len() >= TRANSMIT_AREA_BYTES || late() {
            self.transmit();
        }
    }

    /// Sends everything that waits.
    pub(super) fn transmit(&mut self) {
        if !self.outgoing.is_empty() {
            let mut sent = std::mem::take(&mut self.lists.sent);
            let entries = self.outgoing.iter().map(|outgoing| {
                let slot = &self.table[outgoing.index];
                Transmit {
                    socket: &slot.socket,
                    token: self.table.token(outgoing.index),
                    front: &self.out[outgoing.start..outgoing.end],
                    queue: slot.active.as_ref().map(|active| &active.output),
                }
            });
            self.driver.transmit(entries, &mut sent);
            let mut outgoing = std::mem::take(&mut self.outgoing);
            for (outgoing, outcome) in outgoing.drain(..).zip(sent.drain(..)) {
                self.handle_sent(outgoing, outcome);
            }
            self.outgoing = outgoing;
            self.lists.sent = sent;
        }
        self.out.clear();
        self.out.shrink_to(2 * TRANSMIT_AREA_BYTES);
        self.transmitted = self.clock.precise();
    }

    fn handle_sent(&mut self, outgoing: Outgoing, outcome: io::Result<usize>) {
        let Outgoing { index, start, end } = outgoing;
        let (count, blocked) = match outcome {
            Ok(count) => (count, false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => (0, true),
            Err(_) => return self.close(index, CloseReason::Reset),
        };
        let due = self.clock.deadline(self.settings.write_timeout);
        let slot = &mut self.table[index];
        slot.flags.clear(Flags::SENDING);
        // Bytes may have been taken although no event said that there is room: the last attempt of `try_once_more`.
        match blocked {
            true => slot.flags.set(Flags::BLOCKED),
            false => slot.flags.clear(Flags::BLOCKED),
        }
        let front = &self.out[start..end];
        if count < front.len() {
            let rest = Bytes::copy_from_slice(&front[count..]);
            slot.activate().output.push_front(rest);
        } else if let Some(active) = &mut slot.active {
            let from_queue = count - front.len();
            take_sent(&mut active.output, from_queue);
            if let Some(exchange) = &active.exchange {
                exchange.link.handle_sent(from_queue);
            }
        }
        if !slot.owes() {
            if let Some(active) = &mut slot.active {
                active.write_due = Tick::NEVER;
            }
            return self.handle_flushed(index);
        }
        let active = slot.activate();
        if count > 0 || active.write_due == Tick::NEVER {
            active.write_due = due;
        }
        match slot.state {
            State::Exchange => self.set_exchange_deadline(index),
            _ => self.flush(index),
        }
        if !blocked {
            self.table.enqueue(index);
        }
    }

    /// Everything that was owed is sent.
    pub(super) fn handle_flushed(&mut self, index: u32) {
        let slot = &mut self.table[index];
        match slot.state {
            State::Exchange => self.set_exchange_deadline(index),
            State::Flush { last: Some(reason) } => self.linger(index, reason),
            State::Flush { last: None } => self.finish_answer(index),
            State::Idle | State::Head | State::Discard { .. } | State::Linger { .. } => {}
        }
    }
}

fn take_sent(queue: &mut std::collections::VecDeque<Bytes>, mut count: usize) {
    while count > 0 {
        let chunk = queue.front_mut().expect("no more is sent than was offered");
        if count < chunk.len() {
            bytes::Buf::advance(chunk, count);
            return;
        }
        count -= chunk.len();
        queue.pop_front();
    }
    // A chunk without bytes would never be seen to be sent.
    while queue.front().is_some_and(Bytes::is_empty) {
        queue.pop_front();
    }
}
