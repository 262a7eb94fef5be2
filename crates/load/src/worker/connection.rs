//! What a worker knows of one connection.

use std::collections::VecDeque;

use baiwan_driver::Token;
use baiwan_driver::epoll::Socket;

use super::reader::Reader;

/// A place for a connection. It keeps its place when the connection ends, and the generation tells one from the next.
#[derive(Debug, Default)]
pub(super) struct Connection {
    pub(super) socket: Option<Socket>,
    pub(super) generation: u32,
    /// It was started and is not yet there.
    pub(super) connecting: bool,
    /// It is one of those that are being opened, of which there is a maximum.
    pub(super) opening: bool,
    /// There is none, and the next request on this place opens one.
    pub(super) dormant: bool,
    /// This place has had one that was open.
    pub(super) was_open: bool,
    /// It stands in the list of those to receive from.
    pub(super) queued_to_receive: bool,
    /// It stands in the list of those to send on: twice would be to send twice.
    pub(super) queued_to_send: bool,
    /// The peer has ended its direction; what it sent before may still be there.
    pub(super) hangup: bool,
    /// Its answer is a stream that does not end.
    pub(super) streaming: bool,
    /// When connecting began.
    pub(super) began: u64,
    /// When each outstanding request was due, the oldest first.
    pub(super) due: VecDeque<u64>,
    /// From when the time of the oldest outstanding request counts.
    pub(super) since: u64,
    /// Bytes of requests that the kernel has not taken yet.
    pub(super) unsent: usize,
    /// Requests started in this phase.
    pub(super) asked: u32,
    /// When the last event of a stream came.
    pub(super) last_event: Option<u64>,
    pub(super) reader: Reader,
}

impl Connection {
    /// What its socket is called at the driver.
    pub(super) fn token(&self, index: u32) -> Token {
        Token(u64::from(self.generation) << 32 | u64::from(index))
    }

    /// Whether it is there and may be used.
    pub(super) fn is_open(&self) -> bool {
        self.socket.is_some() && !self.connecting
    }

    /// Takes the socket out and makes the place ready for another. What was outstanding comes out too.
    pub(super) fn vacate(&mut self) -> (Option<Socket>, VecDeque<u64>) {
        let socket = self.socket.take();
        let due = std::mem::take(&mut self.due);
        self.reader.restart();
        *self = Self {
            generation: self.generation.wrapping_add(1),
            was_open: self.was_open,
            // It may still stand in the lists.
            queued_to_receive: self.queued_to_receive,
            queued_to_send: self.queued_to_send,
            asked: self.asked,
            reader: std::mem::take(&mut self.reader),
            ..Self::default()
        };
        (socket, due)
    }
}
