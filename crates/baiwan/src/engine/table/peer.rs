//! A peer's address, made small: every connection holds one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use baiwan_driver::Peer;

/// A peer's address in 19 bytes instead of 32.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct CompactPeer {
    ip: [u8; 16],
    port: [u8; 2],
    family: Family,
}

#[derive(Clone, Copy, Debug)]
enum Family {
    V4,
    V6,
    /// A link-local address, with its scope in `SCOPE_BYTES`.
    V6Scoped,
    Unix,
}

/// Bytes of a link-local address that are zero (RFC 4291, section 2.5.6). No other kind of peer has a scope.
const SCOPE_BYTES: std::ops::Range<usize> = 4..8;

impl From<Peer> for CompactPeer {
    fn from(peer: Peer) -> Self {
        let mut compact = Self { ip: [0; 16], port: [0; 2], family: Family::Unix };
        if let Peer::Ip(address) = peer {
            compact.port = address.port().to_ne_bytes();
            match address {
                SocketAddr::V4(address) => {
                    compact.ip[..4].copy_from_slice(&address.ip().octets());
                    compact.family = Family::V4;
                }
                SocketAddr::V6(address) => {
                    compact.ip = address.ip().octets();
                    compact.family = Family::V6;
                    if address.scope_id() != 0 && compact.ip[SCOPE_BYTES] == [0; 4] {
                        compact.ip[SCOPE_BYTES].copy_from_slice(&address.scope_id().to_ne_bytes());
                        compact.family = Family::V6Scoped;
                    }
                }
            }
        }
        compact
    }
}

impl CompactPeer {
    pub(in crate::engine) fn is_unix(&self) -> bool {
        matches!(self.family, Family::Unix)
    }

    /// The peer, as the driver has named it.
    pub(in crate::engine) fn peer(&self) -> Peer {
        if self.is_unix() { Peer::Unix } else { Peer::Ip(self.expand()) }
    }

    pub(in crate::engine) fn expand(&self) -> SocketAddr {
        let [a, b, c, d, ..] = self.ip;
        let port = u16::from_ne_bytes(self.port);
        let v4 = IpAddr::V4(Ipv4Addr::new(a, b, c, d));
        match self.family {
            Family::V4 => SocketAddr::new(v4, port),
            Family::V6 => SocketAddr::new(Ipv6Addr::from(self.ip).into(), port),
            Family::V6Scoped => {
                let (mut ip, mut scope) = (self.ip, [0; 4]);
                scope.swap_with_slice(&mut ip[SCOPE_BYTES]);
                SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(ip), port, 0, u32::from_ne_bytes(scope)))
            }
            Family::Unix => Peer::Unix.socket_address(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_survives_being_made_small() {
        for text in ["1.2.3.4:5", "[2001:db8::1]:65535", "[fe80::1%7]:80"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(CompactPeer::from(Peer::Ip(address)).expand(), address);
        }
        assert_eq!(CompactPeer::from(Peer::Unix).expand(), Peer::Unix.socket_address());
    }
}
