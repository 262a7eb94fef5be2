//! Where to listen or to connect, and who is at the other end.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

/// An address to listen on or to connect to: `127.0.0.1:8080`, `[::]:8080`, `localhost:8080`, `unix:/path` or `unix:@name`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Address {
    /// TCP over IPv4 or IPv6.
    Tcp(SocketAddr),
    /// A Unix socket in the file system.
    Unix(PathBuf),
    /// A Unix socket with a name that is in no file system, and is gone with the socket (Linux; unix(7), "abstract"). Any process
    /// of the same network namespace may connect to it.
    Abstract(String),
}

/// The text is not an address, or its host has none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddressError {
    text: String,
    host_unknown: Option<String>,
}

impl AddressError {
    fn malformed(text: &str) -> Self {
        Self { text: text.to_owned(), host_unknown: None }
    }

    /// What the system said when it looked the host up; `None` if the text itself is wrong.
    pub fn host_unknown(&self) -> Option<&str> {
        self.host_unknown.as_deref()
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.text;
        match &self.host_unknown {
            Some(why) => write!(f, "the host of {text:?} is not known: {why}"),
            None => write!(f, "{text:?} is not an address: write HOST:PORT, [IPV6]:PORT, unix:/PATH or unix:@NAME"),
        }
    }
}

impl std::error::Error for AddressError {}

impl FromStr for Address {
    type Err = AddressError;

    /// Parses an address. A host name is looked up (this can block) and its first address is taken. A file whose name begins with
    /// `@` is `unix:./@name`.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(place) = text.strip_prefix("unix:") {
            return match place.strip_prefix('@') {
                Some("") => Err(AddressError::malformed(text)),
                Some(name) => Ok(Self::Abstract(name.to_owned())),
                None if place.is_empty() => Err(AddressError::malformed(text)),
                None => Ok(Self::Unix(PathBuf::from(place))),
            };
        }
        let failed = |error: io::Error| match error.kind() {
            // What the standard library says of a text without a host and a port.
            io::ErrorKind::InvalidInput => AddressError::malformed(text),
            _ if text.starts_with(':') => AddressError::malformed(text),
            _ => AddressError { text: text.to_owned(), host_unknown: Some(error.to_string()) },
        };
        let mut found = text.to_socket_addrs().map_err(failed)?;
        found.next().map(Self::Tcp).ok_or_else(|| AddressError::malformed(text))
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Abstract(name) => write!(f, "unix:@{name}"),
        }
    }
}

/// Who is at the other end of an accepted connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// An IP address and port.
    Ip(SocketAddr),
    /// A process on this machine, through a Unix socket.
    Unix,
}

impl Peer {
    /// The peer as a socket address; `0.0.0.0:0` for a Unix socket, which has none.
    pub fn socket_address(self) -> SocketAddr {
        match self {
            Self::Ip(address) => address,
            Self::Unix => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_as_they_are_written() {
        for text in ["127.0.0.1:8080", "[::]:8080", "unix:/run/app.sock", "unix:app", "unix:@app", "unix:./@app"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("unix:@app".parse(), Ok(Address::Abstract("app".to_owned())));
        assert_eq!("unix:./@app".parse(), Ok(Address::Unix("./@app".into())));
    }

    #[test]
    fn a_text_that_is_no_address_is_told_from_a_host_that_is_not_known() {
        for text in ["", "8080", ":8080", "localhost", "localhost:http", "localhost:99999", "unix:", "unix:@"] {
            let refused = text.parse::<Address>().unwrap_err();
            assert_eq!(refused.host_unknown(), None, "{text}");
            assert!(refused.to_string().contains("write HOST:PORT"), "{refused}");
        }
        // A label has at most 63 bytes (RFC 1035, section 2.3.4), so nobody is asked.
        let refused = format!("{}:80", "x".repeat(64)).parse::<Address>().unwrap_err();
        assert!(refused.host_unknown().is_some() && !refused.to_string().contains("write"), "{refused}");
    }
}
