//! Connections that trusted proxies begin with the PROXY protocol: who has connected to the proxy.
//!
//! The header is taken off before the first request is looked at, in however many pieces it comes; until it is whole its bytes wait as
//! those of a head do, for as long. Then the connection counts as one of the client that it names. It is *not* read here
//! (`baiwan_limits::ProxyHeader`), nor decided how many a client may have (`crate::gate`).
//!
//! The invariant: while a header is due, no byte of the connection is taken for a request.

use std::net::SocketAddr;

use baiwan_driver::Driver;
use baiwan_http1::Refusal;
use baiwan_limits::{PROXY_HEADER_BYTES_MAX, ProxyHeader, ProxyHeaderError};

use super::SET_ASIDE_BYTES_MAX;
use super::close::{close, turn_away};
use super::ports::Ports;
use super::refuse::refuse;
use super::table::{Flags, Table};
use super::terms::Terms;
use crate::gate::{Beyond, Entry, Newcomer, admit_client};

const _: () = assert!(PROXY_HEADER_BYTES_MAX < SET_ASIDE_BYTES_MAX, "a header that is not whole waits");

/// What a connection has begun with.
pub(super) enum Begun {
    /// The header is whole; the first request begins behind this number of bytes.
    After(usize),
    /// A part of a header.
    Partial,
    /// Something else, or one that names a client with too many connections: it was refused, and may be gone.
    Refused,
}

/// Looks for the header that `input` begins with, if one is due (`is_proxied`), and makes its source the peer.
#[inline]
pub(super) fn begin_proxied<D: Driver>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    index: u32,
    is_proxied: bool,
    input: &[u8],
) -> Begun {
    match is_proxied {
        true => take_header(terms, ports, table, index, input),
        false => Begun::After(0),
    }
}

#[cold]
fn take_header<D: Driver>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    index: u32,
    input: &[u8],
) -> Begun {
    let refusal = match ProxyHeader::parse(input) {
        Ok(ProxyHeader::Partial) => return Begun::Partial,
        Ok(ProxyHeader::Complete { source, bytes }) => {
            table[index].flags.clear(Flags::PROXIED);
            return match source.is_none_or(|source| take_client(terms, ports, table, index, source)) {
                true => Begun::After(bytes),
                false => Begun::Refused,
            };
        }
        Err(ProxyHeaderError::Missing) => Refusal::ProxyProtocolMissing,
        Err(ProxyHeaderError::Malformed) => Refusal::ProxyProtocolMalformed,
    };
    refuse(terms, table, index, refusal, input);
    Begun::Refused
}

/// Makes a proxy's connection one of the client that has connected to the proxy. Returns whether the client may have it.
fn take_client<D: Driver>(
    terms: &Terms,
    ports: &mut Ports<D>,
    table: &mut Table<D::Socket>,
    index: u32,
    source: SocketAddr,
) -> bool {
    let slot = &mut table[index];
    slot.peer = slot.peer.behind(source);
    if slot.flags.has(Flags::UNCOUNTED) {
        return true;
    }
    let client = slot.peer.peer();
    let beyond = Beyond { count: table.turned_away(), max: terms.settings.turned_away_max };
    let limits = terms.settings.clients_in_force.as_deref();
    let client = Newcomer { peer: client, now: terms.clock.now(), limits };
    match admit_client(&terms.board.server, terms.board.index, beyond, client) {
        Entry::Taken(client) => {
            if client.is_some() {
                table[index].flags.set(Flags::CLIENT);
            }
            return true;
        }
        Entry::Refused(denial) => {
            table.turn_away(index);
            turn_away(terms, ports, table, index, denial);
        }
        Entry::Dropped(reason) => {
            table.turn_away(index);
            close(terms, ports, table, index, reason);
        }
        Entry::Probe => unreachable!("a client decides of no probe"),
    }
    false
}
