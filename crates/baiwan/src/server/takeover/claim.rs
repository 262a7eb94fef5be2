//! Which of the sockets that were handed over serve which address, and on which cores.
//!
//! Addresses that are wanted and were served before keep their sockets. Those that nobody has served are bound anew, later. Sockets of
//! addresses that are not wanted any more are closed here: the process that hands over accepts what is queued on them, and closes
//! them after that.
//!
//! A socket serves the versions of IP that it was bound for. One of `[::]` that is wanted for others is refused: a new socket cannot be
//! bound beside it. An address is refused, too, if it is a part of one that the other process serves, or has one of those as a part. The
//! kernel gives a connection to the socket with the narrower address as soon as that one listens: a new narrower socket would get
//! connections before this process is sure to live, and one of the other process would still get some while it is closed.
//!
//! The invariant: every socket of an address that is wanted is on at least one core, and every core has one.

use std::io;

use baiwan_driver::{Address, BoundListener};

use super::heir::Heir;
use crate::Error;
use crate::say::say;
use crate::server::listen::{Bound, Source, covers, is_beside_ipv4, is_same};

/// The sockets of one address, in the order of the cores that had them.
struct Group {
    served: Served,
    sockets: Vec<BoundListener>,
}

/// What the sockets of a group serve.
#[derive(PartialEq, Eq, Debug)]
struct Served {
    address: Address,
    /// Of `[::]`: IPv4 goes elsewhere.
    is_ipv6_only: bool,
}

impl Heir {
    /// What to listen on: as `sources`, with the sockets that were handed over in the place of their addresses, for as many cores. On the
    /// ports that are `shared`, `[::]` is wanted for IPv6 alone. With `reuse_port`, an address may be bound beside one that covers it.
    ///
    /// # Errors
    /// When an address is given twice, or cannot be had while the other process serves, or this process is out of files.
    pub(super) fn claim(
        &mut self,
        sources: Vec<Source>,
        shared: &[u16],
        cores: usize,
        reuse_port: bool,
    ) -> Result<Vec<Source>, Error> {
        let mut groups = group(std::mem::take(&mut self.servers)).map_err(Error::Start)?;
        if let Some(why) = what_needs_a_restart(&sources, &groups, shared, reuse_port) {
            return Err(self.refuse(why));
        }
        let mut claimed = Vec::with_capacity(sources.len());
        let mut known: Vec<(String, Address)> = Vec::new();
        // A free port is whichever the process before has found, unless somebody asks for that one.
        let is_any_port = |source: &Source| matches!(source.tcp_address(), Some(address) if address.port() == 0);
        let (any_port, exact): (Vec<_>, Vec<_>) =
            sources.into_iter().enumerate().partition(|(_, source)| is_any_port(source));
        for (place, source) in exact.into_iter().chain(any_port) {
            for source in claim_one(source, &mut groups, &mut known, cores)? {
                claimed.push((place, source));
            }
        }
        claimed.sort_by_key(|(place, _)| *place);
        let sources: Vec<Source> = claimed.into_iter().map(|(_, source)| source).collect();
        say_what_is_new(&sources, &groups);
        self.note_claimed(known.iter().map(|(_, address)| address));
        Ok(sources)
    }
}

/// What becomes of one source: itself, or the sockets that are there for it.
fn claim_one(
    source: Source,
    groups: &mut Vec<Group>,
    known: &mut Vec<(String, Address)>,
    cores: usize,
) -> Result<Vec<Source>, Error> {
    match source {
        Source::Address(text) => {
            let Ok(address) = text.parse::<Address>() else { return Ok(vec![Source::Address(text)]) };
            if let Some((other, _)) = known.iter().find(|(_, known)| is_same(known, &address)) {
                return Err(Error::Twice { address: text, other: other.clone() });
            }
            let Some(place) = groups.iter().position(|group| group.served.is_what(&address)) else {
                return Ok(vec![Source::Address(text)]);
            };
            let group = groups.remove(place);
            known.push((text, group.served.address.clone()));
            Ok(vec![group.bound(cores).map_err(Error::Start)?])
        }
        Source::Socket(fd) => {
            let given = BoundListener::from_fd(fd)
                .map_err(|source| Error::Listen { address: "the given socket".to_owned(), source })?;
            let mut claimed = Vec::new();
            if let Some(place) = groups.iter().position(|group| group.served.address == *given.address()) {
                let mut group = groups.remove(place);
                let own = given.identity().map_err(Error::Start)?;
                // It came both ways, or it is another one of the same set.
                group.sockets.retain(|socket| socket.identity().is_ok_and(|identity| identity != own));
                if !group.sockets.is_empty() {
                    claimed.push(group.bound(cores).map_err(Error::Start)?);
                }
            }
            claimed.insert(0, Source::Socket(given.into_fd()));
            Ok(claimed)
        }
        bound @ Source::Bound(_) => Ok(vec![bound]),
    }
}

