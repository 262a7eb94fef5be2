//! What a rate limit counts by.

use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr};

use http::request::Parts;
use http::{Extensions, HeaderName, HeaderValue};

use crate::client_ip::{ClientIp, ClientKey};

/// What [`RateLimit::by`](crate::RateLimit::by) takes. `M` tells the kinds apart and is never written.
pub trait RateLimitKey<M>: Send + Sync + 'static {
    /// What is counted.
    type Key: Hash;

    /// The key of a request; `None` if the request is not limited. `ipv6_prefix` is how many bits of an IPv6 address are one client.
    fn key(&self, parts: &Parts, ipv6_prefix: u8) -> Option<Self::Key>;
}

/// The kind of key that is an address.
#[derive(Debug)]
pub struct ByAddress(());

/// The kind of key that is a field of the request.
#[derive(Debug)]
pub struct ByField(());

/// The kind of key that is a function of the request.
#[derive(Debug)]
pub struct ByFunction<K>(std::marker::PhantomData<fn() -> K>);

/// The name `ClientIp` is a function of an address, too, as that of any tuple struct.
impl<F: Fn(IpAddr) -> ClientIp + Send + Sync + 'static> RateLimitKey<ByAddress> for F {
    type Key = ClientKey;

    fn key(&self, parts: &Parts, ipv6_prefix: u8) -> Option<ClientKey> {
        Some(ClientKey::new(self(address(&parts.extensions)).0, ipv6_prefix))
    }
}

impl RateLimitKey<ByField> for HeaderName {
    type Key = Result<HeaderValue, ClientKey>;

    fn key(&self, parts: &Parts, ipv6_prefix: u8) -> Option<Self::Key> {
        let value = parts.headers.get(self).cloned();
        Some(value.ok_or_else(|| ClientKey::new(address(&parts.extensions), ipv6_prefix)))
    }
}

impl<F: Fn(&Parts) -> Option<K> + Send + Sync + 'static, K: Hash + 'static> RateLimitKey<ByFunction<K>> for F {
    type Key = K;

    fn key(&self, parts: &Parts, _: u8) -> Option<K> {
        self(parts)
    }
}

/// Whom all requests count as whose sender is not known.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// The address of the client: the extension `ClientIp`, else axum's `ConnectInfo`.
pub(super) fn address(extensions: &Extensions) -> IpAddr {
    let known = extensions.get::<ClientIp>().map(|client| client.0).or_else(|| peer(extensions));
    known.unwrap_or_else(|| {
        warn_once();
        UNKNOWN
    })
}

#[cfg(feature = "axum")]
fn peer(extensions: &Extensions) -> Option<IpAddr> {
    use std::net::SocketAddr;

    use axum::extract::ConnectInfo;
    use axum::extract::connect_info::MockConnectInfo;

    let connected = extensions.get::<ConnectInfo<SocketAddr>>().map(|connected| connected.0);
    connected.or_else(|| extensions.get::<MockConnectInfo<SocketAddr>>().map(|mock| mock.0)).map(|peer| peer.ip())
}

#[cfg(not(feature = "axum"))]
fn peer(_: &Extensions) -> Option<IpAddr> {
    None
}

fn warn_once() {
    static SAID: std::sync::Once = std::sync::Once::new();
    SAID.call_once(|| {
        tracing::warn!(
            "the address of a client is not known, so all such requests count as one client of a rate limit: serve the app with baiwan, \
             or with into_make_service_with_connect_info::<SocketAddr>()"
        );
    });
}
