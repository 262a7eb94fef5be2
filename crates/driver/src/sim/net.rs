//! The state of the network: endpoints, backlogs, and the events that are on their way.
//!
//! What peers do is done as it is asked for; what the driver does passes the faults first (`calls`).

use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::task::Waker;

use super::Unseen;
use super::faults::{Call, Fault, Faults};
use crate::{Close, Event, Token};

/// Connections that may wait to be accepted, for each listener.
const BACKLOG_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Net {
    endpoints: Vec<Option<Endpoint>>,
    /// Places of endpoints that are gone, used again at once, as the kernel does with descriptors.
    free: Vec<usize>,
    pub(super) listeners: Vec<Listener>,
    /// Endpoints with an event to report, each at most once.
    pub(super) ready: VecDeque<usize>,
    pub(super) inbox_bytes_max: usize,
    next_port: u16,
    pub(super) waker: Option<Waker>,
    pub(super) faults: Option<Faults>,
    /// Calls of each kind so far.
    pub(super) calls: [u64; Call::ALL.len()],
    pub(super) step: u64,
    /// Endpoints whose events come later, and when.
    pub(super) delayed: Vec<(u64, usize)>,
    /// Events about sockets that are closed, and when they come.
    pub(super) stale: Vec<(u64, Event)>,
    /// Accepting fails until that step, with that error.
    pub(super) exhausted: Option<(u64, i32)>,
    /// Things done for the driver's engine: events, connections, transfers, ends.
    pub(super) work: u64,
    /// The driver may wait directly.
    pub(super) waits_directly: bool,
    /// A time of direct waits goes on.
    pub(super) is_direct: bool,
    pub(super) digest: u64,
    pub(super) trace: Option<Vec<String>>,
}

#[derive(Debug, Default)]
pub(super) struct Endpoint {
    other: Option<usize>,
    pub(super) inbox: VecDeque<u8>,
    /// The other side has ended its direction.
    pub(super) ended: bool,
    /// This side has ended its direction.
    shut: bool,
    pub(super) reset: bool,
    /// The other side was refused bytes and wants to know when there is room.
    refused: bool,
    /// A fault has killed the connection.
    pub(super) faulted: bool,
    /// An event about the connection came later than it should have.
    pub(super) late: bool,
    pub(super) token: Option<Token>,
    pub(super) pending: Pending,
}

/// What the next wait reports about an endpoint.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Pending {
    pub(super) queued: bool,
    pub(super) readable: bool,
    pub(super) writable: bool,
}

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    pub(super) backlog: VecDeque<(usize, SocketAddr)>,
    pub(super) token: Option<Token>,
    pub(super) announce: bool,
    pub(super) closed: bool,
}

impl Net {
    pub(super) fn new(inbox_bytes_max: usize) -> Self {
        Self { inbox_bytes_max, next_port: 40_000, ..Self::default() }
    }

    pub(super) fn endpoint(&self, index: usize) -> &Endpoint {
        self.endpoints[index].as_ref().expect("an endpoint is not used after it was closed")
    }

    pub(super) fn endpoint_mut(&mut self, index: usize) -> &mut Endpoint {
        self.endpoints[index].as_mut().expect("an endpoint is not used after it was closed")
    }

    pub(super) fn endpoints(&self) -> usize {
        self.endpoints.iter().flatten().count()
    }

    /// Puts what happens into the digest, and into the trace.
    pub(super) fn note(&mut self, what: &str, place: usize, outcome: u64) {
        for part in [what.len() as u64, u64::from(what.as_bytes()[0]), place as u64, outcome] {
            // As FNV-1a, by words instead of bytes.
            self.digest = (self.digest ^ part).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
        }
        if let Some(trace) = &mut self.trace {
            match outcome {
                u64::MAX => trace.push(format!("{what} #{place} fails")),
                outcome => trace.push(format!("{what} #{place} {outcome:#x}")),
            }
        }
    }

