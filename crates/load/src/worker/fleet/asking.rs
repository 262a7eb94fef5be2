//! Asking: which connections have room for a request, and its way into the kernel.

use std::io;

use baiwan_driver::{Driver, Transmit};

use super::{BATCH_MAX, Fleet};
use crate::tally::ErrorCause;

impl Fleet {
    /// Begins a phase: all active connections that have room are idle, and nobody was asked.
    pub(in crate::worker) fn begin_requests(&mut self) {
        self.idle.clear();
        for index in 0..self.len() {
            let connection = &mut self.connections[index as usize];
            connection.asked = 0;
            if connection.is_open() && !connection.streaming || connection.dormant {
                let room = if self.connect_each { 1 } else { self.pipeline - connection.due.len() as u32 };
                self.set_idle(index, room);
            }
        }
    }

    pub(super) fn set_idle(&mut self, index: u32, room: u32) {
        if index < self.active {
            let place = (index, self.connections[index as usize].generation);
            self.idle.extend(std::iter::repeat_n(place, room as usize));
        }
    }

    /// Takes the connection that has been idle for the longest time and was asked less than `each` times.
    pub(in crate::worker) fn take_idle(&mut self, each: u32) -> Option<u32> {
        loop {
            let (index, generation) = self.idle.pop_front()?;
            let connection = &self.connections[index as usize];
            if connection.generation == generation && connection.asked < each {
                return Some(index);
            }
        }
    }

    /// Gives a connection back that [`take_idle`](Self::take_idle) gave and that was not asked.
    pub(in crate::worker) fn put_back(&mut self, index: u32) {
        self.idle.push_front((index, self.connections[index as usize].generation));
    }

    /// Whether a connection is idle that was asked less than `each` times. Forgets entries about others.
    pub(in crate::worker) fn has_idle(&mut self, each: u32) -> bool {
        match self.take_idle(each) {
            Some(index) => {
                self.put_back(index);
                true
            }
            None => false,
        }
    }

    /// Whether there is, or may yet be, a connection to ask on.
    pub(in crate::worker) fn has_any(&mut self) -> bool {
        self.is_busy() || self.has_idle(u32::MAX)
    }

    /// Counts requests that were due and could not be sent.
    pub(in crate::worker) fn unsent(&mut self, count: u64) {
        self.tally.error(ErrorCause::Unsent, count, || "unsent: no connection was free until the end".to_owned());
    }

    /// Starts a request that was due at `due`. Where there is no connection, one is opened for it.
    pub(in crate::worker) fn start(&mut self, index: u32, due: u64, now: u64) {
        let request_bytes = self.request_bytes;
        let connection = &mut self.connections[index as usize];
        if connection.due.is_empty() {
            connection.since = now;
        }
        connection.due.push_back(due);
        connection.asked += 1;
        let is_first = connection.unsent == 0;
        connection.unsent += request_bytes;
        self.tally.outstanding += 1;
        self.tally.sent += 1;
        self.tally.send_delay.record(now.saturating_sub(due));
        if connection.socket.is_none() {
            self.connect(index, now);
        } else if is_first && !connection.connecting {
            self.queue_to_send(index);
        }
    }

    /// Sends what there is to send. What the kernel does not take waits for an event.
    pub(in crate::worker) fn transmit(&mut self) {
        while !self.writable.is_empty() {
            let start = self.writable.len().saturating_sub(BATCH_MAX);
            let mut batch = std::mem::take(&mut self.batch);
            batch.clear();
            batch.extend(self.writable.drain(start..));
            batch.retain(|index| {
                let connection = &mut self.connections[*index as usize];
                connection.queued_to_send = false;
                connection.is_open() && connection.unsent > 0
            });
            let mut sent = std::mem::take(&mut self.sent);
            sent.clear();
            let entries = batch.iter().map(|index| {
                let connection = &self.connections[*index as usize];
                let socket = connection.socket.as_ref().expect("a connection that is open has a socket");
                let front = unsent(&self.copies, self.request_bytes, connection.unsent);
                Transmit { socket, token: connection.token(*index), front, queue: [&[], &[]], cautious: false }
            });
            self.driver.transmit(entries, &mut sent);
            for (index, outcome) in batch.iter().zip(sent.drain(..)) {
                self.transmitted(*index, outcome);
            }
            (self.batch, self.sent) = (batch, sent);
        }
    }

    fn transmitted(&mut self, index: u32, outcome: io::Result<usize>) {
        let connection = &mut self.connections[index as usize];
        match outcome {
            Ok(taken) => {
                let offered = unsent(&self.copies, self.request_bytes, connection.unsent).len();
                connection.unsent -= taken;
                self.tally.bytes_sent += taken as u64;
                if taken == offered && connection.unsent > 0 {
                    self.queue_to_send(index);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // An answer may have come before the end: receiving finds it, and then the reason of the end.
            Err(_) => {
                connection.unsent = 0;
                connection.hangup = true;
                self.queue_to_receive(index);
            }
        }
    }
}

/// The bytes to send next where `left` bytes of requests are not sent, each a copy of the one request.
fn unsent(copies: &[u8], request_bytes: usize, left: usize) -> &[u8] {
    let sent_of_first = (request_bytes - left % request_bytes) % request_bytes;
    &copies[sent_of_first..copies.len().min(sent_of_first + left)]
}
