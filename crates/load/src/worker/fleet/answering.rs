//! Being answered: what comes in, whose answer it is, and whether it is right.

use std::io;

use baiwan_driver::{Close, Driver, Received};

use super::{BATCH_MAX, Fleet, RECEIVE_MAX};
use crate::clock::{SECOND_NS, now_ns, unix_seconds};
use crate::tally::ErrorCause;
use crate::worker::events::Seen;
use crate::worker::reader::{Answer, Step, Verdict};

impl Fleet {
    /// Receives from some of those that may have something.
    pub(in crate::worker) fn receive(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        batch.clear();
        batch.extend(self.readable.drain(..self.readable.len().min(BATCH_MAX)));
        for index in &batch {
            self.connections[*index as usize].queued_to_receive = false;
        }
        batch.retain(|index| self.connections[*index as usize].is_open());
        let (mut area, mut received) = (std::mem::take(&mut self.area), std::mem::take(&mut self.received));
        received.clear();
        let sockets = batch.iter().map(|index| {
            self.connections[*index as usize].socket.as_ref().expect("a connection that is open has a socket")
        });
        self.driver.receive(sockets, RECEIVE_MAX, &mut area, &mut received);
        // Read after the bytes came, so that no latency is told shorter than it was.
        let now = now_ns();
        for (index, Received { start, outcome }) in batch.iter().zip(received.drain(..)) {
            let taken = *outcome.as_ref().unwrap_or(&0);
            self.take_in(*index, outcome, &area[start..start + taken], now);
        }
        (self.batch, self.area, self.received) = (batch, area, received);
    }

    fn take_in(&mut self, index: u32, outcome: io::Result<usize>, bytes: &[u8], now: u64) {
        let generation = self.connections[index as usize].generation;
        match outcome {
            Ok(0) => self.ended(index, now),
            Ok(taken) => {
                self.tally.bytes_received += taken as u64;
                self.read(index, bytes, now);
                let connection = &self.connections[index as usize];
                if connection.generation == generation && (taken == RECEIVE_MAX || connection.hangup) {
                    self.queue_to_receive(index);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => self.fail(index, ErrorCause::Reset, &error.to_string(), Close::Reset),
        }
    }

    fn read(&mut self, index: u32, bytes: &[u8], now: u64) {
        let mut input = bytes;
        loop {
            let connection = &mut self.connections[index as usize];
            if !input.is_empty() && connection.due.is_empty() && !connection.streaming {
                // Not an answer to anything: the connection is lost with them, and no request is.
                return self.fail(index, ErrorCause::Malformed, "bytes that nobody has asked for", Close::Reset);
            }
            let (tally, last) = (&mut self.tally, &mut connection.last_event);
            let mut on_event = |seen: Seen| {
                tally.events += 1;
                tally.events_missing = tally.events_missing.saturating_add(seen.missing);
                if let Some(sent_at) = seen.sent_at {
                    tally.event_delay.record(((unix_seconds() - sent_at).max(0.0) * SECOND_NS as f64) as u64);
                }
                if let Some(last) = last.replace(now) {
                    tally.event_interval.record(now - last);
                }
            };
            match connection.reader.advance(&mut input, &self.checks, &mut on_event) {
                Ok(Step::More) => return,
                Ok(Step::Streaming(answer)) => {
                    connection.streaming = true;
                    self.answered(index, Answer { keep_alive: true, ..answer }, now);
                }
                Ok(Step::Answered(answer)) => {
                    let generation = connection.generation;
                    self.answered(index, answer, now);
                    if self.connections[index as usize].generation != generation {
                        return;
                    }
                }
                Err(rule) => return self.fail(index, ErrorCause::Malformed, rule, Close::Reset),
            }
        }
    }

    /// The peer has ended its direction.
    fn ended(&mut self, index: u32, now: u64) {
        let connection = &mut self.connections[index as usize];
        match connection.reader.end(&self.checks) {
            Some(answer) => self.answered(index, answer, now),
            None if connection.due.is_empty() => {
                self.fail(index, ErrorCause::Closed, "the server ended the connection", Close::Orderly);
            }
            None => self.fail(index, ErrorCause::Closed, "the connection ended before the answer", Close::Orderly),
        }
    }

    fn answered(&mut self, index: u32, answer: Answer, now: u64) {
        let connection = &mut self.connections[index as usize];
        let Some(due) = connection.due.pop_front() else { return };
        connection.since = now;
        self.answered_at = now;
        self.tally.outstanding -= 1;
        *self.tally.statuses.entry(answer.status).or_default() += 1;
        match answer.verdict {
            Verdict::Right => {
                self.tally.answered += 1;
                self.tally.latency.record(now.saturating_sub(due));
            }
            Verdict::WrongStatus => self.tally.error(ErrorCause::Status, 1, || format!("status: {}", answer.status)),
            Verdict::WrongBody => self.tally.error(ErrorCause::Body, 1, || "body: not the one expected".to_owned()),
        }
        if connection.opening {
            self.opened(index);
        }
        if answer.keep_alive && !self.connect_each {
            if !self.connections[index as usize].streaming {
                self.set_idle(index, 1);
            }
        } else {
            self.end_announced(index);
        }
    }

    /// Ends a connection that was to end after this answer. The place is idle: its next request opens it again.
    fn end_announced(&mut self, index: u32) {
        let (lost, _) = self.end(index, Close::Orderly);
        let count = lost.len() as u64;
        self.tally.error(ErrorCause::Closed, count, || "closed: the answer before was the last".to_owned());
        self.connections[index as usize].dormant = true;
        self.set_idle(index, if self.connect_each { 1 } else { self.pipeline });
    }
}
