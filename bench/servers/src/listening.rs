//! Where a server listens, and how it says so.

use std::fmt::Display;
use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};

use rustix::net::{getsockname, listen, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, Signal, getpid, pidfd_getfd, pidfd_open};

/// More connections than this may not wait to be accepted; the kernel takes `somaxconn` if that is less.
pub const BACKLOG: u16 = u16::MAX;

/// A listener on `ADDRESS`, or on a port of loopback that the system chooses. Its connections do not wait to fill a segment
/// (`TCP_NODELAY`), which they have from it.
///
/// # Errors
/// When the system refuses.
pub fn listener() -> io::Result<TcpListener> {
    let address = std::env::var("ADDRESS").unwrap_or_else(|_| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address)?;
    sockopt::set_tcp_nodelay(&listener, true)?;
    listen(&listener, BACKLOG.into())?;
    Ok(listener)
}

/// Finds the listener that a framework opened and keeps to itself, and makes it like those of [`listener`]; returns its
/// address, or `None` if the process listens nowhere yet.
///
/// # Errors
/// When the system refuses.
pub fn widen() -> io::Result<Option<SocketAddr>> {
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    for entry in fs::read_dir("/proc/self/fd")? {
        let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // The folder itself was open a moment ago.
        let Ok(file) = pidfd_getfd(&own, number, PidfdGetfdFlags::empty()) else { continue };
        if sockopt::socket_acceptconn(&file).unwrap_or(false) {
            sockopt::set_tcp_nodelay(&file, true)?;
            listen(&file, BACKLOG.into())?;
            return Ok(Some(SocketAddr::try_from(getsockname(&file)?)?));
        }
    }
    Ok(None)
}

/// Writes the address as the first line of standard output, and ties the process to its parent: a server that outlives the
/// bench would disturb whatever is measured next.
///
/// # Errors
/// When the bench is not there to read.
pub fn announce(address: impl Display) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    say(address)
}

/// Writes a line to standard output, where the bench reads it.
///
/// # Errors
/// When the bench is not there to read.
pub fn say(line: impl Display) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

    use super::*;

    #[test]
    fn a_listener_that_somebody_else_keeps_is_found_and_its_connections_do_not_delay() {
        assert_eq!(widen().unwrap(), None);
        let hidden = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(widen().unwrap(), Some(hidden.local_addr().unwrap()));
        let _client = std::net::TcpStream::connect(hidden.local_addr().unwrap()).unwrap();
        let (connection, _) = hidden.accept().unwrap();
        assert!(connection.nodelay().unwrap());
    }
}
