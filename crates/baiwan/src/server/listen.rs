//! From addresses to one set of listening sockets for each core.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use baiwan_driver::{Address, AddressError};

use crate::Error;

#[cfg(target_os = "linux")]
pub(crate) use baiwan_driver::BoundListener;
#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::BoundListener;

/// Something to listen on, as the user gave it.
#[derive(Debug)]
pub(crate) enum Source {
    Address(String),
    Socket(OwnedFd),
}

/// Listening sockets, one list for each core, and where they listen.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) cores: Vec<Vec<BoundListener>>,
    pub(crate) addresses: Vec<Address>,
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
        }
    }
    Ok(bound)
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

fn is_same(one: &Address, other: &Address) -> bool {
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

#[cfg(target_os = "linux")]
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

#[cfg(not(target_os = "linux"))]
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
#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use std::io;
    use std::net::TcpListener;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixListener;

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
                    Ok(Self { fd: UnixListener::bind(path)?.into(), address: Address::Unix(path.clone()) })
                }
                Address::Abstract(_) => {
                    let said = "abstract sockets are there on Linux alone: write unix:/PATH";
                    Err(io::Error::new(io::ErrorKind::Unsupported, said))
                }
            }
        }

        pub(crate) fn from_fd(fd: OwnedFd) -> io::Result<Self> {
            let listener = TcpListener::from(fd);
            let address = Address::Tcp(listener.local_addr()?);
            Ok(Self { fd: listener.into(), address })
        }

        pub(crate) fn address(&self) -> &Address {
            &self.address
        }

        pub(crate) fn try_clone(&self) -> io::Result<Self> {
            Ok(Self { fd: self.fd.try_clone()?, address: self.address.clone() })
        }

        pub(crate) fn into_fd(self) -> OwnedFd {
            self.fd
        }
    }
}