/// Why the sources cannot be had while the process before serves, in words.
fn what_needs_a_restart(sources: &[Source], groups: &[Group], shared: &[u16], reuse_port: bool) -> Option<String> {
    let wanted: Vec<Address> = sources.iter().filter_map(Source::tcp_address).map(Address::Tcp).collect();
    let is_wanted = |served: &Served| wanted.iter().any(|wanted| is_same(wanted, &served.address));
    wanted.iter().find_map(|wanted| {
        let mut all = groups.iter().map(|group| &group.served);
        if let Some(same) = all.clone().find(|served| is_same(&served.address, wanted)) {
            return same.refuses(is_beside_ipv4(wanted, shared));
        }
        // Two wanted addresses of which one is a part of the other are refused where they are bound, after a restart too.
        all.find_map(|served| served.overlaps(wanted, shared).filter(|_| reuse_port || !is_wanted(served)))
    })
}

impl Served {
    /// Whether it is what `wanted` asks for. Port 0 is any; no port is shared then, so `[::]` is wanted for both versions of IP.
    fn is_what(&self, wanted: &Address) -> bool {
        match (&self.address, wanted) {
            (Address::Tcp(served), Address::Tcp(wanted)) if wanted.port() == 0 => {
                served.ip() == wanted.ip() && !self.is_ipv6_only
            }
            (served, wanted) => is_same(served, wanted),
        }
    }

    /// Why it cannot be had for IPv6 alone, or for both versions of IP, if it is wanted so.
    fn refuses(&self, is_wanted_ipv6_only: bool) -> Option<String> {
        let (wanted, served) = match (is_wanted_ipv6_only, self.is_ipv6_only) {
            (true, false) => ("IPv6 alone", "IPv4 too"),
            (false, true) => ("IPv4 too", "IPv6 alone"),
            _ => return None,
        };
        let address = &self.address;
        Some(format!(
            "{address} is to serve {wanted}, and serves {served} in the process that runs: this change needs a restart"
        ))
    }

    /// Why `wanted`, another address, cannot be had beside it, if one of them is a part of the other.
    fn overlaps(&self, wanted: &Address, shared: &[u16]) -> Option<String> {
        let (Self { address, is_ipv6_only }, Address::Tcp(tcp)) = (self, wanted) else { return None };
        let shared_here: &[u16] = if *is_ipv6_only { &[tcp.port()] } else { &[] };
        let (narrow, wide) = if covers(address, wanted, shared_here).is_some() {
            (wanted, address)
        } else {
            covers(wanted, address, shared)?;
            (address, wanted)
        };
        Some(format!(
            "{narrow} is a part of {wide}, and the process that runs serves {address}: the change to {wanted} needs a restart"
        ))
    }
}

fn group(sockets: Vec<BoundListener>) -> io::Result<Vec<Group>> {
    let mut groups: Vec<Group> = Vec::new();
    for socket in sockets {
        let address = socket.address().clone();
        match groups.iter_mut().find(|group| group.served.address == address) {
            Some(group) => group.sockets.push(socket),
            None => {
                let is_all = matches!(&address, Address::Tcp(address) if address.ip().is_unspecified());
                let served = Served { address, is_ipv6_only: is_all && socket.is_ipv6_only()? };
                groups.push(Group { served, sockets: vec![socket] });
            }
        }
    }
    Ok(groups)
}

impl Group {
    fn bound(self, cores: usize) -> io::Result<Source> {
        Ok(Source::Bound(Bound {
            cores: spread(self.sockets, cores, BoundListener::try_clone)?,
            addresses: vec![self.served.address],
            files: Vec::new(),
        }))
    }
}

