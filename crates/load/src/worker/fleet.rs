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

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll, ready};

use anyhow::Context as _;
use baiwan_driver::epoll::EpollDriver;
use baiwan_driver::{Address, Alarm, Close, Driver, Events, Received, Token, Transmit};

use super::connection::Connection;
use super::events::Seen;
use super::reader::{Answer, Checks, Step, Verdict};
use crate::clock::{SECOND_NS, now_ns, unix_seconds};
use crate::plan::{Plan, Share, Sources};
use crate::tally::{ErrorCause, Tally};

/// Connections that are received from, or sent on, in one go.
const BATCH_MAX: usize = 64;
/// Bytes taken from one connection in one go.
const RECEIVE_MAX: usize = 16 * 1024;
const EVENTS_MAX: usize = 512;
/// Copies of the request are made so that several go with one call, up to so many bytes.
const COPIES_BYTES_MAX: usize = 256 * 1024;
/// How long to wait before a connection that could not be opened, or was lost, is opened again.
const RETRY_NS: u64 = SECOND_NS / 10;
/// How often to try whether a server that refused a connection still does.
const PROBE_NS: u64 = SECOND_NS / 20;
/// Connections of all workers that are being opened at the same time, where no phase says otherwise.
const OPENING_MAX: u64 = 512;
/// Connections from one address: those of the ephemeral ports that are surely there.
const PER_SOURCE_MAX: u64 = 10_000;

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

/// Opening and ending.
impl Fleet {
    /// Opens the connection of a place that has none, as one of those of which there is a maximum at a time.
    pub(super) fn open(&mut self, index: u32, now: u64) {
        if self.connections[index as usize].socket.is_none() {
            self.connections[index as usize].opening = true;
            self.opening += 1;
            self.connect(index, now);
        }
    }

    /// How many more may be opened now. While the server refuses connections, one at a time tries whether it still does:
    /// thousands that knock together would only keep it from coming back.
    pub(super) fn may_open(&self, now: u64) -> u64 {
        match self.refused_at {
            Some(at) if now < at + PROBE_NS => 0,
            Some(_) => 1u64.saturating_sub(self.opening),
            None => self.opening_max.saturating_sub(self.opening),
        }
    }

