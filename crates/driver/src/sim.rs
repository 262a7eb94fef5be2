//! A network in memory: the same interface, no kernel, no thread, no chance.
//!
//! Every connection is a pair of endpoints, each with a bounded inbox. An endpoint belongs to a [`SimDriver`], whose engine is
//! under test, or to a [`SimPeer`], through which a test plays the other side. Everything happens in the order in which it was
//! asked for, so a test with a held clock runs the same way each time.
//!
//! | file | part |
//! |---|---|
//! | `net` | endpoints, backlogs, events on their way |
//! | `calls` | what the driver asks of them |
//! | `peer` | the other side |
//! | `faults` | what may go wrong, at which call |
//! | `decisions` | where chance comes from |
//!
//! Without [`Faults`] nothing goes wrong. The invariant then: an event is reported exactly when the kernel would report it with
//! edge-triggered readiness: on new bytes, on the end of the stream, on a reset, and on new room after a refusal. With faults
//! there are more events than that and they come later, but none is lost.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

mod calls;
mod decisions;
mod faults;
mod net;
mod peer;

use self::net::{Listener, Net};
use crate::{AcceptEnd, Accepted, Address, Close, Driver, Events, Token, Transmit};

pub use self::decisions::Decisions;
pub use self::faults::{Call, Fault, Faults, Rates};
pub use self::peer::SimPeer;

/// Bytes that an endpoint holds until they are received, when nothing else is asked for.
const INBOX_BYTES_MAX: usize = 64 * 1024;

/// The network: clones are handles on the same one.
#[derive(Clone, Debug)]
pub struct SimNet(Rc<RefCell<Net>>);

/// The driver of one engine on the network.
#[derive(Debug)]
pub struct SimDriver(SimNet);

/// An endpoint that belongs to a driver.
#[derive(Debug)]
pub struct SimSocket(usize);

/// A listener that belongs to a driver. Dropping it resets the connections in its backlog.
#[derive(Debug)]
pub struct SimListener {
    net: SimNet,
    number: usize,
}

/// A listener that no driver has taken in yet.
#[derive(Debug)]
pub struct SimBound(SocketAddr);

/// What has happened to a socket and is neither reported nor about to be: an engine that sleeps must have seen it otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Unseen {
    /// There is something to receive: bytes, the end of the stream, or a reset.
    pub input: bool,
    /// There is nothing to receive any more but the end of the stream, or a reset.
    pub end: bool,
    /// There is room to send, and nobody waits to be told of it.
    pub room: bool,
}

impl Default for SimNet {
    fn default() -> Self {
        Self::new(INBOX_BYTES_MAX)
    }
}

impl SimNet {
    /// An empty network in which every endpoint holds at most `inbox_bytes_max` bytes that were not received yet.
    pub fn new(inbox_bytes_max: usize) -> Self {
        Self(Rc::new(RefCell::new(Net::new(inbox_bytes_max))))
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
        Ok(SimPeer { net: self.clone(), endpoint, close: Close::Orderly })
    }

    /// How many endpoints exist: two for each connection that neither side has closed, one where only one side has.
    pub fn endpoints(&self) -> usize {
        self.0.borrow().endpoints()
    }

    /// From now on the driver can wait directly. Nothing happens while it does, so a wait that finds nothing ends the time of such waits.
    pub fn let_wait_directly(&self) {
        self.0.borrow_mut().waits_directly = true;
    }

    /// From now on the driver meets these faults.
    pub fn set_faults(&self, faults: Faults) {
        self.0.borrow_mut().faults = Some(faults);
    }

    /// No more faults; what they held back comes now.
    pub fn calm(&self) {
        self.0.borrow_mut().calm();
    }

    /// One step of a simulation: delays are counted in steps.
    pub fn step(&self) {
        self.0.borrow_mut().step();
    }

    /// How many calls of a kind the driver has had.
    pub fn calls(&self, call: Call) -> u64 {
        self.0.borrow().calls[call as usize]
    }