    /// The fault at this call, if there is one; noted, and its connection marked.
    pub(super) fn fault(&mut self, call: Call, index: Option<usize>) -> Option<Fault> {
        let number = self.calls[call as usize];
        self.calls[call as usize] += 1;
        let fault = self.faults.as_ref()?.at(call, number)?;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("FAULT {call:?} {number}: {fault:?}"));
        }
        if let (true, Some(index)) = (fault.is_deadly(), index) {
            self.mark_faulted(index);
        }
        Some(fault)
    }

    pub(super) fn mark_faulted(&mut self, index: usize) {
        let endpoint = self.endpoint_mut(index);
        endpoint.faulted = true;
        if let Some(other) = endpoint.other {
            self.endpoint_mut(other).faulted = true;
        }
    }

    pub(super) fn mark_late(&mut self, index: usize) {
        let endpoint = self.endpoint_mut(index);
        endpoint.late = true;
        if let Some(other) = endpoint.other {
            self.endpoint_mut(other).late = true;
        }
    }

    fn insert(&mut self) -> usize {
        match self.free.pop() {
            Some(index) => {
                self.endpoints[index] = Some(Endpoint::default());
                index
            }
            None => {
                self.endpoints.push(Some(Endpoint::default()));
                self.endpoints.len() - 1
            }
        }
    }

    pub(super) fn connect(&mut self, address: SocketAddr) -> io::Result<usize> {
        let open = |l: &Listener| l.address == address && !l.closed && l.backlog.len() < BACKLOG_MAX;
        let listener = self.listeners.iter().position(open).ok_or(io::ErrorKind::ConnectionRefused)?;
        let (here, there) = (self.insert(), self.insert());
        self.endpoint_mut(here).other = Some(there);
        self.endpoint_mut(there).other = Some(here);
        self.next_port = self.next_port.checked_add(1).unwrap_or(1024);
        let name = SocketAddr::from((Ipv4Addr::LOCALHOST, self.next_port));
        self.listeners[listener].backlog.push_back((there, name));
        self.listeners[listener].announce = true;
        self.note("connect", here, there as u64);
        self.wake();
        Ok(here)
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub(super) fn report(&mut self, index: usize, readable: bool, writable: bool) {
        let endpoint = self.endpoint_mut(index);
        endpoint.pending.readable |= readable;
        endpoint.pending.writable |= writable;
        if endpoint.token.is_some() && !endpoint.pending.queued {
            endpoint.pending.queued = true;
            self.ready.push_back(index);
            self.wake();
        }
    }

    pub(super) fn send(&mut self, index: usize, bytes: &[u8]) -> io::Result<usize> {
        let endpoint = self.endpoint(index);
        if endpoint.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let (false, Some(other)) = (endpoint.shut, endpoint.other) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let inbox_bytes_max = self.inbox_bytes_max;
        let there = self.endpoint_mut(other);
        let taken = bytes.len().min(inbox_bytes_max - there.inbox.len());
        there.inbox.extend(&bytes[..taken]);
        there.refused |= taken < bytes.len();
        if taken > 0 {
            self.report(other, true, false);
        }
        match taken {
            0 if !bytes.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
            taken => Ok(taken),
        }
    }

    pub(super) fn receive(&mut self, index: usize, buffer: &mut [u8]) -> io::Result<usize> {
        let endpoint = self.endpoint_mut(index);
        if endpoint.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let taken = endpoint.inbox.len().min(buffer.len());
        endpoint.inbox.read_exact(&mut buffer[..taken])?;
        if taken == 0 && !endpoint.ended && !buffer.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if taken > 0
            && std::mem::take(&mut endpoint.refused)
            && let Some(other) = endpoint.other
        {
            self.report(other, false, true);
        }
        Ok(taken)
    }

    pub(super) fn shutdown_write(&mut self, index: usize) {
        let endpoint = self.endpoint_mut(index);
        let first = !std::mem::replace(&mut endpoint.shut, true);
        if let (true, Some(other)) = (first, endpoint.other) {
            self.endpoint_mut(other).ended = true;
            self.report(other, true, false);
        }
    }

    /// As the kernel does: closing with bytes that were not received resets the connection.
    pub(super) fn close(&mut self, index: usize, how: Close) {
        self.shutdown_write(index);
        let Some(endpoint) = self.endpoints[index].take() else { return };
        self.work += u64::from(endpoint.token.is_some());
        self.note("close", index, u64::from(how == Close::Reset));
        self.free.push(index);
        self.ready.retain(|ready| *ready != index);
        self.delayed.retain(|(_, delayed)| *delayed != index);
        if let Some(other) = endpoint.other {
            let there = self.endpoint_mut(other);
            there.other = None;
            if how == Close::Reset || !endpoint.inbox.is_empty() {
                there.reset = true;
                self.report(other, true, true);
            }
        }
        if let (Some(faults), Some(token)) = (&self.faults, endpoint.token)
            && faults.decisions().chance(faults.rates.stale)
        {
            let yes = || faults.decisions().chance(500);
            let (readable, writable, hangup, reset) = (yes(), yes(), yes(), yes());
            let at = self.step + faults.decisions().below(3) as u64;
            self.stale.push((at, Event { token, readable, writable, hangup, reset }));
        }
    }

    /// Ends a connection in both directions, as a reset on its way between the two does.
    pub(super) fn break_connection(&mut self, index: usize) {
        let other = self.endpoint(index).other;
        for side in [Some(index), other].into_iter().flatten() {
            self.endpoint_mut(side).reset = true;
            self.report(side, true, true);
        }
    }

    /// One step of the simulation: what was to come later may be due now.
    pub(super) fn step(&mut self) {
        self.step += 1;
        let step = self.step;
        for (_, index) in self.delayed.extract_if(.., |(at, _)| *at <= step) {
            self.ready.push_back(index);
        }
        if self.exhausted.is_some_and(|(until, _)| until <= step) {
            self.exhausted = None;
        }
        if let Some(faults) = &self.faults
            && faults.decisions().chance(faults.rates.spurious)
        {
            let index = faults.decisions().below(self.endpoints.len().max(1));
            let writable = faults.decisions().chance(300);
            if self.endpoints.get(index).is_some_and(Option::is_some) {
                self.report(index, true, writable);
            }
        }
        if !self.ready.is_empty() || self.stale.iter().any(|(at, _)| *at <= step) {
            self.wake();
        }
    }

    /// What is on its way at last arrives, and no more faults happen.
    pub(super) fn calm(&mut self) {
        self.faults = None;
        self.exhausted = None;
        for (at, _) in &mut self.delayed {
            *at = 0;
        }
        self.step();
    }

    /// What an engine was not told about a socket of its own, although it should have been.
    pub(super) fn unseen(&self, index: usize) -> Unseen {
        let endpoint = self.endpoint(index);
        if endpoint.pending.queued {
            return Unseen::default();
        }
        let there = endpoint.other.map(|other| self.endpoint(other));
        Unseen {
            input: !endpoint.inbox.is_empty() || endpoint.ended || endpoint.reset,
            end: endpoint.inbox.is_empty() && (endpoint.ended || endpoint.reset),
            room: there.is_none_or(|there| there.inbox.len() < self.inbox_bytes_max && !there.refused),
        }
    }

    pub(super) fn close_listener(&mut self, number: usize) {
        self.listeners[number].closed = true;
        for (index, _) in std::mem::take(&mut self.listeners[number].backlog) {
            self.close(index, Close::Reset);
        }
    }
}
