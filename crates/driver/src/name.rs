//! The names of a socket that is only lent, as `getsockname` and `getpeername` say them: on every Unix system.
//!
//! The standard library asks on types that own their descriptor, so it gets a duplicate, which is closed before the call is over.
//! rustix would need none, but takes an unnamed address for an abstract one.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::BorrowedFd;
use std::os::unix::net::{self, UnixStream};

/// The address of this end of a socket over IP.
///
/// # Errors
/// What the system says; `InvalidInput` for another kind of socket. When the process is out of files.
///
/// # Example
/// ```
/// use std::os::fd::AsFd;
///
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// assert_eq!(baiwan_driver::local_address(listener.as_fd())?, listener.local_addr()?);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn local_address(socket: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    TcpStream::from(socket.try_clone_to_owned()?).local_addr()
}

/// The address of this end of a Unix socket; unnamed if it has none.
///
/// # Errors
/// As [`local_address`].
///
/// # Example
/// ```
/// use std::os::fd::AsFd;
///
/// let (socket, _peer) = std::os::unix::net::UnixStream::pair()?;
/// assert!(baiwan_driver::local_unix_address(socket.as_fd())?.is_unnamed());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn local_unix_address(socket: BorrowedFd<'_>) -> io::Result<net::SocketAddr> {
    unix(socket)?.local_addr()
}

/// The address of the other end of a connected Unix socket; unnamed if it has none.
///
/// # Errors
/// As [`local_address`]; `NotConnected` where there is no other end.
///
/// # Example
/// ```
/// use std::os::fd::AsFd;
///
/// let (socket, _peer) = std::os::unix::net::UnixStream::pair()?;
/// assert!(baiwan_driver::peer_unix_address(socket.as_fd())?.is_unnamed());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn peer_unix_address(socket: BorrowedFd<'_>) -> io::Result<net::SocketAddr> {
    unix(socket)?.peer_addr()
}

fn unix(socket: BorrowedFd<'_>) -> io::Result<UnixStream> {
    Ok(socket.try_clone_to_owned()?.into())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_unix_socket_has_the_names_that_the_standard_library_says() {
        let path = std::env::temp_dir().join(format!("baiwan-names-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert_eq!(local_unix_address(listener.as_fd()).unwrap().as_pathname(), Some(&*path));
        assert_eq!(local_unix_address(server.as_fd()).unwrap().as_pathname(), Some(&*path));
        assert_eq!(peer_unix_address(client.as_fd()).unwrap().as_pathname(), Some(&*path));
        assert!(peer_unix_address(server.as_fd()).unwrap().is_unnamed());
        assert!(local_address(server.as_fd()).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_abstract_name_is_told_with_every_byte() {
        use std::os::linux::net::SocketAddrExt;

        let name = format!("baiwan\0names-{}", std::process::id());
        let address = net::SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let client = UnixStream::connect_addr(&address).unwrap();
        for told in [local_unix_address(listener.as_fd()), peer_unix_address(client.as_fd())] {
            assert_eq!(told.unwrap().as_abstract_name(), Some(name.as_bytes()));
        }
    }
}
