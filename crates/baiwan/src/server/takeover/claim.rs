//! Which of the sockets that were handed over serve which address, and on which cores.
//!
//! Addresses that are wanted and were served before keep their sockets. Those that nobody has served are bound anew, later. Sockets of
//! addresses that are not wanted any more are closed here: the process that hands over accepts what is queued on them, and closes
//! them after that.
//!
//! The invariant: every socket of an address that is wanted is on at least one core, and every core has one.

use std::io;

use baiwan_driver::{Address, BoundListener};

use super::heir::Heir;
use crate::Error;
use crate::say::say;
use crate::server::listen::{Bound, Source, is_same};

/// The sockets of one address, in the order of the cores that had them.
struct Group {
    address: Address,
    sockets: Vec<BoundListener>,
}

impl Heir {
    /// What to listen on: as `sources`, with the sockets that were handed over in the place of their addresses, for as many cores. Also says
    /// whether a port that is still to be bound is one of a socket which the other process has until it ends.
    ///
    /// # Errors
    /// When an address is given twice, or the process is out of files.
    pub(super) fn claim(&mut self, sources: Vec<Source>, cores: usize) -> Result<(Vec<Source>, bool), Error> {
        let mut groups = group(std::mem::take(&mut self.servers));
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
        let shares_ports = groups.iter().any(|group| {
            let Address::Tcp(left) = &group.address else { return false };
            sources.iter().filter_map(Source::tcp_address).any(|wanted| wanted.port() == left.port())
        });
        say_what_is_new(&sources, &groups);
        self.note_claimed(known.iter().map(|(_, address)| address));
        Ok((sources, shares_ports))
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
            let Some(place) = groups.iter().position(|group| serves(&group.address, &address)) else {
                return Ok(vec![Source::Address(text)]);
            };
            let group = groups.remove(place);
            known.push((text, group.address.clone()));
            Ok(vec![group.bound(cores).map_err(Error::Start)?])
        }
        Source::Socket(fd) => {
            let given = BoundListener::from_fd(fd)
                .map_err(|source| Error::Listen { address: "the given socket".to_owned(), source })?;
            let mut claimed = Vec::new();
            if let Some(place) = groups.iter().position(|group| group.address == *given.address()) {
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

/// Whether a socket at `served` is what `wanted` asks for; port 0 is any.
fn serves(served: &Address, wanted: &Address) -> bool {
    match (served, wanted) {
        (Address::Tcp(served), Address::Tcp(wanted)) if wanted.port() == 0 => served.ip() == wanted.ip(),
        _ => is_same(served, wanted),
    }
}

fn group(sockets: Vec<BoundListener>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for socket in sockets {
        match groups.iter_mut().find(|group| group.address == *socket.address()) {
            Some(group) => group.sockets.push(socket),
            None => groups.push(Group { address: socket.address().clone(), sockets: vec![socket] }),
        }
    }
    groups
}

impl Group {
    fn bound(self, cores: usize) -> io::Result<Source> {
        Ok(Source::Bound(Bound {
            cores: spread(self.sockets, cores, BoundListener::try_clone)?,
            addresses: vec![self.address],
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
    let left: Vec<String> = left.iter().map(|group| group.address.to_string()).collect();
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
        let served = address("127.0.0.1:4711");
        assert!(serves(&served, &address("127.0.0.1:0")) && serves(&served, &address("127.0.0.1:4711")));
        assert!(!serves(&served, &address("0.0.0.0:0")) && !serves(&served, &address("127.0.0.1:80")));
        assert!(serves(&address("unix:@name"), &address("unix:@name")));
        assert!(!serves(&address("unix:@name"), &served));
    }
}
