//! From addresses to one set of listening sockets for each core.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::OwnedFd;

use baiwan_driver::{Address, AddressError, FileIdentity, ListenOptions, SocketFile};

use crate::Error;

pub(crate) use baiwan_driver::BoundListener;

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
    /// Of the Unix sockets that were bound at a path; removed with this, unless they are taken out.
    pub(crate) files: Vec<SocketFile>,
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
/// sockets, are shared by the cores. With `options.reuse_port`, others may listen on the same ports.
pub(crate) fn bind(sources: Vec<Source>, cores: usize, options: ListenOptions) -> Result<Bound, Error> {
    let shared = shared_ports(&sources);
    bind_sharing(sources, &shared, cores, options)
}

/// As [`bind`], where the addresses that were asked for have these [shared ports](shared_ports), and some are bound already.
pub(crate) fn bind_sharing(
    sources: Vec<Source>,
    shared: &[u16],
    cores: usize,
    options: ListenOptions,
) -> Result<Bound, Error> {
    if sources.is_empty() {
        return Err(Error::NoListener);
    }
    let mut bound = Bound { cores: (0..cores).map(|_| Vec::new()).collect(), addresses: Vec::new(), files: Vec::new() };
    let mut given = Vec::new();
    for source in sources {
        match source {
            Source::Address(text) => {
                let address = parse(&text)?;
                let options = ListenOptions { ipv6_only: is_beside_ipv4(&address, shared), ..options };
                match bind_address(&address, options, &mut bound) {
                    Ok(()) => given.extend(bound.addresses.last().map(|address| (text, address.clone()))),
                    Err(error) => return Err(refusal(text, &address, error, &given, shared)),
                }
            }
            Source::Socket(fd) => share(BoundListener::from_fd(fd), &mut bound)
                .map_err(|source| Error::Listen { address: "the given socket".to_owned(), source })?,
            Source::Bound(before) => {
                assert_eq!(before.cores.len(), cores, "each core has its listeners");
                given.extend(before.addresses.iter().map(|address| (address.to_string(), address.clone())));
                bound.cores.iter_mut().zip(before.cores).for_each(|(core, before)| core.extend(before));
                bound.addresses.extend(before.addresses);
                bound.files.extend(before.files);
            }
        }
    }
    Ok(bound)
}

/// Whether all could be bound now, without listening: who connects meanwhile is refused as before.
pub(crate) fn rehearse(sources: &[Source], options: ListenOptions) -> Result<(), Error> {
    let shared = shared_ports(sources);
    let mut given: Vec<(String, Address)> = Vec::new();
    for source in sources {
        let Source::Address(text) = source else { continue };
        let address = parse(text)?;
        let options = ListenOptions { ipv6_only: is_beside_ipv4(&address, &shared), ..options };
        let is_taken = given.iter().any(|(_, taken)| clash(&address, taken, &shared));
        let is_free = match &address {
            _ if is_taken => Err(io::ErrorKind::AddrInUse.into()),
            Address::Tcp(_) if options.reuse_port => Ok(()),
            _ => BoundListener::probe(&address, options),
        };
        is_free.map_err(|error| refusal(text.clone(), &address, error, &given, &shared))?;
        given.push((text.clone(), address));
    }
    Ok(())
}

/// Whether one listener cannot be beside the other. Port 0 is a free port for each.
fn clash(one: &Address, other: &Address, shared: &[u16]) -> bool {
    let is_any_port = matches!(one, Address::Tcp(address) if address.port() == 0);
    !is_any_port && (is_same(one, other) || covers(one, other, shared).or(covers(other, one, shared)).is_some())
}

/// The ports, 0 apart, on which all IPv4 addresses are asked for: there `[::]` is IPv6 alone.
pub(crate) fn shared_ports(sources: &[Source]) -> Vec<u16> {
    let port = |source: &Source| {
        let Source::Address(text) = source else { return None };
        let address = text.parse::<SocketAddrV4>().ok()?;
        (address.ip().is_unspecified() && address.port() != 0).then(|| address.port())
    };
    sources.iter().filter_map(port).collect()
}

/// Whether it is `[::]` on one of the shared ports, and so serves IPv6 alone.
pub(crate) fn is_beside_ipv4(address: &Address, shared: &[u16]) -> bool {
    let Address::Tcp(SocketAddr::V6(address)) = address else { return false };
    address.ip().is_unspecified() && shared.contains(&address.port())
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
    given.iter().find(|taken| clash(address, taken, &[])).cloned()
}

fn parse(text: &str) -> Result<Address, Error> {
    text.parse().map_err(|error: AddressError| match error.host_unknown() {
        Some(why) => Error::Host { address: text.to_owned(), why: why.to_owned() },
        None => Error::Address { address: text.to_owned() },
    })
}

