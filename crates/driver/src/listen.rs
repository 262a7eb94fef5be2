//! Listening sockets: made, inherited or shared, before a driver takes them in.
//!
//! The options that every connection needs are set on the listener, because Linux hands them down to what it accepts: that
//! saves a system call for each connection.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, ipproto, sockopt};

use crate::kind::check_listening;
use crate::option::{UNSENT_BYTES_MAX, set_unsent_max};
use crate::socket_file::{self, FileIdentity};
use crate::{Address, ListenOptions, SocketFile};

/// How many connections may wait to be accepted. The kernel lowers it to `net.core.somaxconn`.
pub const BACKLOG_MAX: u32 = 65_535;
/// When to ask a silent peer whether it still lives. Mobile networks forget a connection after 5 minutes or more.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(120);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Linux fires the timers of two minutes in steps of two seconds, and the queue of loopback and of virtual Ethernet holds 1,000
/// packets (`net.core.netdev_max_backlog`) and drops what is too much without a word. Of very many connections that were opened
/// together most probes are lost at first; each round lets some through. With 4 of them 85,329 of 1,000,000 healthy connections
/// were given up.
const KEEPALIVE_PROBES_MAX: u32 = 40;
/// A peer that has acknowledged nothing for this time is gone, be it that it owes an answer to a probe or that it left bytes lying;
/// one that has no room for this time, too. With such a timeout Linux does not count probes (tcp(7), `TCP_USER_TIMEOUT`), so it is
/// the time that they take.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(720);

const _: () = assert!(
    UNACKNOWLEDGED_MAX.as_secs()
        == KEEPALIVE_IDLE.as_secs() + KEEPALIVE_INTERVAL.as_secs() * KEEPALIVE_PROBES_MAX as u64
);

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

/// A listening socket that no driver has taken in yet.
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
    /// What the system says: `AddrInUse`, `PermissionDenied`, `AddrNotAvailable`, … Where something else than a server's socket
    /// stands at a path, a socket that cannot be asked, or one that cannot be made accessible, the error is a sentence that says so.
    pub fn bind(address: &Address, options: ListenOptions) -> io::Result<Self> {
        let fd = open(address, options)?;
        let Address::Unix(path) = address else {
            net::listen(&fd, BACKLOG_MAX as i32)?;
            return Self::from_fd(fd);
        };
        let file = socket_file::listen(&fd, path, options.file, BACKLOG_MAX as i32)?;
        Ok(Self { file: Some(file), ..Self::from_fd(fd)? })
    }

    /// Whether `address` could be bound now by a socket that does not share its port.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn probe(address: &Address, options: ListenOptions) -> io::Result<()> {
        match address {
            Address::Unix(path) => socket_file::probe(path, options.file),
            _ => open(address, ListenOptions { reuse_port: false, ..options }).map(drop),
        }
    }

    /// Takes over a socket that already listens, such as one inherited from systemd or opened by the standard library.
    ///
    /// # Errors
    /// `InvalidInput` and a sentence if it is none, or one that cannot be accepted from; otherwise what the system says.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let listener = Self::moved(fd)?;
        if let Address::Tcp(_) = listener.address {
            hand_down(&listener.fd)?;
        }
        Ok(listener)
    }

    /// As [`from_fd`](Self::from_fd), for a socket that has its options already: one that comes from another fd table, or from a process
    /// that still listens on it.
    ///
    /// # Errors
    /// As [`from_fd`](Self::from_fd).
    pub fn moved(fd: OwnedFd) -> io::Result<Self> {
        check_listening(&fd)?;
        rustix::io::ioctl_fionbio(&fd, true)?;
        let name = net::getsockname(&fd)?;
        let address = match SocketAddr::try_from(name.clone()) {
            Ok(address) => Address::Tcp(address),
            Err(_) => {
                let name = SocketAddrUnix::try_from(name)?;
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                match name.abstract_name() {
                    Some(name) => Address::Abstract(text(name)),
                    None => Address::Unix(name.path_bytes().map(text).unwrap_or_default().into()),
                }
            }
        };
        Ok(Self { fd, address, file: None })
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

    /// Lets other sockets of this user listen on the same port from here on, with [`ListenOptions::reuse_port`]. Linux spreads connections over
    /// all of them, as if each had had the option when it was bound.
    ///
    /// # Errors
    /// What the system says.
    pub fn share_port(&self) -> io::Result<()> {
        Ok(sockopt::set_socket_reuseport(&self.fd, true)?)
    }

    /// Sets whether connections that come in from here on send small amounts at once (`TCP_NODELAY`). They do unless this is
    /// called. A Unix socket always does.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_tcp_nodelay(&self, on: bool) -> io::Result<()> {
        match self.address {
            Address::Tcp(_) => Ok(sockopt::set_tcp_nodelay(&self.fd, on)?),
            Address::Unix(_) | Address::Abstract(_) => Ok(()),
        }
    }

    /// Which socket it is: the same for every handle on it, in all processes (its inode; proc(5), `/proc/PID/fd`).
    ///
    /// # Errors
    /// What the system says.
    pub fn identity(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstat(&self.fd)?.st_ino)
    }

    /// Whether it serves IPv6 alone, as [`ListenOptions::ipv6_only`] asks for.
    ///
    /// # Errors
    /// What the system says.
    pub fn is_ipv6_only(&self) -> io::Result<bool> {
        match self.address {
            Address::Tcp(SocketAddr::V6(_)) => Ok(sockopt::ipv6_v6only(&self.fd)?),
            _ => Ok(false),
        }
    }

    /// The file of a Unix socket that was [bound](Self::bind) at a path: whoever drops it removes the file.
    pub fn socket_file(&self) -> Option<SocketFile> {
        let (Address::Unix(path), Some(file)) = (&self.address, self.file) else { return None };
        Some(SocketFile::new(path, file))
    }

    /// Which file that is.
    pub fn file_identity(&self) -> Option<FileIdentity> {
        self.file
    }

    /// The descriptor, for whoever serves it by other means.
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
            let fd = net::socket_with(family, SocketType::STREAM, FLAGS, Some(ipproto::TCP))?;
            sockopt::set_socket_reuseaddr(&fd, true)?;
            if options.reuse_port {
                sockopt::set_socket_reuseport(&fd, true)?;
            }
            if address.is_ipv6() {
                // Else it depends on the system which versions `[::]` serves.
                sockopt::set_ipv6_v6only(&fd, options.ipv6_only)?;
            }
            net::bind(&fd, address)?;
            Ok(fd)
        }
        Address::Unix(_) => unix_socket(),
        Address::Abstract(name) => {
            let fd = unix_socket()?;
            net::bind(&fd, &SocketAddrUnix::new_abstract_name(name.as_bytes())?)?;
            Ok(fd)
        }
    }
}

fn unix_socket() -> io::Result<OwnedFd> {
    Ok(net::socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?)
}

/// Sets what accepted connections inherit.
fn hand_down(fd: &OwnedFd) -> io::Result<()> {
    sockopt::set_tcp_nodelay(fd, true)?;
    sockopt::set_socket_keepalive(fd, true)?;
    sockopt::set_tcp_keepidle(fd, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(fd, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(fd, KEEPALIVE_PROBES_MAX)?;
    sockopt::set_tcp_user_timeout(fd, UNACKNOWLEDGED_MAX.as_millis() as u32)?;
    set_unsent_max(fd, UNSENT_BYTES_MAX)
}
