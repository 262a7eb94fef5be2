//! The connections of one worker: opened, asked, read, closed.
//!
//! ```text
//!   open ──► connected ──► start (a request) ──► transmit ──► receive ──► answered ──► idle ──► start
//!                │                                               │
//!                └──────────────── fail ◄────────────────────────┘      lost: it ended while it was idle
//! ```
//!
//! The fleet does what it is told; *when* requests are due is decided elsewhere (`supply.rs`). Invariant: `tally.outstanding` is
//! the sum of what all connections have outstanding, `tally.open` the number of those that are there.

mod answering;
mod asking;
mod opening;

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, ready};

use anyhow::Context as _;
use baiwan_driver::epoll::EpollDriver;
use baiwan_driver::{Address, Alarm, Driver, Events, Received, Token};

use super::connection::Connection;
use super::reader::Checks;
use crate::clock::now_ns;
use crate::plan::{Plan, Share, Sources};
use crate::tally::Tally;

/// Connections that are received from, or sent on, in one go.
const BATCH_MAX: usize = 64;
/// Bytes taken from one connection in one go.
const RECEIVE_MAX: usize = 16 * 1024;
const EVENTS_MAX: usize = 512;
/// Copies of the request are made so that several go with one call, up to this many bytes.
const COPIES_BYTES_MAX: usize = 256 * 1024;
/// Connections of all workers that are being opened at the same time, where no phase says otherwise.
const OPENING_MAX: u64 = 512;

/// The token of the alarm: no generation and index make it.
const ALARM: Token = Token(u64::MAX);

/// A place in a certain generation: an entry about a connection that is gone says so by itself.
type Place = (u32, u32);

pub(super) struct Fleet {
    driver: EpollDriver,
    alarm: Alarm,
    events: Events,
    address: Address,
    sources: Option<(Sources, u64)>,
    connections: Vec<Connection>,
    /// Those that may have something to receive.
    readable: VecDeque<u32>,
    /// Those that have something to send.
    writable: Vec<u32>,
    /// Room for another request, the one that waits for the longest time first.
    idle: VecDeque<Place>,
    /// To be opened again, and from when on.
    retries: VecDeque<(u64, u32)>,
    /// Connections that are being opened, as far as they are limited.
    opening: u64,
    opened_total: u64,
    /// When an answer last came.
    answered_at: u64,
    /// When the server last refused one, if it has taken none since.
    refused_at: Option<u64>,
    area: Vec<u8>,
    received: Vec<Received>,
    sent: Vec<io::Result<usize>>,
    batch: Vec<u32>,
    /// The request, several times one after the other.
    copies: Vec<u8>,
    request_bytes: usize,
    checks: Checks,
    pipeline: u32,
    connect_each: bool,
    active: u32,
    timeout_ns: Option<u64>,
    next_scan: u64,
    /// The most that are opened at the same time, those apart that a request waits for.
    pub(super) opening_max: u64,
    /// Connections that end are opened again.
    pub(super) reopen: bool,
    /// A connection is asked as soon as it is there, and counts as open when it was answered.
    pub(super) ask_first: bool,
    pub(super) tally: Tally,
}

impl Fleet {
    /// Places for a worker's share of the connections; none is opened yet.
    pub(super) fn new(plan: &Plan, share: Share) -> anyhow::Result<Self> {
        let mut driver = EpollDriver::new().context("cannot make an epoll instance")?;
        let count = share.part(plan.connections);
        let copies = (COPIES_BYTES_MAX / plan.request.len().max(1)).clamp(1, plan.pipeline as usize);
        Ok(Self {
            alarm: driver.add_alarm(ALARM)?,
            driver,
            events: Events::with_capacity(EVENTS_MAX),
            address: plan.address.parse()?,
            sources: plan.sources.map(|sources| (sources, share.before(plan.connections))),
            connections: (0..count)
                .map(|_| Connection { dormant: plan.connect_each, ..Connection::default() })
                .collect(),
            readable: VecDeque::new(),
            writable: Vec::new(),
            idle: VecDeque::new(),
            retries: VecDeque::new(),
            opening: 0,
            opened_total: 0,
            answered_at: 0,
            refused_at: None,
            opening_max: share.part_min_1(OPENING_MAX),
            area: vec![0; BATCH_MAX * RECEIVE_MAX],
            received: Vec::new(),
            sent: Vec::new(),
            batch: Vec::new(),
            copies: plan.request.repeat(copies),
            request_bytes: plan.request.len(),
            checks: Checks::of(plan),
            pipeline: plan.pipeline,
            connect_each: plan.connect_each,
            active: share.part(plan.active_count()).min(count) as u32,
            timeout_ns: plan.timeout.map(|timeout| timeout.as_nanos() as u64),
            next_scan: 0,
            reopen: plan.reconnect,
            ask_first: false,
            tally: Tally::default(),
        })
    }

    pub(super) fn len(&self) -> u32 {
        self.connections.len() as u32
    }

    pub(super) fn opening(&self) -> u64 {
        self.opening
    }

    /// Connections that came to be open since the worker began.
    pub(super) fn opened_total(&self) -> u64 {
        self.opened_total
    }

    /// When an answer last came, right or wrong.
    pub(super) fn answered_at(&self) -> u64 {
        self.answered_at
    }

    /// Whether anything may still become idle: something is outstanding, opening, or to be opened again.
    pub(super) fn is_busy(&self) -> bool {
        self.tally.outstanding > 0 || self.opening > 0 || !self.retries.is_empty()
    }

    /// Takes note of what the driver reports. Pending: nothing, and the task will be woken.
    pub(super) fn poll_events(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.driver.poll_wait(cx, &mut self.events))?;
        for place in 0..self.events.len() {
            let event = self.events.at(place);
            let index = event.token.0 as u32;
            if event.token == ALARM || self.connections[index as usize].token(index) != event.token {
                continue;
            }
            let connection = &mut self.connections[index as usize];
            connection.hangup |= event.hangup;
            if connection.connecting {
                match event.reset {
                    true => self.fail_to_connect(index),
                    false if event.writable => self.connected(index),
                    false => {}
                }
            } else if connection.unsent > 0 && event.writable {
                self.queue_to_send(index);
            }
            if event.readable {
                self.queue_to_receive(index);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Has the task woken at `moment` at the latest.
    pub(super) fn wake_at(&self, moment: u64) -> io::Result<()> {
        self.alarm.ring_in(std::time::Duration::from_nanos(moment.saturating_sub(now_ns())))
    }

    /// Whether there is something to do that no event will announce.
    pub(super) fn has_work(&self) -> bool {
        !self.readable.is_empty() || !self.writable.is_empty()
    }

    fn queue_to_receive(&mut self, index: u32) {
        let connection = &mut self.connections[index as usize];
        if connection.is_open() && !connection.queued_to_receive {
            connection.queued_to_receive = true;
            self.readable.push_back(index);
        }
    }

    fn queue_to_send(&mut self, index: u32) {
        let connection = &mut self.connections[index as usize];
        if !connection.queued_to_send {
            connection.queued_to_send = true;
            self.writable.push(index);
        }
    }
}
