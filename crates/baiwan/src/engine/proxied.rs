//! Connections that trusted proxies begin with the PROXY protocol: who has connected to the proxy.
//!
//! The header is taken off before the first request is looked at, in however many pieces it comes; until it is whole its bytes wait as
//! those of a head do, for as long. It is *not* read here (`baiwan_limits::ProxyHeader`).
//!
//! The invariant: while a header is due, no byte of the connection is taken for a request.

use baiwan_http1::Refusal;
use baiwan_limits::{PROXY_HEADER_BYTES_MAX, ProxyHeader, ProxyHeaderError};

use super::SET_ASIDE_BYTES_MAX;
use super::refuse::refuse;
use super::table::{Flags, Table};
use super::terms::Terms;

const _: () = assert!(PROXY_HEADER_BYTES_MAX < SET_ASIDE_BYTES_MAX, "a header that is not whole waits");

/// What a connection has begun with.
pub(super) enum Begun {
    /// The header is whole; the first request begins behind this number of bytes.
    After(usize),
    /// A part of a header.
    Partial,
    /// Something else, which was refused.
    Refused,
}

/// Looks for the header that `input` begins with, if one is due (`is_proxied`), and makes its source the peer.
#[inline]
pub(super) fn begin_proxied<S>(
    terms: &Terms,
    table: &mut Table<S>,
    index: u32,
    is_proxied: bool,
    input: &[u8],
) -> Begun {
    match is_proxied {
        true => take_header(terms, table, index, input),
        false => Begun::After(0),
    }
}

#[cold]
fn take_header<S>(terms: &Terms, table: &mut Table<S>, index: u32, input: &[u8]) -> Begun {
    let refusal = match ProxyHeader::parse(input) {
        Ok(ProxyHeader::Partial) => return Begun::Partial,
        Ok(ProxyHeader::Complete { source, bytes }) => {
            let slot = &mut table[index];
            slot.flags.clear(Flags::PROXIED);
            if let Some(source) = source {
                slot.peer = slot.peer.behind(source);
            }
            return Begun::After(bytes);
        }
        Err(ProxyHeaderError::Missing) => Refusal::ProxyProtocolMissing,
        Err(ProxyHeaderError::Malformed) => Refusal::ProxyProtocolMalformed,
    };
    refuse(terms, table, index, refusal, input);
    Begun::Refused
}
