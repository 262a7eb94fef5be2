//! Which peers are proxies that are believed, and whom they name as the client.
//!
//! ```text
//!   client ──► proxy 1 ──► proxy 2 ──► this server         X-Forwarded-For: (anything), client, proxy 1
//!                                                                                ◄──────────────────────
//!                                     the peer is proxy 2                              read this way
//! ```
//!
//! Each proxy adds the address of its own peer at the right end. The peer of the connection is a fact; if it is trusted, so is what it
//! has added, and so on to the left, up to the first address that is not trusted. That one is the client.
//!
//! The invariant: what a peer that is not trusted sends never changes who the client is.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

use crate::forwarded::{Syntax, addresses_from_right, parse_node};
use crate::networks::{NETWORKS_MAX, Networks, parse_network};

/// The word that stands for peers over Unix sockets.
const UNIX: &str = "unix";

/// As whom a peer over a Unix socket counts where it names no client.
const UNIX_PEER: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const CF_CONNECTING_IP: HeaderName = HeaderName::from_static("cf-connecting-ip");

/// Peers that are proxies and are believed, and the field in which they name the client. By default nobody is trusted.
///
/// # Which field is read
/// Without [`with_field`](Self::with_field) it is `X-Forwarded-For`, and only in a request without one `Forwarded` (RFC 7239). Most proxies
/// write the first and pass the second on as the client sent it, so the second must not win. **A proxy that writes `Forwarded` alone
/// passes on an `X-Forwarded-For` that a client has made up**: name its field with `with_field`, and the other is not read any more. (nginx's
/// [`real_ip_header`](https://nginx.org/en/docs/http/ngx_http_realip_module.html) and Caddy's
/// [`client_ip_headers`](https://caddyserver.com/docs/caddyfile/options#client-ip-headers) name one field for the same reason.)
///
/// # How a list is read
/// All lines of the field count as one list, which is read from its right end, as nginx does with `real_ip_recursive on`. The first
/// address that is not trusted is the client. If all are trusted, it is the left-most. The reader stops at an element that is no
/// address (malformed, `unknown`, obfuscated, without `for`), at one of more than 1024 bytes, and after 32 elements: the client is the
/// trusted address that it has reached then, never one further left. Empty elements are skipped; ports and zones are dropped; an IPv4-mapped
/// IPv6 address is the IPv4 address.
///
/// # Text form
/// A comma list of networks (`10.0.0.0/8`), single addresses, and `unix` for peers over Unix sockets; at most [`NETWORKS_MAX`].
///
/// # Example
/// ```
/// use baiwan_limits::Proxies;
/// use http::HeaderMap;
///
/// let proxies: Proxies = "10.0.0.0/8, 2001:db8:1::/48".parse().expect("a list");
/// let mut headers = HeaderMap::new();
/// // The client made up the first address; the proxies added the others.
/// headers.insert("x-forwarded-for", "198.51.100.1, 192.0.2.7, 10.0.0.2".parse().expect("a value"));
/// let client = |peer: &str| proxies.client(peer.parse().expect("an address"), &headers).ip.to_string();
/// assert_eq!(client("10.0.0.1"), "192.0.2.7");
/// assert_eq!(client("192.0.2.99"), "192.0.2.99");
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Proxies {
    networks: Networks,
    unix: bool,
    /// The one field that names the client.
    field: Option<HeaderName>,
}

/// Who sent a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Client {
    /// The address of the client. IPv4-mapped is IPv4.
    pub ip: IpAddr,
    /// A field that only a trusted proxy may send, which came from a peer that is none and was not read: either somebody plays a
    /// proxy, or a proxy is missing in the list.
    pub ignored: Option<&'static str>,
}

/// A list of proxies that cannot be one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxiesError {
    /// One of its items is nothing that can be trusted.
    #[error("`{0}` is neither an address, nor a network such as 10.0.0.0/8, nor `unix`")]
    Item(String),
    /// It is too long.
    #[error("more than {NETWORKS_MAX} networks")]
    TooMany,
}

impl Proxies {
    /// Trusts a network, too. A single address is a network of one: `IpNet::from(address)`.
    ///
    /// # Errors
    /// [`ProxiesError::TooMany`].
    pub fn with_network(mut self, network: IpNet) -> Result<Self, ProxiesError> {
        match self.networks.push(network) {
            true => Ok(self),
            false => Err(ProxiesError::TooMany),
        }
    }

