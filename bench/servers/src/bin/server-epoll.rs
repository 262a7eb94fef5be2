//! A limit line: the least that a loop over epoll can do. Every head gets the same answer, and is not read; see
//! `bench_servers::fixed`. One `epoll_wait`, and for each connection that is ready one `recv` and one `send`.

use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use bench_servers::fixed::Exchange;
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};

const EVENTS_MAX: usize = 1024;
/// All connections share the one buffer.
const BUFFER_BYTES: usize = 64 * 1024;

struct Connection {
    socket: OwnedFd,
    exchange: Exchange,
    /// It waits until it can send on, and is not read meanwhile.
    blocked: bool,
}

struct Server {
    epoll: OwnedFd,
    listener: TcpListener,
    /// By descriptor.
    connections: Vec<Option<Connection>>,
    buffer: Vec<u8>,
}

fn main() -> Result<()> {
    if bench_servers::version_asked("rustix")? {
        return Ok(());
    }
    let listener = bench_servers::listener()?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let token = epoll::EventData::new_u64(listener.as_raw_fd() as u64);
    epoll::add(&epoll, &listener, token, epoll::EventFlags::IN)?;
    bench_servers::announce(listener.local_addr()?)?;
    Server { epoll, listener, connections: Vec::new(), buffer: vec![0; BUFFER_BYTES] }.run()
}

impl Server {
    fn run(&mut self) -> Result<()> {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("cannot wait"),
            }
            for event in &events {
                let place = event.data.u64() as usize;
                if place == self.listener.as_raw_fd() as usize {
                    self.accept()?;
                } else if !self.serve(place)? {
                    self.connections[place] = None;
                }
            }
        }
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let socket = match accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::CONNABORTED | Errno::INTR) => continue,
                Err(error) => return Err(error).context("cannot accept"),
            };
            let place = socket.as_raw_fd() as usize;
            epoll::add(&self.epoll, &socket, epoll::EventData::new_u64(place as u64), epoll::EventFlags::IN)?;
            if self.connections.len() <= place {
                self.connections.resize_with(place + 1, || None);
            }
            self.connections[place] = Some(Connection { socket, exchange: Exchange::default(), blocked: false });
        }
    }

    /// Does what a connection is ready for; says whether it goes on.
    fn serve(&mut self, place: usize) -> Result<bool> {
        let connection = self.connections[place].as_mut().context("an event of no connection")?;
        if !connection.blocked {
            match recv(&connection.socket, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((0, _)) => return Ok(false),
                Ok((count, _)) => connection.exchange.handle_received(&self.buffer[..count]),
                Err(Errno::AGAIN | Errno::INTR) => return Ok(true),
                Err(_) => return Ok(false),
            }
        }
        let was_blocked = connection.blocked;
        connection.blocked = false;
        while !connection.exchange.unsent().is_empty() && !connection.blocked {
            match send(&connection.socket, connection.exchange.unsent(), SendFlags::NOSIGNAL) {
                Ok(count) => connection.exchange.handle_sent(count),
                Err(Errno::AGAIN) => connection.blocked = true,
                Err(Errno::INTR) => {}
                Err(_) => return Ok(false),
            }
        }
        if connection.blocked != was_blocked {
            let interest = if connection.blocked { epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
            epoll::modify(&self.epoll, &connection.socket, epoll::EventData::new_u64(place as u64), interest)?;
        }
        Ok(true)
    }
}
