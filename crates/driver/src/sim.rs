//! A network in memory: the same interface, no kernel, no thread, no chance.
//!
//! Every connection is a pair of endpoints, each with a bounded inbox. An endpoint belongs to a [`SimDriver`], whose engine is
//! under test, or to a [`SimPeer`], through which a test plays the other side. Everything happens in the order in which it was
//! asked for, so a test with a held clock runs the same way each time. It injects no faults.
//!
//! The invariant: an event is reported exactly when the kernel would report it with edge-triggered readiness: on new bytes, on
//! the end of the stream, on a reset, and on new room after a refusal.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::{AcceptEnd, Accepted, Address, Close, Driver, Event, Events, Peer, Token, Transmit};

/// Bytes that an endpoint holds until they are received, when nothing else is asked for.
const INBOX_BYTES_MAX: usize = 64 * 1024;
/// Connections that may wait to be accepted, for each listener.
const BACKLOG_MAX: usize = 4096;

/// The network: clones are handles on the same one.
#[derive(Clone, Debug)]
pub struct SimNet(Rc<RefCell<Net>>);

/// The driver of one engine on the network.
#[derive(Debug)]
pub struct SimDriver(SimNet);

/// An endpoint that belongs to a driver.
#[derive(Debug)]
pub struct SimSocket(usize);

/// A listener that belongs to a driver.
#[derive(Debug)]
pub struct SimListener(usize);

/// A listener that no driver has taken in yet.
#[derive(Debug)]
pub struct SimBound(SocketAddr);

/// The other side of a connection, played by a test. Dropping it closes it in order.
#[derive(Debug)]
pub struct SimPeer {
    net: SimNet,
    endpoint: usize,
}

#[derive(Debug, Default)]
struct Net {
    endpoints: Vec<Option<Endpoint>>,
    /// Places of endpoints that are gone, used again at once, as the kernel does with descriptors.
    free: Vec<usize>,
    listeners: Vec<Listener>,
    /// Endpoints with an event to report, each at most once.
    ready: VecDeque<usize>,
    inbox_bytes_max: usize,
    next_port: u16,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Endpoint {
    other: Option<usize>,
    inbox: VecDeque<u8>,
    /// The other side has ended its direction.
    ended: bool,
    /// This side has ended its direction.
    shut: bool,
    reset: bool,
    /// The other side was refused bytes and wants to know when there is room.
    refused: bool,
    token: Option<Token>,
    pending: Pending,
}

/// What the next wait reports about an endpoint.
#[derive(Clone, Copy, Default, Debug)]
struct Pending {
    queued: bool,
    readable: bool,
    writable: bool,
}

#[derive(Debug)]
struct Listener {
    address: SocketAddr,
    backlog: VecDeque<(usize, SocketAddr)>,
    token: Option<Token>,
    announce: bool,
}

impl Default for SimNet {
    fn default() -> Self {
        Self::new(INBOX_BYTES_MAX)
    }
}

impl SimNet {
    /// An empty network in which every endpoint holds at most `inbox_bytes_max` bytes that were not received yet.
    pub fn new(inbox_bytes_max: usize) -> Self {
        Self(Rc::new(RefCell::new(Net { inbox_bytes_max, next_port: 40_000, ..Net::default() })))
    }

    /// A driver for one engine. A network has one driver: events of all its endpoints go to it.
    pub fn driver(&self) -> SimDriver {
        SimDriver(self.clone())
    }

    /// A listener for the driver.
    pub fn bind(&self, address: SocketAddr) -> SimBound {
        SimBound(address)
    }

    /// Connects to a listener from outside.
    ///
    /// # Errors
    /// `ConnectionRefused` when nobody listens there or the backlog is full.
    pub fn connect(&self, address: SocketAddr) -> io::Result<SimPeer> {
        let endpoint = self.0.borrow_mut().connect(address)?;
        Ok(SimPeer { net: self.clone(), endpoint })
    }

    /// How many endpoints exist: two for each connection that neither side has closed, one where only one side has.
    pub fn endpoints(&self) -> usize {
        self.0.borrow().endpoints.iter().flatten().count()
    }
}

impl SimPeer {
    /// Sends as much as the other side has room for; returns how much that was.
    ///
    /// # Errors
    /// `ConnectionReset` or `BrokenPipe` when the connection is dead.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.net.0.borrow_mut().send(self.endpoint, bytes)
    }

