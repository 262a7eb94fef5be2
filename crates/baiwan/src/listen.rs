//! From addresses to one set of listening sockets for each core.

use std::os::fd::OwnedFd;
use std::time::Duration;

use baiwan_driver::Address;

use crate::Error;

#[cfg(target_os = "linux")]
pub(crate) use baiwan_driver::BoundListener;
#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::BoundListener;

/// How long a listener rests when the system has no more files or memory.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// It is said at most once in so long.
pub(crate) const COMPLAINT_PAUSE: Duration = Duration::from_secs(1);

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

/// Binds everything, for so many cores, or nothing.
///
/// TCP addresses get a socket for each core, over which the kernel spreads connections. Sockets that were handed in, and Unix
/// sockets, are shared by the cores.
pub(crate) fn bind(sources: Vec<Source>, cores: usize, reuse_port: bool) -> Result<Bound, Error> {
    if sources.is_empty() {
        return Err(Error::NoListener);
    }
    let mut bound = Bound { cores: (0..cores).map(|_| Vec::new()).collect(), addresses: Vec::new() };
    for source in sources {
        match source {
            Source::Address(text) => {
                let address = text.parse().map_err(|_| Error::Address { address: text.clone() })?;
                bind_address(&address, reuse_port, &mut bound)
                    .map_err(|source| Error::Listen { address: text, source })?;
            }
            Source::Socket(fd) => share(BoundListener::from_fd(fd), &mut bound)
                .map_err(|source| Error::Listen { address: "the given socket".to_owned(), source })?,
        }
    }
    Ok(bound)
}

#[cfg(target_os = "linux")]
fn bind_address(address: &Address, reuse_port: bool, bound: &mut Bound) -> std::io::Result<()> {
    use baiwan_driver::ListenOptions;

    if let Address::Unix(_) = address {
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
fn bind_address(address: &Address, _reuse_port: bool, bound: &mut Bound) -> std::io::Result<()> {
    share(BoundListener::bind(address), bound)
}

fn share(listener: std::io::Result<BoundListener>, bound: &mut Bound) -> std::io::Result<()> {
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
