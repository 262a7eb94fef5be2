//! Listening sockets for systems without the driver of Linux: made or handed over, for the portable event loop.
//!
//! As there, `[::]` serves both versions of IP unless it shall not, and a Unix socket is accessible as it shall be before it listens.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::net::{self, AddressFamily, sockopt};

use crate::kind::check_listening;
use crate::socket_file::{self, FileIdentity, stream_socket};
use crate::{Address, ListenOptions, SocketFile};

/// How many connections may wait to be accepted, where the system allows as many.
const BACKLOG_MAX: i32 = 4096;

/// A listening socket that nobody accepts from yet.
#[derive(Debug)]
pub struct BoundListener {
    fd: OwnedFd,
    address: Address,
    /// Of a Unix socket that was bound here.
    file: Option<FileIdentity>,
}

impl BoundListener {
    /// Binds and listens. Port 0 takes a free port: see [`address`](Self::address). A Unix socket's file that nobody
    /// listens on any more is replaced; nothing else that stands at a path is. Nobody can connect to a Unix socket before its file has
    /// the mode, owner and group of the options.
    ///
    /// # Errors
    /// What the system says; a sentence where something else than a dead server's socket stands at a path, or where it cannot be made
    /// accessible. `Unsupported` for an abstract socket.
    pub fn bind(address: &Address, options: ListenOptions) -> io::Result<Self> {
        let fd = open(address, options)?;
        let Address::Unix(path) = address else {
            net::listen(&fd, BACKLOG_MAX)?;
            return Self::from_fd(fd);
        };
        let file = socket_file::listen(&fd, path, options.file, BACKLOG_MAX)?;
        Ok(Self { fd, address: address.clone(), file: Some(file) })
    }

    /// Whether `address` could be bound now.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn probe(address: &Address, options: ListenOptions) -> io::Result<()> {
        match address {
            Address::Unix(path) => socket_file::probe(path, options.file),
            // Not all systems refuse it before somebody listens.
            _ => Self::bind(address, options).map(drop),
        }
    }

    /// Takes over a socket that already listens.
    ///
    /// # Errors
    /// `InvalidInput` and a sentence if it is none; otherwise what the system says.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        check_listening(&fd)?;
        let tcp = TcpListener::from(fd);
        if let Ok(address) = tcp.local_addr() {
            return Ok(Self { fd: tcp.into(), address: Address::Tcp(address), file: None });
        }
        let unix = UnixListener::from(OwnedFd::from(tcp));
        let path = unix.local_addr()?.as_pathname().unwrap_or(Path::new("")).to_owned();
        Ok(Self { fd: unix.into(), address: Address::Unix(path), file: None })
    }

    /// Where it listens, with the port that the system chose.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// A second handle on the same socket and backlog, for another core.
    ///
    /// # Errors
    /// When the process is out of files.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()?, address: self.address.clone(), file: None })
    }

    /// Does nothing: the portable event loop sets `TCP_NODELAY` on each connection.
    ///
    /// # Errors
    /// None.
    pub fn set_tcp_nodelay(&self, _on: bool) -> io::Result<()> {
        Ok(())
    }

    /// The file of a Unix socket that was [bound](Self::bind) at a path: whoever drops it removes the file.
    pub fn socket_file(&self) -> Option<SocketFile> {
        let (Address::Unix(path), Some(file)) = (&self.address, self.file) else { return None };
        Some(SocketFile::new(path, file))
    }

    /// The descriptor, for whoever serves it.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

impl AsFd for BoundListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A socket that is bound to the address, unless that is a path: see [`socket_file::listen`].
fn open(address: &Address, options: ListenOptions) -> io::Result<OwnedFd> {
    match address {
        Address::Tcp(address) => {
            let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let fd = stream_socket(family)?;
            sockopt::set_socket_reuseaddr(&fd, true)?;
            if address.is_ipv6() {
                sockopt::set_ipv6_v6only(&fd, options.ipv6_only)?;
            }
            net::bind(&fd, address)?;
            Ok(fd)
        }
        Address::Unix(_) => stream_socket(AddressFamily::UNIX),
        Address::Abstract(_) => {
            let said = "abstract sockets are there on Linux alone: write unix:/PATH";
            Err(io::Error::new(io::ErrorKind::Unsupported, said))
        }
    }
}