/// Gives every core a socket, and every socket a core. There is at least one of both.
fn spread<S>(sockets: Vec<S>, cores: usize, again: impl Fn(&S) -> io::Result<S>) -> io::Result<Vec<Vec<S>>> {
    let count = sockets.len();
    let mut spread: Vec<Vec<S>> = (0..cores).map(|_| Vec::new()).collect();
    for core in count..cores {
        spread[core].push(again(&sockets[core % count])?);
    }
    for (number, socket) in sockets.into_iter().enumerate() {
        spread[number % cores].push(socket);
    }
    Ok(spread)
}

fn say_what_is_new(sources: &[Source], left: &[Group]) {
    let anew = sources.iter().filter_map(|source| match source {
        Source::Address(text) => Some(text.clone()),
        Source::Socket(_) | Source::Bound(_) => None,
    });
    let anew: Vec<String> = anew.collect();
    if !anew.is_empty() {
        let addresses = anew.join(" ");
        say(|| tracing::info!(addresses, "listens on addresses that the process before did not serve"));
    }
    let left: Vec<String> = left.iter().map(|group| group.served.address.to_string()).collect();
    if !left.is_empty() {
        let addresses = left.join(" ");
        say(|| {
            tracing::warn!(
                addresses,
                "does not serve addresses any more that the process before served; that one accepts what waits there, and closes them"
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread_of(sockets: usize, cores: usize) -> Vec<Vec<usize>> {
        spread((0..sockets).collect(), cores, |socket| Ok(*socket)).unwrap()
    }

    #[test]
    fn every_socket_has_a_core_and_every_core_a_socket() {
        assert_eq!(spread_of(3, 3), [[0], [1], [2]]);
        assert_eq!(spread_of(5, 2), [vec![0, 2, 4], vec![1, 3]]);
        assert_eq!(spread_of(2, 5), [[0], [1], [0], [1], [0]]);
        assert_eq!(spread_of(1, 3), [[0], [0], [0]]);
    }

    #[test]
    fn a_free_port_is_the_one_that_was_found_before() {
        let address = |text: &str| text.parse::<Address>().unwrap();
        let serves = |served: &str, is_ipv6_only, wanted: &str| {
            Served { address: address(served), is_ipv6_only }.is_what(&address(wanted))
        };
        let served = "127.0.0.1:4711";
        assert!(serves(served, false, "127.0.0.1:0") && serves(served, false, "127.0.0.1:4711"));
        assert!(!serves(served, false, "0.0.0.0:0") && !serves(served, false, "127.0.0.1:80"));
        assert!(serves("unix:@name", false, "unix:@name"));
        assert!(!serves("unix:@name", false, served));
        assert!(serves("[::]:4711", false, "[::]:0"));
        assert!(!serves("[::]:4711", true, "[::]:0"), "it is to serve IPv4 too");
    }

    #[test]
    fn one_address_is_a_part_of_the_other_where_a_connection_could_go_to_both() {
        let overlaps = |served: &str, is_ipv6_only, wanted: &str, shared: &[u16]| {
            let served = Served { address: served.parse().unwrap(), is_ipv6_only };
            served.overlaps(&wanted.parse().unwrap(), shared).is_some()
        };
        for (wide, narrow) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("0.0.0.0:80", "[::ffff:127.0.0.1]:80"),
            ("[::]:80", "[::1]:80"),
            ("[::]:80", "127.0.0.1:80"),
            ("[::]:80", "0.0.0.0:80"),
        ] {
            assert!(overlaps(wide, false, narrow, &[]) && overlaps(narrow, false, wide, &[]), "{wide} {narrow}");
        }
        for (one, other) in
            [("0.0.0.0:80", "127.0.0.1:81"), ("127.0.0.1:80", "127.0.0.2:80"), ("0.0.0.0:80", "[::1]:80")]
        {
            assert!(!overlaps(one, false, other, &[]) && !overlaps(other, false, one, &[]), "{one} {other}");
        }
        assert!(!overlaps("[::]:80", true, "127.0.0.1:80", &[]) && overlaps("[::]:80", true, "[::1]:80", &[]));
        assert!(!overlaps("0.0.0.0:80", false, "[::]:80", &[80]) && overlaps("[::1]:80", false, "[::]:80", &[80]));
    }
}
