//! From addresses to one set of listening sockets for each core.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use baiwan_driver::{Address, AddressError};

use crate::Error;

#[cfg(all(target_os = "linux", not(baiwan_portable)))]
pub(crate) use baiwan_driver::BoundListener;
#[cfg(not(all(target_os = "linux", not(baiwan_portable))))]
pub(crate) use elsewhere::BoundListener;

/// Something to listen on, as the user gave it.
#[derive(Debug)]
pub(crate) enum Source {
    Address(String),
    Socket(OwnedFd),
    /// Bound before, for as many cores as there will be.
    #[cfg_attr(
        not(any(feature = "axum", target_os = "linux")),
        allow(dead_code, reason = "only `serve` binds before the start, and on Linux a process that hands over")
    )]
    Bound(Bound),
}

impl Source {
    /// The TCP address that it names, if it can be read.
    #[cfg(all(target_os = "linux", not(baiwan_portable)))]
    pub(crate) fn tcp_address(&self) -> Option<std::net::SocketAddr> {
        let Self::Address(text) = self else { return None };
        match text.parse() {
            Ok(Address::Tcp(address)) => Some(address),
            _ => None,
        }
    }

    /// Whether starting to listen on it opens no file: its sockets are counted among the open files already.
    pub(crate) fn is_bound(&self) -> bool {
        matches!(self, Self::Bound(_))
    }
}

/// Listening sockets, one list for each core, and where they listen.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) cores: Vec<Vec<BoundListener>>,
    pub(crate) addresses: Vec<Address>,
}

impl Bound {
    /// Sets whether connections that are accepted from here on send small answers at once (`TCP_NODELAY`).
    pub(crate) fn set_tcp_nodelay(&self, on: bool) -> io::Result<()> {
        self.cores.iter().flatten().try_for_each(|listener| listener.set_tcp_nodelay(on))
    }
}

/// Binds everything, with listening sockets for `cores` cores, or nothing.
///
/// TCP addresses get a socket for each core, over which the kernel spreads connections. Sockets that were handed in, and Unix
/// sockets, are shared by the cores.
pub(crate) fn bind(sources: Vec<Source>, cores: usize, reuse_port: bool) -> Result<Bound, Error> {
    if sources.is_empty() {
        return Err(Error::NoListener);
    }
    let mut bound = Bound { cores: (0..cores).map(|_| Vec::new()).collect(), addresses: Vec::new() };
    let mut given = Vec::new();
    for source in sources {
        match source {
            Source::Address(text) => {
                let address = parse(&text)?;
                match bind_address(&address, reuse_port, &mut bound) {
                    Ok(()) => given.extend(bound.addresses.last().map(|address| (text, address.clone()))),
                    Err(error) => return Err(refusal(text, &address, error, &given)),
                }
            }
            Source::Socket(fd) => share(BoundListener::from_fd(fd), &mut bound)
                .map_err(|source| Error::Listen { address: "the given socket".to_owned(), source })?,
            Source::Bound(before) => {
                assert_eq!(before.cores.len(), cores, "each core has its listeners");
                bound.cores.iter_mut().zip(before.cores).for_each(|(core, before)| core.extend(before));
                bound.addresses.extend(before.addresses);
            }
        }
    }
    Ok(bound)
}

/// Whether all could be bound now, without listening: who connects meanwhile is refused as before. Paths of Unix sockets are not tried.
pub(crate) fn rehearse(sources: &[Source], reuse_port: bool) -> Result<(), Error> {
    for source in sources {
        let Source::Address(text) = source else { continue };
        let address = parse(text)?;
        let is_free = match &address {
            Address::Tcp(_) if !reuse_port => probe(&address),
            _ => Ok(()),
        };
        is_free.map_err(|error| refusal(text.clone(), &address, error, &[]))?;
    }
    Ok(())
}

/// The TCP addresses among those that are not bound yet. What cannot be parsed is refused elsewhere.
#[cfg(feature = "admin")]
pub(crate) fn unbound(sources: &[Source]) -> Vec<Address> {
    let address = |source: &Source| match source {
        Source::Address(text) => text.parse().ok().filter(|address| matches!(address, Address::Tcp(_))),
        Source::Socket(_) | Source::Bound(_) => None,
    };
    sources.iter().filter_map(address).collect()
}

/// Which of the addresses `given` takes `address` from whoever else would listen there. Port 0 is a free port for each.
#[cfg(feature = "admin")]
pub(crate) fn taken_by(address: &Address, given: &[Address]) -> Option<Address> {
    let is_any_port = matches!(address, Address::Tcp(address) if address.port() == 0);
    let takes = |taken: &&Address| {
        is_same(address, taken) || covers(address, taken).is_some() || covers(taken, address).is_some()
    };
    given.iter().filter(|_| !is_any_port).find(takes).cloned()
}

fn parse(text: &str) -> Result<Address, Error> {
    text.parse().map_err(|error: AddressError| match error.host_unknown() {
        Some(why) => Error::Host { address: text.to_owned(), why: why.to_owned() },
        None => Error::Address { address: text.to_owned() },
    })
}

/// Why an address cannot be listened on. What the system calls in use may be in use by an address that was given before.
fn refusal(text: String, address: &Address, source: io::Error, given: &[(String, Address)]) -> Error {
    if source.kind() == io::ErrorKind::AddrInUse {
        for (other, taken) in given {
            if is_same(address, taken) {
                return Error::Twice { address: text, other: other.clone() };
            }
            for (all, one, by, covered) in [(taken, address, other, &text), (address, taken, &text, other)] {
                if let Some(what) = covers(all, one) {
                    let what = what.map_or_else(|| covered.clone(), ToOwned::to_owned);
                    return Error::Covered { address: covered.clone(), by: by.clone(), what };
                }
            }
        }
    }
    Error::Listen { address: text, source }
}

