//! A peer's address, made small: every connection holds one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use baiwan_driver::Peer;
use baiwan_limits::ClientKey;

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
    /// Whom a proxy over a Unix socket has named.
    V4OverUnix,
    V6OverUnix,
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
    /// Whether the connection came over a Unix socket.
    pub(in crate::engine) fn is_over_unix(&self) -> bool {
        matches!(self.family, Family::Unix | Family::V4OverUnix | Family::V6OverUnix)
    }

    /// Who has connected to the proxy that has connected to us.
    pub(in crate::engine) fn behind(self, source: SocketAddr) -> Self {
        let mut peer = Self::from(Peer::Ip(source));
        peer.family = match (self.is_over_unix(), peer.family) {
            (true, Family::V4) => Family::V4OverUnix,
            (true, Family::V6) => Family::V6OverUnix,
            (_, family) => family,
        };
        peer
    }

    /// The peer, as the driver or a proxy has named it.
    pub(in crate::engine) fn peer(&self) -> Peer {
        match self.family {
            Family::Unix => Peer::Unix,
            _ => Peer::Ip(self.expand()),
        }
    }

    /// The address alone, as a client; over a Unix socket `0.0.0.0`, unless a proxy has named one.
    #[inline]
    pub(in crate::engine) fn key(&self) -> ClientKey {
        let [a, b, c, d, ..] = self.ip;
        match self.family {
            Family::V4 | Family::V4OverUnix => ClientKey::of(Ipv4Addr::new(a, b, c, d).into()),
            Family::V6 | Family::V6OverUnix => ClientKey::of(Ipv6Addr::from(self.ip).into()),
            Family::V6Scoped | Family::Unix => ClientKey::of(self.expand().ip()),
        }
    }

    pub(in crate::engine) fn expand(&self) -> SocketAddr {
        let [a, b, c, d, ..] = self.ip;
        let port = u16::from_ne_bytes(self.port);
        let v4 = IpAddr::V4(Ipv4Addr::new(a, b, c, d));
        match self.family {
            Family::V4 | Family::V4OverUnix => SocketAddr::new(v4, port),
            Family::V6 | Family::V6OverUnix => SocketAddr::new(Ipv6Addr::from(self.ip).into(), port),
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
            assert_eq!(CompactPeer::from(Peer::Ip(address)).key(), ClientKey::of(address.ip()));
        }
        assert_eq!(CompactPeer::from(Peer::Unix).expand(), Peer::Unix.socket_address());
    }

    #[test]
    fn whoever_is_behind_a_proxy_is_the_peer_and_the_socket_stays_what_it_is() {
        for text in ["1.2.3.4:5", "[2001:db8::1]:65535"] {
            let source: SocketAddr = text.parse().unwrap();
            for (proxy, is_over_unix) in [(Peer::Unix, true), (Peer::Ip("[::1]:80".parse().unwrap()), false)] {
                let peer = CompactPeer::from(proxy).behind(source);
                assert_eq!((peer.peer(), peer.expand()), (Peer::Ip(source), source));
                assert_eq!(peer.is_over_unix(), is_over_unix);
            }
        }
    }
}
