//! One connection of the client: a raw socket and the part of an answer that has come.
//!
//! Opening is blocking, one after the other, and never timed. Under load every call is non-blocking.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_linger, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, bind, connect, recv, send, shutdown,
    socket_with,
};

use crate::exchange::{Exchange, Progress};

/// A server that is silent for longer has failed.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer is far smaller, so one read takes all that is there.
const RECEIVE_BYTES: usize = 64 << 10;
/// How many connections share a source address: addresses never run out of ports, however many are open or closing.
const CONNECTIONS_PER_ADDRESS: usize = 2_000;

/// Where bytes are received: one for all connections of the client.
pub(crate) struct Receiver(Box<[u8]>);

impl Receiver {
    pub(crate) fn new() -> Self {
        Self(vec![0; RECEIVE_BYTES].into_boxed_slice())
    }
}

/// What came on a connection that its server may end.
pub(crate) enum Arrival<'a> {
    Nothing,
    Bytes(&'a [u8]),
    /// In order or not.
    End,
}

/// A socket that is bound, and after [`connect`](Self::connect) connected.
pub(crate) struct Connection {
    socket: OwnedFd,
}

impl Connection {
    /// A socket with a port of its own in 127.0.0.0/8. Closing it resets the connection, so that none lingers.
    pub(crate) fn bound(index: usize) -> Result<Self> {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .context("cannot open a socket")?;
        set_socket_linger(&socket, Some(Duration::ZERO))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_TIMEOUT))?;
        set_socket_timeout(&socket, Timeout::Send, Some(ANSWER_TIMEOUT))?;
        let host = 1 + (index / CONNECTIONS_PER_ADDRESS) as u32;
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 0).to_bits() + host);
        bind(&socket, &SocketAddrV4::new(address, 0)).with_context(|| format!("cannot bind to {address}"))?;
        Ok(Self { socket })
    }

    pub(crate) fn connect(&self, server: SocketAddrV4) -> Result<()> {
        connect(&self.socket, &server).with_context(|| format!("cannot connect to {server}"))
    }

    /// Sends the request. It always fits into the socket's buffer, because one request is outstanding at most.
    pub(crate) fn send(&self, exchange: &Exchange) -> Result<()> {
        let request = exchange.request();
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let sent = send(&self.socket, request, flags).context("cannot send a request")?;
        ensure!(sent == request.len(), "only {sent} of a request's {} bytes were taken", request.len());
        Ok(())
    }

    /// Sends any number of bytes, and waits until the kernel has taken all of them.
    pub(crate) fn send_all(&self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => bail!("nothing was read for {} s", ANSWER_TIMEOUT.as_secs()),
                Err(error) => return Err(error).context("cannot send"),
            }
        }
        Ok(())
    }

    /// Sends bytes that fit into the socket's buffer. False when the connection has ended, and nothing was sent.
    pub(crate) fn send_or_end(&self, bytes: &[u8]) -> Result<bool> {
        match send(&self.socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => {
                ensure!(sent == bytes.len(), "only {sent} of {} bytes were taken", bytes.len());
                Ok(true)
            }
            Err(Errno::PIPE | Errno::CONNRESET) => Ok(false),
            Err(error) => Err(error).context("cannot send"),
        }
    }

    /// Takes what has come, without waiting, and judges nothing.
    pub(crate) fn arrival_nowait<'a>(&self, receiver: &'a mut Receiver) -> Result<Arrival<'a>> {
        match recv(&self.socket, &mut receiver.0[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) | Err(Errno::CONNRESET | Errno::PIPE) => Ok(Arrival::End),
            Ok((count, _)) => Ok(Arrival::Bytes(&receiver.0[..count])),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Arrival::Nothing),
            Err(error) => Err(error).context("cannot receive"),
        }
    }

    /// Ends both directions; the socket stays.
    pub(crate) fn end(&self) {
        // One that the server has reset has ended already.
        let _ = shutdown(&self.socket, Shutdown::Both);
    }

    /// Closes the connection in order instead of resetting it.
    pub(crate) fn close(self) -> Result<()> {
        set_socket_linger(&self.socket, None).context("cannot close in order")
    }

    /// Sends a request, waits for its answer and returns it.
    pub(crate) fn ask(&self, exchange: &Exchange, receiver: &mut Receiver) -> Result<Vec<u8>> {
        self.send(exchange)?;
        self.wait_answer(exchange, receiver)
    }

    /// Waits for the answer to what was sent and returns it.
    pub(crate) fn wait_answer(&self, exchange: &Exchange, receiver: &mut Receiver) -> Result<Vec<u8>> {
        let mut answer = Vec::new();
        loop {
            answer.extend_from_slice(self.receive(receiver, RecvFlags::empty())?);
            match exchange.progress(&answer) {
                Progress::Whole => return Ok(answer),
                Progress::Partial => {}
                Progress::Wrong(what) => bail!("{what}"),
            }
        }
    }

    /// Fails unless the connection is open and silent, but for bytes that may come, which are at most two.
    pub(crate) fn check_silent(&self, allowed: &[u8]) -> Result<()> {
        let mut bytes = [0; 3];
        match recv(&self.socket, &mut bytes, RecvFlags::DONTWAIT | RecvFlags::PEEK) {
            Err(Errno::AGAIN) => Ok(()),
            Ok((0, _)) => bail!("closed by the server"),
            Ok((count, _)) if allowed.starts_with(&bytes[..count.min(bytes.len())]) => Ok(()),
            Ok(_) => bail!("bytes that nobody asked for"),
            Err(error) => Err(error).context("broken"),
        }
    }

    /// The bytes that came; none when there is nothing yet, or a signal came first.
    fn receive<'a>(&self, receiver: &'a mut Receiver, flags: RecvFlags) -> Result<&'a [u8]> {
        match recv(&self.socket, &mut receiver.0[..], flags) {
            Ok((0, _)) => bail!("closed by the server"),
            Ok((count, _)) => Ok(&receiver.0[..count]),
            Err(Errno::INTR) => Ok(&[]),
            Err(Errno::AGAIN) if flags.contains(RecvFlags::DONTWAIT) => Ok(&[]),
            Err(Errno::AGAIN) => bail!("no answer within {} s", ANSWER_TIMEOUT.as_secs()),
            Err(error) => Err(error).context("cannot receive"),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
