//! A socket that can do what no decent client does; and what the kernel says about the server's ends.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, bind, connect, ipproto, socket, sockopt};

/// Nothing that works takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Peer(TcpStream);

/// How the server's side of a connection ended, as its peer sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Orderly,
    Reset,
}

impl Peer {
    pub(crate) fn connect(address: &str) -> Self {
        Self::try_connect(address).unwrap()
    }

    /// To a server that may reset the connection at once.
    pub(crate) fn try_connect(address: &str) -> std::io::Result<Self> {
        TcpStream::connect(address).map(Self::patient)
    }

    /// One that has room for a few kilobytes only.
    pub(crate) fn connect_narrow(address: &str) -> Self {
        let address: SocketAddr = address.parse().unwrap();
        let fd = socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::TCP)).unwrap();
        // Before the connection is there, because the handshake announces it.
        sockopt::set_socket_recv_buffer_size(&fd, 4096).unwrap();
        connect(&fd, &address).unwrap();
        Self::patient(fd.into())
    }

    /// One from an address of this host.
    pub(crate) fn connect_from(source: Ipv4Addr, address: &str) -> Self {
        let address: SocketAddr = address.parse().unwrap();
        let fd = socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::TCP)).unwrap();
        bind(&fd, &SocketAddr::from((source, 0))).unwrap();
        connect(&fd, &address).unwrap();
        Self::patient(fd.into())
    }

    fn patient(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends to a server that may be done with us.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Sends what is taken at once; returns how much that was.
    pub(crate) fn send_nowait(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.set_nonblocking(true)?;
        let mut sent = 0;
        let outcome = loop {
            match self.0.write(&bytes[sent..]) {
                Ok(0) => break Ok(sent),
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(sent),
                Err(error) => break Err(error),
            }
        };
        self.0.set_nonblocking(false)?;
        outcome
    }

    /// Takes one piece of what has come; `None` at the end.
    pub(crate) fn receive_some(&mut self) -> Option<usize> {
        self.0.read(&mut [0; 4096]).ok().filter(|count| *count > 0)
    }

    /// Waits a moment for a byte; says whether there is one, or the end.
    pub(crate) fn is_readable_within(&mut self, moment: Duration) -> bool {
        self.0.set_read_timeout(Some(moment)).unwrap();
        let outcome = self.0.peek(&mut [0]);
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
        !outcome.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Everything that comes until the end.
    pub(crate) fn receive_all(&mut self) -> (String, End) {
        let mut all = Vec::new();
        let end = match self.0.read_to_end(&mut all) {
            Ok(_) => End::Orderly,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => End::Reset,
            Err(error) => panic!("{error}, after {} bytes", all.len()),
        };
        (String::from_utf8_lossy(&all).into_owned(), end)
    }

    pub(crate) fn end_direction(&self) {
        self.0.shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// Goes with a RST and no word.
    pub(crate) fn reset(self) {
        sockopt::set_socket_linger(&self.0, Some(Duration::ZERO)).unwrap();
    }
}

/// Connections on `address` whose server end is still in somebody's hands, as the kernel counts them.
pub(crate) fn sockets_held(address: &str) -> usize {
    bytes_held(address).len()
}

/// Bytes that the kernel holds for the peer of each of those connections: not sent yet, or not acknowledged.
pub(crate) fn bytes_held(address: &str) -> Vec<u64> {
    let port = address.parse::<SocketAddr>().unwrap().port();
    let local = format!("0100007F:{port:04X}");
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let held = |row: &str| {
        let columns: Vec<&str> = row.split_whitespace().collect();
        // Listeners apart; a socket that no file refers to has no inode.
        let is_it = columns[1] == local && columns[3] != "0A" && columns[9] != "0";
        is_it.then(|| u64::from_str_radix(columns[4].split(':').next().unwrap(), 16).unwrap())
    };
    table.lines().skip(1).filter_map(held).collect()
}
