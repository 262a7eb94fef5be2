//! Many connections of the client and the epoll instance that watches them.

use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

use crate::connection::{Arrival, Connection, Receiver};
use crate::exchange::Exchange;

/// Events taken by one wait.
const EVENTS_MAX: usize = 512;
const SOON: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Connections that were all answered once, and are watched.
pub(crate) struct Fleet {
    connections: Vec<Connection>,
    epoll: OwnedFd,
    events: Vec<Event>,
    receiver: Receiver,
}

impl Fleet {
    /// Opens `count` connections, asks on each once, and watches them.
    pub(crate) fn open(server: SocketAddrV4, count: usize, exchange: &Exchange) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).context("cannot create an epoll instance")?;
        let mut receiver = Receiver::new();
        let mut connections = Vec::with_capacity(count);
        for index in 0..count {
            let connection = Connection::bound(index)?;
            connection.connect(server)?;
            connection.ask(exchange, &mut receiver).with_context(|| describe(index))?;
            // Edge-triggered: one read takes all there is, so the next bytes are a new edge.
            let interest = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(&epoll, &connection, EventData::new_u64(index as u64), interest)?;
            connections.push(connection);
        }
        Ok(Self { connections, epoll, events: Vec::with_capacity(EVENTS_MAX), receiver })
    }

    pub(crate) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Sends any bytes. False when the connection has ended.
    pub(crate) fn send_or_end(&self, index: usize, bytes: &[u8]) -> Result<bool> {
        self.connections[index].send_or_end(bytes).with_context(|| describe(index))
    }

    /// Waits for bytes for a while, and replaces `ready` with the connections that have some.
    pub(crate) fn wait(&mut self, ready: &mut Vec<usize>) -> Result<()> {
        ready.clear();
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(&SOON)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait"),
        }
        ready.extend(self.events.iter().map(|event| event.data.u64() as usize));
        Ok(())
    }

    /// Takes what came on a connection that its server may end. To be repeated until there is nothing, or the end.
    pub(crate) fn arrival(&mut self, index: usize) -> Result<Arrival<'_>> {
        self.connections[index].arrival_nowait(&mut self.receiver).with_context(|| describe(index))
    }

    /// Ends a connection from this side too.
    pub(crate) fn end(&self, index: usize) {
        self.connections[index].end();
    }
}

pub(crate) fn describe(index: usize) -> String {
    format!("connection {index}")
}
