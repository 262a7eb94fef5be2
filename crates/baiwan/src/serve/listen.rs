//! What `serve` listens on: sockets that listen already, and addresses that are bound at once.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use baiwan_driver as driver;
use tokio::net::unix;

use self::sealed::Given;
use crate::server::Source;

/// What [`serve`](crate::serve()) listens on: a `TcpListener` or a `UnixListener` of Tokio or of the standard library, or an address
/// as text or as a [`SocketAddr`].
///
/// You never implement this trait yourself, and `axum::serve::Listener` is another one: each core accepts connections from the
/// listening socket by itself, so a listener of your own, and `tap_io` around one, cannot be served. What they are used for:
///
/// - an option of the socket: [`Serve::tcp_nodelay`](crate::Serve::tcp_nodelay), and options that accepted connections inherit, on
///   the listener before it is handed over. Others who share the socket find it non-blocking then, and over TCP with keep-alive and
///   `TCP_NODELAY`;
/// - who connects: [`IncomingStream`](crate::IncomingStream) in an `impl Connected` of your own;
/// - a maximum of connections: [`Builder::max_connections`](crate::Builder::max_connections);
/// - several listeners: [`Builder::bind`](crate::Builder::bind) and [`Builder::listener`](crate::Builder::listener), called more than
///   once;
/// - TLS: a proxy in front.
///
/// # Example
/// ```no_run
/// # fn main() -> std::io::Result<()> {
/// let app = axum::Router::new();
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let server = baiwan::serve(listener, app.clone());
/// # drop(server);
/// let server = baiwan::serve("unix:/tmp/app.sock", app);
/// # drop(server);
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`baiwan::serve` cannot listen on `{Self}`",
    label = "not a listener that cores can share",
    note = "it takes a `TcpListener` or `UnixListener` of Tokio or of the standard library, or an address: `\"0.0.0.0:8080\"`, \
            `\"unix:/run/app.sock\"`, a `String` or a `std::net::SocketAddr`",
    note = "an `axum::serve::Listener` of your own, or `tap_io` around one, cannot be served; see the documentation of \
            `baiwan::Listen` for what to do instead"
)]
pub trait Listen: sealed::IntoGiven {
    /// What [`Serve::local_addr`](crate::Serve::local_addr) says: a [`SocketAddr`], and of a Unix listener Tokio's
    /// [`unix::SocketAddr`].
    type Address: sealed::FromListener;
}

pub(super) mod sealed {
    use super::{BorrowedFd, Source, driver, io};

    /// What was given to listen on.
    #[derive(Debug)]
    pub struct Given(pub(crate) Source);

    pub trait IntoGiven {
        fn into_given(self) -> io::Result<Given>;
    }

    pub trait FromListener: Sized {
        /// Where a listener listens, whose address is known as `address`.
        fn from_listener(address: &driver::Address, listener: BorrowedFd<'_>) -> io::Result<Self>;
    }
}

impl Listen for tokio::net::TcpListener {
    type Address = SocketAddr;
}

impl sealed::IntoGiven for tokio::net::TcpListener {
    fn into_given(self) -> io::Result<Given> {
        self.into_std()?.into_given()
    }
}

impl Listen for std::net::TcpListener {
    type Address = SocketAddr;
}

impl sealed::IntoGiven for std::net::TcpListener {
    fn into_given(self) -> io::Result<Given> {
        Ok(Given(Source::Socket(self.into())))
    }
}

impl Listen for tokio::net::UnixListener {
    type Address = unix::SocketAddr;
}

impl sealed::IntoGiven for tokio::net::UnixListener {
    fn into_given(self) -> io::Result<Given> {
        self.into_std()?.into_given()
    }
}

impl Listen for std::os::unix::net::UnixListener {
    type Address = unix::SocketAddr;
}

impl sealed::IntoGiven for std::os::unix::net::UnixListener {
    fn into_given(self) -> io::Result<Given> {
        Ok(Given(Source::Socket(self.into())))
    }
}

impl Listen for &str {
    type Address = SocketAddr;
}

impl sealed::IntoGiven for &str {
    fn into_given(self) -> io::Result<Given> {
        Ok(Given(Source::Address(self.to_owned())))
    }
}

impl Listen for String {
    type Address = SocketAddr;
}

impl sealed::IntoGiven for String {
    fn into_given(self) -> io::Result<Given> {
        Ok(Given(Source::Address(self)))
    }
}

impl Listen for SocketAddr {
    type Address = Self;
}

impl sealed::IntoGiven for SocketAddr {
    fn into_given(self) -> io::Result<Given> {
        Ok(Given(Source::Address(self.to_string())))
    }
}

impl sealed::FromListener for SocketAddr {
    fn from_listener(address: &driver::Address, _listener: BorrowedFd<'_>) -> io::Result<Self> {
        match address {
            driver::Address::Tcp(address) => Ok(*address),
            unix => {
                let said = format!("{unix} is a Unix socket, which has no IP address");
                Err(io::Error::new(io::ErrorKind::Unsupported, said))
            }
        }
    }
}

impl sealed::FromListener for unix::SocketAddr {
    fn from_listener(_address: &driver::Address, listener: BorrowedFd<'_>) -> io::Result<Self> {
        driver::local_unix_address(listener).map(Into::into)
    }
}
