//! A connection as an app sees it that makes something of each connection, once.
//!
//! It lends what the event loop owns, for the time of one call. What is asked of the socket here is asked through a duplicate of its
//! descriptor, which is closed before the call is over. An app may duplicate the descriptor too: what it must not do with that stands
//! at `as_fd`.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use baiwan_driver::{self as driver, Peer};
use tokio::net::unix;

const NO_SOCKET: &str = "this connection has no socket: it is in memory";

/// A connection over TCP or a Unix socket, as `Connected::connect_info` of axum gets it; the counterpart of
/// `axum::serve::IncomingStream`.
///
/// It is one type for all listeners. [`AsFd`] lends the socket itself, to read or set options that have no method here (`SO_MARK`,
/// `TCP_INFO`). The socket stays the server's: see there what an app must not do with it.
///
/// # Example
/// ```
/// # #[cfg(feature = "axum")] {
/// use axum::extract::connect_info::Connected;
///
/// /// Who asks over a Unix socket.
/// #[derive(Clone, Debug)]
/// struct Caller {
///     user: Option<u32>,
/// }
///
/// impl Connected<baiwan::IncomingStream<'_>> for Caller {
///     fn connect_info(stream: baiwan::IncomingStream<'_>) -> Self {
///         Self { user: stream.peer_cred().ok().map(|peer| peer.uid()) }
///     }
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct IncomingStream<'a> {
    /// None in memory, and where only the address is asked for.
    socket: Option<BorrowedFd<'a>>,
    remote: SocketAddr,
    is_unix: bool,
}

impl<'a> IncomingStream<'a> {
    pub(crate) fn new(socket: Option<BorrowedFd<'a>>, peer: Peer) -> Self {
        Self { socket, remote: peer.socket_address(), is_unix: peer == Peer::Unix }
    }

    /// The address of the client; `0.0.0.0:0` over a Unix socket.
    pub fn remote_addr(&self) -> &SocketAddr {
        &self.remote
    }

    /// Whether the connection came over a Unix socket.
    pub fn is_unix(&self) -> bool {
        self.is_unix
    }

    /// The address that the client has connected to.
    ///
    /// # Errors
    /// What the system says; over a Unix socket `Unsupported`: see [`unix_local_addr`](Self::unix_local_addr).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.check(false)?;
        driver::local_address(self.socket()?)
    }

    /// The address of the client over a Unix socket. Most clients have none: it is unnamed then.
    ///
    /// # Errors
    /// What the system says; over TCP `Unsupported`: see [`remote_addr`](Self::remote_addr).
    pub fn unix_peer_addr(&self) -> io::Result<unix::SocketAddr> {
        driver::peer_unix_address(self.unix()?).map(Into::into)
    }

    /// The address of the Unix socket that the client has connected to.
    ///
    /// # Errors
    /// What the system says; over TCP `Unsupported`: see [`local_addr`](Self::local_addr).
    pub fn unix_local_addr(&self) -> io::Result<unix::SocketAddr> {
        driver::local_unix_address(self.unix()?).map(Into::into)
    }

    /// The user, group and process at the other end of a Unix socket, as they were when it connected.
    ///
    /// # Errors
    /// What the system says; over TCP `Unsupported`.
    pub fn peer_cred(&self) -> io::Result<unix::UCred> {
        let stream = std::os::unix::net::UnixStream::from(self.unix()?.try_clone_to_owned()?);
        tokio::net::UnixStream::from_std(stream)?.peer_cred()
    }

    fn socket(&self) -> io::Result<BorrowedFd<'a>> {
        self.socket.ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, NO_SOCKET))
    }

    fn unix(&self) -> io::Result<BorrowedFd<'a>> {
        self.check(true)?;
        self.socket()
    }

    fn check(&self, needs_unix: bool) -> io::Result<()> {
        let what = match (needs_unix, self.is_unix) {
            (true, false) => "the connection came over TCP, not over a Unix socket",
            (false, true) => "the connection came over a Unix socket, not over TCP",
            _ => return Ok(()),
        };
        Err(io::Error::new(io::ErrorKind::Unsupported, what))
    }
}

/// The socket, for the time of the call. The server goes on with it, so an app must not
///
/// - keep a duplicate: the connection would stay open when the server closes it, until the duplicate is closed too;
/// - make the socket blocking, or read from it or write to it;
/// - hand the number or a duplicate to another thread where each core has an fd table ([`FdTables::PerCore`](crate::FdTables::PerCore)):
///   there the number means another file, or none.
///
/// # Panics
/// In a simulation, whose connections are in memory.
impl AsFd for IncomingStream<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.expect(NO_SOCKET)
    }
}
