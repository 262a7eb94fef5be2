//! Who a client is: its address, and what counts as one client.
//!
//! The invariant: an IPv4 address that is written as IPv6 (`::ffff:192.0.2.1`) is that IPv4 address, so that no client has two names.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// The address of the client that sent a request: the peer of the connection or, behind trusted proxies, who they say it is
/// ([`Proxies`](crate::Proxies)).
///
/// With the feature `axum` it is an extractor: the request's extension `ClientIp` if a server or a
/// [`ClientIpLayer`](crate::ClientIpLayer) has inserted one, else the peer in axum's `ConnectInfo<SocketAddr>`. It never reads a field
/// of the request by itself.
///
/// # Example
/// ```
/// # #[cfg(feature = "axum")] {
/// use baiwan_limits::ClientIp;
///
/// async fn hello(ClientIp(address): ClientIp) -> String {
///     format!("hello, {address}")
/// }
/// # let _: axum::Router = axum::Router::new().route("/", axum::routing::get(hello));
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientIp(pub IpAddr);

impl ClientIp {
    /// The client with this address. An IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2) becomes the IPv4 address.
    pub fn new(ip: IpAddr) -> Self {
        Self(ip.to_canonical())
    }
}

impl fmt::Display for ClientIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<IpAddr> for ClientIp {
    fn from(ip: IpAddr) -> Self {
        Self::new(ip)
    }
}

/// What counts as one client: an IPv4 address, or a prefix of IPv6 addresses, because one subscriber has at least a /64 (RFC 6177) and
/// may send from any address in it.
///
/// # Example
/// ```
/// use baiwan_limits::ClientKey;
///
/// let key = |ip: &str| ClientKey::new(ip.parse().expect("an address"), 64);
/// assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
/// assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
/// assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientKey(u128);

/// What an IPv4 address begins with that is written as IPv6 (RFC 4291, section 2.5.5.2).
const IPV4_MAPPED: u128 = 0xffff;

impl ClientKey {
    /// The key of a client. `ipv6_prefix` is the number of bits of an IPv6 address that count, 0 to 128; more are 128. An IPv4 address
    /// counts as a whole.
    #[inline]
    pub fn new(ip: IpAddr, ipv6_prefix: u8) -> Self {
        Self::of(ip).within(ipv6_prefix)
    }

    /// The key of a client whose address counts as a whole.
    #[inline]
    pub const fn of(ip: IpAddr) -> Self {
        match ip {
            // As IPv6 writes it, so that the two are one.
            IpAddr::V4(ip) => Self(IPV4_MAPPED << 32 | ip.to_bits() as u128),
            IpAddr::V6(ip) => Self(ip.to_bits()),
        }
    }

    /// The key of the network with this prefix that the client is in; an IPv4 address counts as a whole all the same.
    #[inline]
    pub fn within(self, ipv6_prefix: u8) -> Self {
        if self.0 >> 32 == IPV4_MAPPED {
            return self;
        }
        let ignored = 128 - u32::from(ipv6_prefix.min(128));
        Self(self.0 & u128::MAX.checked_shl(ignored).unwrap_or(0))
    }

    /// The address as IPv6, with zeros for the bits that do not count.
    pub(crate) fn bits(self) -> u128 {
        self.0
    }

    /// The address, or the first address of the prefix.
    pub fn ip(self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from_bits(self.0)).to_canonical()
    }
}

#[cfg(feature = "axum")]
mod extractor {
    use std::net::SocketAddr;

    use axum::extract::{ConnectInfo, FromRequestParts};
    use axum::response::{IntoResponse, Response};
    use http::StatusCode;
    use http::request::Parts;

    use super::ClientIp;

    /// A server that does not say who its peers are: neither the extension [`ClientIp`] nor axum's `ConnectInfo<SocketAddr>` is there.
    /// As an answer it is 500.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
    #[error(
        "the address of the client is not known: serve the app with baiwan, or with into_make_service_with_connect_info::<SocketAddr>()"
    )]
    pub struct ClientIpMissing;

    impl IntoResponse for ClientIpMissing {
        fn into_response(self) -> Response {
            (StatusCode::INTERNAL_SERVER_ERROR, self.to_string()).into_response()
        }
    }

    impl<S: Send + Sync> FromRequestParts<S> for ClientIp {
        type Rejection = ClientIpMissing;

        async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ClientIpMissing> {
            if let Some(client) = parts.extensions.get::<Self>() {
                return Ok(*client);
            }
            match ConnectInfo::<SocketAddr>::from_request_parts(parts, state).await {
                Ok(ConnectInfo(peer)) => Ok(Self::new(peer.ip())),
                Err(_) => Err(ClientIpMissing),
            }
        }
    }
}

#[cfg(feature = "axum")]
pub use extractor::ClientIpMissing;

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ipv4_in_ipv6_is_ipv4() {
        assert_eq!(ClientIp::new(ip("::ffff:192.0.2.1")), ClientIp(ip("192.0.2.1")));
        // Other addresses that hold an IPv4 address are not that address (RFC 4291, section 2.5.5.1).
        assert_eq!(ClientIp::new(ip("::192.0.2.1")), ClientIp(ip("::192.0.2.1")));
    }

    #[test]
    fn a_prefix_of_ipv6_is_one_client() {
        let cases = [
            ("2001:db8:1:2:3:4:5:6", 128, "2001:db8:1:2:3:4:5:6"),
            ("2001:db8:1:2:3:4:5:6", 255, "2001:db8:1:2:3:4:5:6"),
            ("2001:db8:1:2:3:4:5:6", 64, "2001:db8:1:2::"),
            ("2001:db8:1:2:3:4:5:6", 56, "2001:db8:1::"),
            ("2001:db8:1:2:3:4:5:6", 1, "::"),
            ("2001:db8:1:2:3:4:5:6", 0, "::"),
            ("192.0.2.1", 0, "192.0.2.1"),
            ("::ffff:192.0.2.1", 32, "192.0.2.1"),
        ];
        for (address, prefix, expected) in cases {
            assert_eq!(ClientKey::new(ip(address), prefix).ip(), ip(expected), "{address}/{prefix}");
        }
    }

    #[cfg(feature = "axum")]
    #[tokio::test]
    async fn the_extractor_takes_the_extension_then_the_peer_and_no_field() {
        use std::net::SocketAddr;

        use axum::extract::{ConnectInfo, FromRequestParts};

        let mut parts =
            http::Request::builder().header("x-forwarded-for", "192.0.2.9").body(()).unwrap().into_parts().0;
        assert_eq!(ClientIp::from_request_parts(&mut parts, &()).await, Err(ClientIpMissing));
        let peer: SocketAddr = "[::ffff:192.0.2.1]:80".parse().unwrap();
        parts.extensions.insert(ConnectInfo(peer));
        assert_eq!(ClientIp::from_request_parts(&mut parts, &()).await, Ok(ClientIp(ip("192.0.2.1"))));
        parts.extensions.insert(ClientIp(ip("192.0.2.2")));
        assert_eq!(ClientIp::from_request_parts(&mut parts, &()).await, Ok(ClientIp(ip("192.0.2.2"))));
    }
}
