//! Listening sockets: made, inherited or shared, before a driver takes them in.
//!
//! The options that every connection needs are set on the listener, because Linux hands them down to what it accepts: that
//! saves a system call for each connection.

use std::fs::FileType;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, ipproto, sockopt};

use crate::Address;
use crate::option::{UNSENT_BYTES_MAX, set_unsent_max};

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

/// How to open a listening socket.
#[derive(Clone, Copy, Default, Debug)]
pub struct ListenOptions {
    /// Several sockets may listen on the same port; the kernel spreads connections over them by hash. Ignored for Unix
    /// sockets.
    pub reuse_port: bool,
}

/// A listening socket that no driver has taken in yet.
#[derive(Debug)]
pub struct BoundListener {
    fd: OwnedFd,
    address: Address,
}

impl BoundListener {
    /// Binds and listens. Port 0 takes a free port: see [`address`](Self::address). A Unix socket's file that nobody
    /// listens on any more is replaced; nothing else that stands at a path is.
    ///
    /// # Errors
    /// What the system says: `AddrInUse`, `PermissionDenied`, `AddrNotAvailable`, … Where something else than a server's socket
    /// stands at a path, or a socket that cannot be asked, the error is a sentence that says so.
    pub fn bind(address: &Address, options: ListenOptions) -> io::Result<Self> {
        let fd = open(address, options)?;
        net::listen(&fd, BACKLOG_MAX as i32)?;
        Self::from_fd(fd)
    }

    /// Whether `address` could be bound by a socket that does not share its port. Sockets with `reuse_port` would join a
    /// stranger's silently; asking first turns that into the error that an operator expects.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn probe(address: &Address) -> io::Result<()> {
        match address {
            Address::Tcp(_) => open(address, ListenOptions::default()).map(drop),
            Address::Unix(_) | Address::Abstract(_) => Ok(()),
        }
    }

    /// Takes over a socket that already listens, such as one inherited from systemd or opened by the standard library.
    ///
    /// # Errors
    /// `InvalidInput` if it does not listen; otherwise what the system says.
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
        if !sockopt::socket_acceptconn(&fd)? {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket does not listen"));
        }
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
        Ok(Self { fd, address })
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
        Ok(Self { fd: self.fd.try_clone()?, address: self.address.clone() })
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

    /// Listens at a path of the file system to which no other user may connect: the file has mode 0600 from its first moment on. What stands
    /// there is replaced as by [`bind`](Self::bind).
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn bind_privately(path: &Path) -> io::Result<Self> {
        let fd = unix_socket()?;
        // The file gets the mode that its socket has (unix(7) is silent; `unix_bind` of Linux).
        rustix::fs::fchmod(&fd, Mode::RUSR | Mode::WUSR)?;
        bind_path(&fd, path)?;
        net::listen(&fd, BACKLOG_MAX as i32)?;
        Self::moved(fd)
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
                // `[::]` serves both versions whatever the system's default is.
                sockopt::set_ipv6_v6only(&fd, false)?;
            }
            net::bind(&fd, address)?;
            Ok(fd)
        }
        Address::Unix(path) => {
            let fd = unix_socket()?;
            bind_path(&fd, path)?;
            Ok(fd)
        }
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

/// Binds a Unix socket at a path, in the place of one that nobody listens on any more.
fn bind_path(fd: &OwnedFd, path: &Path) -> io::Result<()> {
    let name = SocketAddrUnix::new(path)?;
    match net::bind(fd, &name) {
        Err(Errno::ADDRINUSE) => {
            make_room(path, &name)?;
            Ok(net::bind(fd, &name)?)
        }
        outcome => Ok(outcome?),
    }
}

/// Removes the file of a socket that nobody listens on any more. Whatever else stands at the path stays: it is somebody's data,
/// or somebody's server.
fn make_room(path: &Path, name: &SocketAddrUnix) -> io::Result<()> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !kind.is_socket() {
        let (path, what) = (path.display(), name_of(kind));
        let said = format!("{path} is {what}, and no socket: choose another path, or move it away");
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, said));
    }
    match net::connect(&unix_socket()?, name) {
        Err(Errno::CONNREFUSED) => std::fs::remove_file(path),
        Err(Errno::ACCESS) => {
            let said = format!(
                "{} is a socket that this user may not connect to, so nobody can say whether a server listens there: choose \
                 another path, or remove it if none does",
                path.display()
            );
            Err(io::Error::new(io::ErrorKind::PermissionDenied, said))
        }
        _ => Err(Errno::ADDRINUSE.into()),
    }
}

fn name_of(kind: FileType) -> &'static str {
    match kind {
        _ if kind.is_file() => "a file",
        _ if kind.is_dir() => "a directory",
        _ if kind.is_symlink() => "a symbolic link",
        _ if kind.is_fifo() => "a named pipe",
        _ => "a device",
    }
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