    /// Trusts peers over Unix sockets, too.
    pub fn with_unix(mut self) -> Self {
        self.unix = true;
        self
    }

    /// Reads the client from this field alone. `X-Forwarded-For` and `Forwarded` are lists, of which the other is not read any more. Any
    /// other field, such as `X-Real-IP` or `CF-Connecting-IP`, holds one address; where a trusted peer sends none, or several lines, or
    /// something else than an address, the client is the peer. `None` is the default again.
    pub fn with_field(mut self, field: impl Into<Option<HeaderName>>) -> Self {
        self.field = field.into();
        self
    }

    /// The one field that is read, if one was named.
    pub fn field(&self) -> Option<&HeaderName> {
        self.field.as_ref()
    }

    /// Whether nobody is trusted.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }

    /// Whether the peer with this address is believed.
    pub fn trusts(&self, ip: IpAddr) -> bool {
        self.networks.contains(ip)
    }

    /// Whether peers over Unix sockets are believed.
    pub fn trusts_unix(&self) -> bool {
        self.unix
    }

    /// Who sent a request that came from `peer` with these fields.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        let peer = peer.to_canonical();
        match self.trusts(peer) {
            true => Client { ip: self.named(peer, headers), ignored: None },
            false => Client { ip: peer, ignored: proxy_field(headers) },
        }
    }

    /// Who sent a request that came over a Unix socket: `0.0.0.0` where no client is named or nobody is believed.
    pub fn client_over_unix(&self, headers: &HeaderMap) -> Client {
        match self.unix {
            true => Client { ip: self.named(UNIX_PEER, headers), ignored: None },
            false => Client { ip: UNIX_PEER, ignored: proxy_field(headers) },
        }
    }

    /// Whom a trusted peer names as the client.
    fn named(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let (field, syntax) = match &self.field {
            None if headers.contains_key(X_FORWARDED_FOR) => (&X_FORWARDED_FOR, Syntax::XForwardedFor),
            None => (&header::FORWARDED, Syntax::Forwarded),
            Some(field) if *field == X_FORWARDED_FOR => (field, Syntax::XForwardedFor),
            Some(field) if *field == header::FORWARDED => (field, Syntax::Forwarded),
            Some(field) => return single(field, headers).unwrap_or(peer),
        };
        let mut reached = peer;
        for address in addresses_from_right(syntax, headers.get_all(field).iter()) {
            let Ok(address) = address else { break };
            reached = address;
            if !self.trusts(address) {
                break;
            }
        }
        reached
    }
}

/// The address in a field that holds one.
fn single(field: &HeaderName, headers: &HeaderMap) -> Option<IpAddr> {
    let mut lines = headers.get_all(field).iter();
    let (line, None) = (lines.next()?, lines.next()) else { return None };
    parse_node(line.as_bytes().trim_ascii()).ok()
}

/// The first field of those that only a proxy sends, and a client without one does not: `X-Forwarded-For`, `Forwarded`, `X-Real-IP` or
/// `CF-Connecting-IP`. Four look-ups.
pub fn proxy_field(headers: &HeaderMap) -> Option<&'static str> {
    let fields = [
        (X_FORWARDED_FOR, "X-Forwarded-For"),
        (header::FORWARDED, "Forwarded"),
        (X_REAL_IP, "X-Real-IP"),
        (CF_CONNECTING_IP, "CF-Connecting-IP"),
    ];
    fields.into_iter().find(|(field, _)| headers.contains_key(field)).map(|(_, name)| name)
}

impl FromStr for Proxies {
    type Err = ProxiesError;

    fn from_str(text: &str) -> Result<Self, ProxiesError> {
        let mut proxies = Self::default();
        for item in text.split(',').map(str::trim) {
            if item == UNIX {
                proxies = proxies.with_unix();
                continue;
            }
            let network = parse_network(item).ok_or_else(|| ProxiesError::Item(item.to_owned()))?;
            proxies = proxies.with_network(network)?;
        }
        Ok(proxies)
    }
}

/// The list, as it is written.
impl std::fmt::Display for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.networks.fmt(f)?;
        match self.unix {
            true if self.networks.is_empty() => f.write_str(UNIX),
            true => write!(f, ",{UNIX}"),
            false => Ok(()),
        }
    }
}