    /// Takes everything that has arrived.
    pub fn receive(&mut self) -> Vec<u8> {
        let mut net = self.net.0.borrow_mut();
        let mut bytes = vec![0; net.endpoint(self.endpoint).inbox.len()];
        let taken = net.receive(self.endpoint, &mut bytes).unwrap_or(0);
        bytes.truncate(taken);
        bytes
    }

    /// Whether the other side has ended its direction or the connection was reset, and everything was received.
    pub fn is_at_end(&self) -> bool {
        let net = self.net.0.borrow();
        let endpoint = net.endpoint(self.endpoint);
        endpoint.reset || (endpoint.ended && endpoint.inbox.is_empty())
    }

    /// Whether the other side has reset the connection.
    pub fn is_reset(&self) -> bool {
        self.net.0.borrow().endpoint(self.endpoint).reset
    }

    /// Ends this direction; the other goes on.
    pub fn shutdown_write(&mut self) {
        self.net.0.borrow_mut().shutdown_write(self.endpoint);
    }

    /// Resets the connection.
    pub fn reset(self) {
        self.net.0.borrow_mut().close(self.endpoint, Close::Reset);
        std::mem::forget(self);
    }
}

impl Drop for SimPeer {
    fn drop(&mut self) {
        self.net.0.borrow_mut().close(self.endpoint, Close::Orderly);
    }
}

impl Net {
    fn endpoint(&self, index: usize) -> &Endpoint {
        self.endpoints[index].as_ref().expect("an endpoint is not used after it was closed")
    }

    fn endpoint_mut(&mut self, index: usize) -> &mut Endpoint {
        self.endpoints[index].as_mut().expect("an endpoint is not used after it was closed")
    }

    fn insert(&mut self) -> usize {
        let endpoint = Endpoint {
            other: None,
            inbox: VecDeque::new(),
            ended: false,
            shut: false,
            reset: false,
            refused: false,
            token: None,
            pending: Pending::default(),
        };
        match self.free.pop() {
            Some(index) => {
                self.endpoints[index] = Some(endpoint);
                index
            }
            None => {
                self.endpoints.push(Some(endpoint));
                self.endpoints.len() - 1
            }
        }
    }

