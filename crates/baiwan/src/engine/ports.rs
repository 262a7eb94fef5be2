//! The ways out of a core: its driver, what leaves with the driver's next call, and the connections that hyper has.

use std::io;
use std::sync::Arc;

use baiwan_driver::Driver;
use tokio::time::Instant;

use super::table::{Flags, Table};
use super::{TRANSMIT_AREA_BYTES, TRANSMIT_DELAY_MAX};
use crate::hyper::Transports;

/// What a step needs that receives, sends or closes.
pub(super) struct Ports<D> {
    pub(super) driver: D,
    pub(super) outbox: Outbox,
    /// Connections that were handed to hyper.
    pub(super) transports: Arc<Transports>,
}

impl<D: Driver> Ports<D> {
    pub(super) fn new(driver: D, transports: Arc<Transports>, now: Instant) -> Self {
        Self { driver, outbox: Outbox::new(now), transports }
    }
}

/// What one connection sends in this batch: a range of the area, then its queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) index: u32,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Answers encoded in this batch: they leave together.
#[derive(Debug)]
pub(super) struct Outbox {
    /// The area in which their bytes lie.
    pub(super) bytes: Vec<u8>,
    /// At most one for each connection.
    pub(super) parts: Vec<Part>,
    /// The answers that wait leave then at the latest.
    due: Instant,
    /// Empty between its uses; kept for its capacity.
    pub(super) sent: Vec<io::Result<usize>>,
    /// Why connections of this turn could not be watched that are owed more, one entry for each.
    pub(super) unwatched: Vec<io::Error>,
}

impl Outbox {
    fn new(now: Instant) -> Self {
        Self {
            bytes: Vec::new(),
            parts: Vec::new(),
            due: now + TRANSMIT_DELAY_MAX,
            sent: Vec::new(),
            unwatched: Vec::new(),
        }
    }

    /// Answers wait from now on.
    pub(super) fn begin_wait(&mut self, now: Instant) {
        self.due = now + TRANSMIT_DELAY_MAX;
    }

    /// Whether answers may have waited for too long.
    #[inline]
    pub(super) fn is_late(&self, now: Instant) -> bool {
        now > self.due
    }

    /// Has what the area holds from `start` on sent to a connection, and its queue behind that.
    pub(super) fn add_area<S>(&mut self, table: &mut Table<S>, index: u32, start: usize) {
        let end = self.bytes.len();
        if end > start {
            self.add(table, Part { index, start, end });
        } else if table.owes(index) {
            table.enqueue(index);
        }
    }

    /// Has a connection's queue sent.
    pub(super) fn add_queue<S>(&mut self, table: &mut Table<S>, index: u32) {
        let end = self.bytes.len();
        self.add(table, Part { index, start: end, end });
    }

    fn add<S>(&mut self, table: &mut Table<S>, part: Part) {
        let flags = &mut table[part.index].flags;
        // Sent twice in one batch, a queue would be answers told twice.
        assert!(!flags.has(Flags::SENDING), "a connection has one part in a batch");
        flags.set(Flags::SENDING);
        self.parts.push(part);
    }

    /// What was encoded for a connection in this batch is not sent any more.
    pub(super) fn forget(&mut self, index: u32) {
        self.parts.retain(|part| part.index != index);
    }

    /// The loop begins anew after a panic.
    pub(super) fn begin_anew(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// Everything in the area has left.
    pub(super) fn clear(&mut self, now: Instant) {
        self.bytes.clear();
        self.bytes.shrink_to(2 * TRANSMIT_AREA_BYTES);
        self.begin_wait(now);
    }
}