/// Why an address cannot be listened on. What the system calls in use may be in use by an address that was given before.
fn refusal(text: String, address: &Address, source: io::Error, given: &[(String, Address)], shared: &[u16]) -> Error {
    if source.kind() == io::ErrorKind::AddrInUse {
        for (other, taken) in given {
            if is_same(address, taken) {
                return Error::Twice { address: text, other: other.clone() };
            }
            for (all, one, by, covered) in [(taken, address, other, &text), (address, taken, &text, other)] {
                if let Some(what) = covers(all, one, shared) {
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
        (Address::Unix(one), Address::Unix(other)) => FileIdentity::at(one).is_ok_and(|file| file.is_at(other)),
        _ => one == other,
    }
}

/// Whether an address that stands for all covers `one`: as a kind (`Some(Some("IPv4"))`), or just as that one.
/// On the ports that are `shared`, `[::]` leaves IPv4 to others.
pub(crate) fn covers(all: &Address, one: &Address, shared: &[u16]) -> Option<Option<&'static str>> {
    let (Address::Tcp(all), Address::Tcp(one)) = (all, one) else { return None };
    match all.ip().is_unspecified() && all.port() == one.port() {
        true if all.is_ipv6() && one.ip().to_canonical().is_ipv4() => {
            (!shared.contains(&all.port())).then_some(Some("IPv4"))
        }
        true if all.is_ipv6() == one.ip().to_canonical().is_ipv6() => Some(None),
        _ => None,
    }
}

#[cfg(all(target_os = "linux", not(baiwan_portable)))]
fn bind_address(address: &Address, options: ListenOptions, bound: &mut Bound) -> io::Result<()> {
    if let Address::Unix(_) | Address::Abstract(_) = address {
        return share(BoundListener::bind(address, options), bound);
    }
    // It listens alone at first: of servers that start at once, one gets the port. It decides the port, too, should it be 0.
    let first = BoundListener::bind(address, options)?;
    first.share_port()?;
    let address = first.address().clone();
    let options = ListenOptions { reuse_port: true, ..options };
    let next = || match BoundListener::bind(&address, options) {
        // Where it is settled at the first bind who shares a port, as in gVisor, cores share the socket.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => first.try_clone(),
        bound => bound,
    };
    let others = (1..bound.cores.len()).map(|_| next()).collect::<io::Result<Vec<_>>>()?;
    for (core, listener) in bound.cores.iter_mut().zip(std::iter::once(first).chain(others)) {
        core.push(listener);
    }
    bound.addresses.push(address);
    Ok(())
}

#[cfg(not(all(target_os = "linux", not(baiwan_portable))))]
fn bind_address(address: &Address, options: ListenOptions, bound: &mut Bound) -> io::Result<()> {
    share(BoundListener::bind(address, options), bound)
}

fn share(listener: io::Result<BoundListener>, bound: &mut Bound) -> io::Result<()> {
    let listener = listener?;
    bound.files.extend(listener.socket_file());
    for core in &mut bound.cores {
        core.push(listener.try_clone()?);
    }
    bound.addresses.push(listener.address().clone());
    Ok(())
}

#[cfg(all(test, target_os = "linux", not(baiwan_portable)))]
mod tests {
    use std::collections::HashSet;
    use std::sync::Barrier;

    use super::*;

    const CORES: usize = 3;

    fn bind_here(address: &str) -> Result<Bound, Error> {
        bind(vec![Source::Address(address.to_owned())], CORES, ListenOptions::default())
    }

    #[test]
    fn of_servers_that_start_at_once_on_a_port_one_gets_it_and_each_of_its_cores_a_socket() {
        const SERVERS: usize = 4;
        // Nobody else's loopback address.
        let Address::Tcp(address) = bind_here("127.83.41.7:0").unwrap().addresses.remove(0) else { panic!() };
        for round in 0..100 {
            let start = Barrier::new(SERVERS);
            let bound: Vec<_> = std::thread::scope(|scope| {
                let server = || scope.spawn(|| (start.wait(), bind_here(&address.to_string())).1);
                let servers: Vec<_> = std::iter::repeat_with(server).take(SERVERS).collect();
                servers.into_iter().map(|server| server.join().unwrap()).collect()
            });
            let (live, refused): (Vec<_>, Vec<_>) = bound.into_iter().partition(Result::is_ok);
            let sockets = |bound: &Bound| -> HashSet<_> {
                bound.cores.iter().flatten().map(|socket| socket.identity().unwrap()).collect()
            };
            let live: Vec<_> = live.iter().map(|bound| sockets(bound.as_ref().unwrap()).len()).collect();
            assert_eq!(live, [CORES], "in round {round}");
            for refused in refused {
                let error = refused.unwrap_err();
                let is_in_use =
                    matches!(&error, Error::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse);
                assert!(is_in_use, "in round {round}: {error}");
            }
        }
    }
}