    fn connect(&mut self, address: SocketAddr) -> io::Result<usize> {
        let found = self.listeners.iter().position(|l| l.address == address && l.backlog.len() < BACKLOG_MAX);
        let listener = found.ok_or(io::ErrorKind::ConnectionRefused)?;
        let (here, there) = (self.insert(), self.insert());
        self.endpoint_mut(here).other = Some(there);
        self.endpoint_mut(there).other = Some(here);
        self.next_port = self.next_port.checked_add(1).unwrap_or(1024);
        let name = SocketAddr::from((Ipv4Addr::LOCALHOST, self.next_port));
        self.listeners[listener].backlog.push_back((there, name));
        self.listeners[listener].announce = true;
        self.wake();
        Ok(here)
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn report(&mut self, index: usize, readable: bool, writable: bool) {
        let endpoint = self.endpoint_mut(index);
        endpoint.pending.readable |= readable;
        endpoint.pending.writable |= writable;
        if endpoint.token.is_some() && !endpoint.pending.queued {
            endpoint.pending.queued = true;
            self.ready.push_back(index);
            self.wake();
        }
    }

    fn send(&mut self, index: usize, bytes: &[u8]) -> io::Result<usize> {
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

    fn receive(&mut self, index: usize, buffer: &mut [u8]) -> io::Result<usize> {
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

    fn shutdown_write(&mut self, index: usize) {
        let endpoint = self.endpoint_mut(index);
        let first = !std::mem::replace(&mut endpoint.shut, true);
        if let (true, Some(other)) = (first, endpoint.other) {
            self.endpoint_mut(other).ended = true;
            self.report(other, true, false);
        }
    }

    /// As the kernel does: closing with bytes that were not received resets the connection.
    fn close(&mut self, index: usize, how: Close) {
        self.shutdown_write(index);
        let Some(endpoint) = self.endpoints[index].take() else { return };
        self.free.push(index);
        self.ready.retain(|ready| *ready != index);
        if let Some(other) = endpoint.other {
            let there = self.endpoint_mut(other);
            there.other = None;
            if how == Close::Reset || !endpoint.inbox.is_empty() {
                there.reset = true;
                self.report(other, true, true);
            }
        }
    }

    fn collect(&mut self, events: &mut Events) {
        for listener in &mut self.listeners {
            let (true, Some(token)) = (listener.announce, listener.token) else { continue };
            if events.len() < events.capacity() {
                listener.announce = false;
                events.list.push(Event { token, readable: true, writable: false, hangup: false, reset: false });
            }
        }
        while events.len() < events.capacity() {
            let Some(index) = self.ready.pop_front() else { return };
            let endpoint = self.endpoint_mut(index);
            let pending = std::mem::take(&mut endpoint.pending);
            let Some(token) = endpoint.token else { continue };
            let Pending { readable, writable, .. } = pending;
            let (hangup, reset) = (endpoint.ended || endpoint.reset, endpoint.reset);
            events.list.push(Event { token, readable, writable, hangup, reset });
        }
    }
}

impl Driver for SimDriver {
    type Socket = SimSocket;
    type Listener = SimListener;
    type Bound = SimBound;

    const RELEASES: bool = false;

    fn poll_wait(&mut self, cx: &mut Context<'_>, events: &mut Events) -> Poll<io::Result<()>> {
        events.clear();
        let mut net = self.0.0.borrow_mut();
        net.collect(events);
        if events.is_empty() {
            net.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn add_listener(&mut self, bound: SimBound, token: Token) -> io::Result<SimListener> {
        let mut net = self.0.0.borrow_mut();
        if net.listeners.iter().any(|listener| listener.address == bound.0) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        net.listeners.push(Listener {
            address: bound.0,
            backlog: VecDeque::new(),
            token: Some(token),
            announce: false,
        });
        Ok(SimListener(net.listeners.len() - 1))
    }

    fn set_listening(&mut self, listener: &SimListener, token: Token, on: bool) -> io::Result<()> {
        let mut net = self.0.0.borrow_mut();
        let listener = &mut net.listeners[listener.0];
        listener.token = on.then_some(token);
        listener.announce = on && !listener.backlog.is_empty();
        net.wake();
        Ok(())
    }

    fn accept(&mut self, listener: &SimListener, max: usize, accepted: &mut Vec<Accepted<SimSocket>>) -> AcceptEnd {
        let mut net = self.0.0.borrow_mut();
        let listener = &mut net.listeners[listener.0];
        let count = listener.backlog.len().min(max);
        accepted.extend(
            listener.backlog.drain(..count).map(|(i, name)| Accepted { socket: SimSocket(i), peer: Peer::Ip(name) }),
        );
        listener.announce = !listener.backlog.is_empty();
        match count < max {
            true => AcceptEnd::Drained,
            false => AcceptEnd::Max,
        }
    }

    fn watch(&mut self, socket: &SimSocket, token: Token) -> io::Result<()> {
        let mut net = self.0.0.borrow_mut();
        let endpoint = net.endpoint_mut(socket.0);
        endpoint.token = Some(token);
        if !endpoint.inbox.is_empty() || endpoint.ended || endpoint.reset {
            net.report(socket.0, true, false);
        }
        Ok(())
    }

    fn receive_into(&mut self, socket: &SimSocket, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.0.borrow_mut().receive(socket.0, buffer)
    }

    fn transmit<'a>(
        &mut self,
        entries: impl Iterator<Item = Transmit<'a, SimSocket>>,
        sent: &mut Vec<io::Result<usize>>,
    ) {
        let mut net = self.0.0.borrow_mut();
        for entry in entries {
            let chunks = std::iter::once(entry.front).chain(entry.queue.into_iter().flatten().map(|chunk| &chunk[..]));
            let mut outcome = Ok(0);
            for chunk in chunks.filter(|chunk| !chunk.is_empty()) {
                match (net.send(entry.socket.0, chunk), &mut outcome) {
                    (Ok(taken), Ok(sum)) => {
                        *sum += taken;
                        if taken < chunk.len() {
                            break;
                        }
                    }
                    (Err(error), Ok(0)) => {
                        outcome = Err(error);
                        break;
                    }
                    _ => break,
                }
            }
            sent.push(outcome);
        }
    }

    fn shutdown_write(&mut self, socket: &SimSocket) {
        self.0.0.borrow_mut().shutdown_write(socket.0);
    }

    fn close(&mut self, socket: SimSocket, how: Close) {
        self.0.0.borrow_mut().close(socket.0, how);
    }

    fn release(&mut self, _socket: SimSocket) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn connect(&mut self, address: &Address, token: Token) -> io::Result<SimSocket> {
        let Address::Tcp(address) = address else { return Err(io::ErrorKind::Unsupported.into()) };
        let mut net = self.0.0.borrow_mut();
        let endpoint = net.connect(*address)?;
        net.endpoint_mut(endpoint).token = Some(token);
        net.report(endpoint, false, true);
        Ok(SimSocket(endpoint))
    }
}
