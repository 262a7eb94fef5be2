//! Whether a descriptor that was handed over is a socket that HTTP can be served on, and what it is if not.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketType, sockopt};

/// Fails with a sentence that says what it is, unless it is a stream socket over IP or a Unix socket, and listens.
pub(crate) fn check_listening(fd: impl AsFd) -> io::Result<()> {
    let refused = |what: &str| Err(io::Error::new(ErrorKind::InvalidInput, what));
    match sockopt::socket_type(&fd) {
        Ok(SocketType::STREAM) => {}
        Ok(SocketType::DGRAM) => return refused("it is a datagram socket, and HTTP needs a stream (ListenStream=)"),
        Ok(_) => return refused("it is a socket of another kind than a stream (ListenStream=)"),
        Err(Errno::NOTSOCK) => return refused("it is no socket"),
        Err(error) => return Err(error.into()),
    }
    let family = net::getsockname(&fd)?.address_family();
    if ![AddressFamily::INET, AddressFamily::INET6, AddressFamily::UNIX].contains(&family) {
        return refused("it is a socket of another family than IP and Unix");
    }
    match listens(&fd)? {
        true => Ok(()),
        false if net::getpeername(&fd).is_ok() => refused("it is a connection, and no socket that listens (Accept=no)"),
        false => refused("the socket does not listen"),
    }
}

#[cfg(not(target_vendor = "apple"))]
fn listens(fd: impl AsFd) -> rustix::io::Result<bool> {
    sockopt::socket_acceptconn(fd)
}

/// Apple's systems do not say: what does not listen shows itself when it is accepted from.
#[cfg(target_vendor = "apple")]
fn listens(fd: impl AsFd) -> rustix::io::Result<bool> {
    Ok(net::getpeername(fd).is_err())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    fn said(fd: impl AsFd) -> String {
        check_listening(fd).unwrap_err().to_string()
    }

    #[test]
    fn what_no_server_can_listen_on_is_named() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let path = std::env::temp_dir().join(format!("baiwan-kind-{}", std::process::id()));
        let unix = UnixListener::bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        check_listening(&tcp).unwrap();
        check_listening(&unix).unwrap();
        let client = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        assert!(said(&client).contains("is a connection"), "{}", said(&client));
        assert!(said(UnixStream::pair().unwrap().0).contains("is a connection"));
        assert!(said(UdpSocket::bind("127.0.0.1:0").unwrap()).contains("datagram"));
        assert!(said(std::fs::File::open("/dev/null").unwrap()).contains("no socket"));
        let bound = net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        assert_eq!(said(&bound), "the socket does not listen");
    }
}
