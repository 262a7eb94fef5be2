//! The other side of a connection, played by a test.

use std::io;

use super::SimNet;
use crate::Close;

/// The other side of a connection, played by a test. Dropping it closes it in order.
#[derive(Debug)]
pub struct SimPeer {
    pub(super) net: SimNet,
    pub(super) endpoint: usize,
    /// How it closes when it is dropped.
    pub(super) close: Close,
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
        self.receive_up_to(usize::MAX)
    }

    /// Takes at most `bytes_max` of what has arrived.
    pub fn receive_up_to(&mut self, bytes_max: usize) -> Vec<u8> {
        let mut net = self.net.0.borrow_mut();
        let mut bytes = vec![0; net.endpoint(self.endpoint).inbox.len().min(bytes_max)];
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

    /// Whether the other side will send no more, whatever there still is to receive.
    pub fn is_ended(&self) -> bool {
        let net = self.net.0.borrow();
        let endpoint = net.endpoint(self.endpoint);
        endpoint.reset || endpoint.ended
    }

    /// Whether the other side has reset the connection.
    pub fn is_reset(&self) -> bool {
        self.net.0.borrow().endpoint(self.endpoint).reset
    }

    /// Whether an injected fault has killed the connection.
    pub fn is_faulted(&self) -> bool {
        self.net.0.borrow().endpoint(self.endpoint).faulted
    }

    /// Whether an event about the connection came later than it should have.
    pub fn is_late(&self) -> bool {
        self.net.0.borrow().endpoint(self.endpoint).late
    }

    /// The place of this side in the network, as traces name it.
    pub fn place(&self) -> usize {
        self.endpoint
    }

    /// Ends this direction; the other goes on.
    pub fn shutdown_write(&mut self) {
        self.net.0.borrow_mut().shutdown_write(self.endpoint);
    }

    /// Resets the connection.
    pub fn reset(mut self) {
        self.close = Close::Reset;
    }
}

impl Drop for SimPeer {
    fn drop(&mut self) {
        self.net.0.borrow_mut().close(self.endpoint, self.close);
    }
}