/// Whether both stand for the same place to listen, however they are written.
pub(crate) fn is_same(one: &Address, other: &Address) -> bool {
    match (one, other) {
        (Address::Tcp(one), Address::Tcp(other)) => {
            one.port() == other.port() && one.ip().to_canonical() == other.ip().to_canonical()
        }
        (Address::Unix(one), Address::Unix(other)) => {
            let file = |path| std::fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()));
            file(one).is_some_and(|one| Some(one) == file(other))
        }
        _ => one == other,
    }
}

/// Whether an address that stands for all covers `one`: as a kind (`Some(Some("IPv4"))`), or just as that one.
fn covers(all: &Address, one: &Address) -> Option<Option<&'static str>> {
    let (Address::Tcp(all), Address::Tcp(one)) = (all, one) else { return None };
    match all.ip().is_unspecified() && all.port() == one.port() {
        true if all.is_ipv6() && one.ip().to_canonical().is_ipv4() => Some(Some("IPv4")),
        true if all.is_ipv6() == one.is_ipv6() => Some(None),
        _ => None,
    }
}

#[cfg(all(target_os = "linux", not(baiwan_portable)))]
fn probe(address: &Address) -> io::Result<()> {
    BoundListener::probe(address)
}

#[cfg(not(all(target_os = "linux", not(baiwan_portable))))]
fn probe(address: &Address) -> io::Result<()> {
    BoundListener::bind(address).map(drop)
}

#[cfg(all(target_os = "linux", not(baiwan_portable)))]
fn bind_address(address: &Address, reuse_port: bool, bound: &mut Bound) -> io::Result<()> {
    use baiwan_driver::ListenOptions;

    if let Address::Unix(_) | Address::Abstract(_) = address {
        return share(BoundListener::bind(address, ListenOptions::default()), bound);
    }
    if !reuse_port {
        BoundListener::probe(address)?;
    }
    // The first socket decides the port, should it be 0.
    let mut address = address.clone();
    for core in &mut bound.cores {
        let listener = BoundListener::bind(&address, ListenOptions { reuse_port: true })?;
        address = listener.address().clone();
        core.push(listener);
    }
    bound.addresses.push(address);
    Ok(())
}

#[cfg(not(all(target_os = "linux", not(baiwan_portable))))]
fn bind_address(address: &Address, _reuse_port: bool, bound: &mut Bound) -> io::Result<()> {
    share(BoundListener::bind(address), bound)
}

fn share(listener: io::Result<BoundListener>, bound: &mut Bound) -> io::Result<()> {
    let listener = listener?;
    for core in &mut bound.cores {
        core.push(listener.try_clone()?);
    }
    bound.addresses.push(listener.address().clone());
    Ok(())
}

/// What the portable event loop needs on systems without the driver's listeners.
#[cfg(not(all(target_os = "linux", not(baiwan_portable))))]
mod elsewhere {
    use std::io;
    use std::net::TcpListener;
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::os::unix::fs::FileTypeExt;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::Path;

    use baiwan_driver::Address;

    #[derive(Debug)]
    pub(crate) struct BoundListener {
        fd: OwnedFd,
        address: Address,
    }

    impl BoundListener {
        pub(crate) fn bind(address: &Address) -> io::Result<Self> {
            match address {
                Address::Tcp(address) => Self::from_fd(TcpListener::bind(address)?.into()),
                Address::Unix(path) => {
                    let listener = UnixListener::bind(path).or_else(|error| match error.kind() {
                        io::ErrorKind::AddrInUse if is_dead(path) => {
                            std::fs::remove_file(path)?;
                            UnixListener::bind(path)
                        }
                        _ => Err(error),
                    });
                    Ok(Self { fd: listener?.into(), address: Address::Unix(path.clone()) })
                }
                Address::Abstract(_) => {
                    let said = "abstract sockets are there on Linux alone: write unix:/PATH";
                    Err(io::Error::new(io::ErrorKind::Unsupported, said))
                }
            }
        }

        pub(crate) fn from_fd(fd: OwnedFd) -> io::Result<Self> {
            let tcp = TcpListener::from(fd);
            if let Ok(address) = tcp.local_addr() {
                return Ok(Self { fd: tcp.into(), address: Address::Tcp(address) });
            }
            let unix = UnixListener::from(OwnedFd::from(tcp));
            let path = unix.local_addr()?.as_pathname().unwrap_or(Path::new("")).to_owned();
            Ok(Self { fd: unix.into(), address: Address::Unix(path) })
        }

        pub(crate) fn address(&self) -> &Address {
            &self.address
        }

        pub(crate) fn try_clone(&self) -> io::Result<Self> {
            Ok(Self { fd: self.fd.try_clone()?, address: self.address.clone() })
        }

        /// The portable event loop sets it on each connection.
        pub(crate) fn set_tcp_nodelay(&self, _on: bool) -> io::Result<()> {
            Ok(())
        }

        pub(crate) fn into_fd(self) -> OwnedFd {
            self.fd
        }
    }

    impl AsFd for BoundListener {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.fd.as_fd()
        }
    }

    /// Whether a socket stands at a path that nobody listens on any more.
    fn is_dead(path: &Path) -> bool {
        let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
        is_socket && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    }
}