    /// Opens again what is due to be.
    pub(super) fn retry(&mut self, now: u64) {
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
    pub(super) fn is_alive(&self) -> bool {
        self.tally.open + self.tally.outstanding > 0
    }

    /// When the next connection is to be opened again. None: as soon as there is room, which an event will announce.
    pub(super) fn next_retry(&self) -> Option<u64> {
        let (due, _) = self.retries.front()?;
        match self.refused_at {
            Some(at) => Some((*due).max(at + PROBE_NS)),
            None if self.opening < self.opening_max => Some(*due),
            None => None,
        }
    }

    /// Whether connections wait to be opened again.
    pub(super) fn has_retries(&self) -> bool {
        !self.retries.is_empty()
    }

    fn source(&self, index: u32) -> Option<IpAddr> {
        let (sources, first) = self.sources?;
        Some(sources.at((first + u64::from(index)) / PER_SOURCE_MAX))
    }

    fn connect(&mut self, index: u32, now: u64) {
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

    fn connected(&mut self, index: u32) {
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
    fn opened(&mut self, index: u32) {
        let connection = &mut self.connections[index as usize];
        self.opening -= u64::from(std::mem::take(&mut connection.opening));
        self.opened_total += 1;
        match std::mem::replace(&mut connection.was_open, true) && !self.connect_each {
            true => self.tally.reopened += 1,
            false => self.tally.opened += 1,
        }
    }

    /// The kernel says that a connection did not come about.
    fn fail_to_connect(&mut self, index: u32) {
        let Some(socket) = &self.connections[index as usize].socket else { return };
        let error = match self.driver.receive_into(socket, &mut [0; 1]) {
            Err(error) => error.to_string(),
            Ok(_) => "the connection failed".to_owned(),
        };
        self.fail(index, ErrorCause::Connect, &error, Close::Reset);
    }

    /// Ends a connection that failed, with all that is outstanding on it.
    fn fail(&mut self, index: u32, cause: ErrorCause, detail: &str, how: Close) {
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
        // Nobody had asked on a connection that did not come about, and it is one error all the same.
        let failed = outstanding.len() as u64;
        self.tally.error(cause, failed.max(u64::from(!was_open)), || format!("{cause}: {detail}"));
        if self.reopen || opening || self.connect_each {
            self.retries.push_back((now + RETRY_NS, index));
        }
    }

    /// Frees a place. What was outstanding, and whether it was being opened.
    fn end(&mut self, index: u32, how: Close) -> (VecDeque<u64>, bool) {
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

    /// Closes every connection.
    pub(super) fn close_all(&mut self) {
        self.retries.clear();
        self.idle.clear();
        for index in 0..self.len() {
            self.end(index, Close::Orderly);
        }
    }

    /// Ends what has taken too long. Looks at all connections, so it does so rarely.
    pub(super) fn expire(&mut self, now: u64) {
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
    pub(super) fn next_scan(&self) -> Option<u64> {
        (self.timeout_ns.is_some() && self.tally.outstanding + self.opening > 0).then_some(self.next_scan)
    }
}

/// Asking.
impl Fleet {
    /// Begins a phase: all active connections that have room are idle, and nobody was asked.
    pub(super) fn begin_requests(&mut self) {
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

    fn set_idle(&mut self, index: u32, room: u32) {
        if index < self.active {
            let place = (index, self.connections[index as usize].generation);
            self.idle.extend(std::iter::repeat_n(place, room as usize));
        }
    }

    /// Takes the connection that has been idle for the longest time and was asked less than `each` times.
    pub(super) fn take_idle(&mut self, each: u32) -> Option<u32> {
        loop {
            let (index, generation) = self.idle.pop_front()?;
            let connection = &self.connections[index as usize];
            if connection.generation == generation && connection.asked < each {
                return Some(index);
            }
        }
    }

    /// Gives a connection back that [`take_idle`](Self::take_idle) gave and that was not asked.
    pub(super) fn put_back(&mut self, index: u32) {
        self.idle.push_front((index, self.connections[index as usize].generation));
    }

    /// Whether a connection is idle that was asked less than `each` times. Forgets entries about others.
    pub(super) fn has_idle(&mut self, each: u32) -> bool {
        match self.take_idle(each) {
            Some(index) => {
                self.put_back(index);
                true
            }
            None => false,
        }
    }

    /// Whether there is, or may yet be, a connection to ask on.
    pub(super) fn has_any(&mut self) -> bool {
        self.is_busy() || self.has_idle(u32::MAX)
    }

    /// Counts requests that were due and could not be sent.
    pub(super) fn unsent(&mut self, count: u64) {
        self.tally.error(ErrorCause::Unsent, count, || "unsent: no connection was free until the end".to_owned());
    }

    /// Starts a request that was due at `due`. Where there is no connection, one is opened for it.
    pub(super) fn start(&mut self, index: u32, due: u64, now: u64) {
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
    pub(super) fn transmit(&mut self) {
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
                Transmit { socket, token: connection.token(*index), front, queue: None }
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

/// Being answered.
impl Fleet {
    /// Receives from some of those that may have something.
    pub(super) fn receive(&mut self) {
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
                return self.fail_unasked(index);
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

    /// Bytes that nobody has asked for are not an answer to anything. They count although no request is lost with them.
    fn fail_unasked(&mut self, index: u32) {
        self.tally.error(ErrorCause::Malformed, 1, || "malformed: bytes that nobody has asked for".to_owned());
        self.fail(index, ErrorCause::Malformed, "", Close::Reset);
    }

    /// The peer has ended its direction.
    fn ended(&mut self, index: u32, now: u64) {
        let connection = &mut self.connections[index as usize];
        match connection.reader.end(&self.checks) {
            Some(answer) => self.answered(index, answer, now),
            None => self.fail(index, ErrorCause::Closed, "the connection ended before the answer", Close::Orderly),
        }
    }

    fn answered(&mut self, index: u32, answer: Answer, now: u64) {
        let connection = &mut self.connections[index as usize];
        let Some(due) = connection.due.pop_front() else { return };
        connection.since = now;
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