    /// How much has been done for the driver's engine: events, accepted connections, transfers that did not block,
    /// closed connections.
    pub fn work(&self) -> u64 {
        self.0.borrow().work
    }

    /// A number that stands for everything that has happened, in order.
    pub fn digest(&self) -> u64 {
        self.0.borrow().digest
    }

    /// Begins to write down what happens.
    pub fn start_trace(&self) {
        self.0.borrow_mut().trace = Some(Vec::new());
    }

    /// Takes what was written down.
    pub fn take_trace(&self) -> Vec<String> {
        self.0.borrow_mut().trace.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// What has happened to a socket of the driver that no event says or will say.
    pub fn unseen(&self, socket: &SimSocket) -> Unseen {
        self.0.borrow().unseen(socket.0)
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.net.0.borrow_mut().close_listener(self.number);
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

    fn begin_direct(&mut self, _duration: Duration) -> bool {
        let mut net = self.0.0.borrow_mut();
        net.is_direct = net.waits_directly;
        net.is_direct
    }

    fn wait_directly(&mut self, events: &mut Events) -> io::Result<bool> {
        events.clear();
        let mut net = self.0.0.borrow_mut();
        if net.is_direct {
            net.collect(events);
            net.is_direct = !events.is_empty();
        }
        Ok(net.is_direct)
    }

    fn add_listener(&mut self, bound: SimBound, token: Token) -> io::Result<SimListener> {
        let mut net = self.0.0.borrow_mut();
        if net.listeners.iter().any(|listener| listener.address == bound.0 && !listener.closed) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        net.listeners.push(Listener {
            address: bound.0,
            backlog: std::collections::VecDeque::new(),
            token: Some(token),
            announce: false,
            closed: false,
        });
        Ok(SimListener { net: self.0.clone(), number: net.listeners.len() - 1 })
    }

    fn set_listening(&mut self, listener: &SimListener, token: Token, on: bool) -> io::Result<()> {
        self.0.0.borrow_mut().set_listening(listener.number, token, on)
    }

    fn accept(&mut self, listener: &SimListener, max: usize, accepted: &mut Vec<Accepted<SimSocket>>) -> AcceptEnd {
        self.0.0.borrow_mut().accept(listener.number, max, accepted)
    }

    fn watch(&mut self, socket: &SimSocket, token: Token) -> io::Result<()> {
        self.0.0.borrow_mut().watch(socket.0, token)
    }

    fn receive_into(&mut self, socket: &SimSocket, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.0.borrow_mut().receive_faulty(socket.0, buffer)
    }

    fn transmit<'a>(
        &mut self,
        entries: impl Iterator<Item = Transmit<'a, SimSocket>>,
        sent: &mut Vec<io::Result<usize>>,
    ) {
        let mut net = self.0.0.borrow_mut();
        for entry in entries {
            let chunks = std::iter::once(entry.front).chain(entry.queue.into_iter().flatten().map(|chunk| &chunk[..]));
            sent.push(net.transmit(entry.socket.0, entry.token, chunks));
        }
    }

    fn shutdown_write(&mut self, socket: &SimSocket) {
        self.0.0.borrow_mut().shutdown_write(socket.0);
    }

    fn close(&mut self, socket: SimSocket, how: Close) {
        self.0.0.borrow_mut().close(socket.0, how);
    }

    fn excess_bytes(_socket: &SimSocket) -> i64 {
        // What was sent is the peer's.
        0
    }

    fn hold_more(_socket: &SimSocket) {}

    fn descriptor(_socket: &SimSocket) -> Option<BorrowedFd<'_>> {
        None
    }

    fn release(&mut self, _socket: SimSocket) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn connect(&mut self, address: &Address, _source: Option<IpAddr>, token: Token) -> io::Result<SimSocket> {
        let Address::Tcp(address) = address else { return Err(io::ErrorKind::Unsupported.into()) };
        let mut net = self.0.0.borrow_mut();
        let endpoint = net.connect(*address)?;
        net.endpoint_mut(endpoint).token = Some(token);
        net.report(endpoint, false, true);
        Ok(SimSocket(endpoint))
    }
}
