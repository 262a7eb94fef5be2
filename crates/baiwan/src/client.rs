//! Who sent a request: what limits count by, what records and handlers see.
//!
//! Where proxies are trusted, every request is told who its client is, in the extension [`ClientIp`]. Where none is, nothing is
//! inserted, and the extractor reads the peer. A proxy's field from a peer that is not trusted changes nothing; it is counted, and once
//! an operator is told which address to trust. To look for one costs four look-ups, so where nobody is trusted only some requests are
//! looked at: [`is_looked_at`].
//!
//! The invariant: both event loops [`identify`] a request before anybody asks who sent it, and then all have the same answer.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;

use baiwan_driver::Peer;
use baiwan_limits::{Client, ClientIp, proxy_field};
use http::Request;

use crate::request_id::RequestId;
use crate::say::say;
use crate::settings::Settings;
use crate::status::{CoreStatus, Status, add};

/// The first requests of each core, every one of which is looked at; then it is one among as many.
const LOOKS: u64 = 64;

/// Tells a request who its client is, if proxies are trusted; and an operator, if a proxy seems to be missing among them.
#[inline]
pub(crate) fn identify<T>(
    settings: &Settings,
    status: &Status,
    core: usize,
    peer: impl Fn() -> Peer,
    request: &mut Request<T>,
) {
    let here = &status.cores[core];
    if !settings.proxies.is_empty() {
        let ignored = insert_client(settings, peer(), request);
        note_ignored(settings, status, here, peer, ignored);
    } else if is_looked_at(here.requests.load(Relaxed)) {
        note_ignored(settings, status, here, peer, proxy_field(request.headers()));
    }
}

/// Tells a request who its client is that [`identify`] has seen in another form: what was not believed of it is counted already.
pub(crate) fn identify_again<T>(settings: &Settings, peer: Peer, request: &mut Request<T>) {
    if !settings.proxies.is_empty() {
        insert_client(settings, peer, request);
    }
}

/// Inserts the client. Returns the field that was not believed, if there is one.
fn insert_client<T>(settings: &Settings, peer: Peer, request: &mut Request<T>) -> Option<&'static str> {
    let Client { ip, ignored } = match peer {
        Peer::Ip(peer) => settings.proxies.client(peer.ip(), request.headers()),
        Peer::Unix => settings.proxies.client_over_unix(request.headers()),
    };
    request.extensions_mut().insert(ClientIp(ip));
    ignored
}

/// Whether a peer is a trusted proxy.
pub(crate) fn trusts(settings: &Settings, peer: Peer) -> bool {
    match peer {
        Peer::Ip(peer) => settings.proxies.trusts(peer.ip()),
        Peer::Unix => settings.proxies.trusts_unix(),
    }
}

/// What a request is called, if the server gives ids: what it says of it is believed of a trusted proxy, or where none is declared.
/// `is_named` is false if there is nothing of the kind among its fields.
#[inline]
pub(crate) fn request_id<T>(
    settings: &Settings,
    peer: impl Fn() -> Peer,
    request: &Request<T>,
    is_named: bool,
) -> Option<RequestId> {
    let is_believed = || settings.proxies.is_empty() || trusts(settings, peer());
    settings.request_ids.then(|| match is_named {
        true => RequestId::of(request.headers(), is_believed()),
        false => RequestId::made(),
    })
}

/// The client of a request that [`identify`] has seen: the peer, or whom a trusted proxy has named. IPv4-mapped is IPv4; over a Unix
/// socket a client that nobody has named is `0.0.0.0`.
pub(crate) fn client<T>(peer: Peer, request: &Request<T>) -> IpAddr {
    client_at(peer.socket_address().ip(), request)
}

/// The same, by the address of the peer; over a Unix socket that is `0.0.0.0`.
#[inline]
pub(crate) fn client_at<T>(peer: IpAddr, request: &Request<T>) -> IpAddr {
    match request.extensions().get::<ClientIp>() {
        Some(ClientIp(ip)) => *ip,
        None => peer.to_canonical(),
    }
}

/// The client as a record names it: the peer, or the address that a trusted proxy has named, without a port.
pub(crate) fn recorded<T>(peer: Peer, request: &Request<T>) -> SocketAddr {
    let (peer, client) = (peer.socket_address(), client(peer, request));
    match client == peer.ip().to_canonical() {
        true => peer,
        false => SocketAddr::new(client, 0),
    }
}

/// Whether the request after `requests` others is looked at where nobody is trusted.
fn is_looked_at(requests: u64) -> bool {
    requests < LOOKS || requests.is_multiple_of(LOOKS)
}

/// Counts a proxy's field that was not believed, and says so once.
#[inline]
fn note_ignored(
    settings: &Settings,
    status: &Status,
    here: &CoreStatus,
    peer: impl Fn() -> Peer,
    ignored: Option<&'static str>,
) {
    if let Some(field) = ignored {
        note_field(settings, status, here, peer(), field);
    }
}

#[cold]
fn note_field(settings: &Settings, status: &Status, here: &CoreStatus, peer: Peer, field: &'static str) {
    add(&here.untrusted_proxy_fields, 1);
    // Where proxies name the peer, it is a client, and nobody is to be told to trust it.
    if settings.proxy_protocol || !status.hints.begin_untrusted_proxy() {
        return;
    }
    let address = match peer {
        Peer::Ip(peer) => peer.ip().to_canonical().to_string(),
        Peer::Unix => "unix".to_owned(),
    };
    say(|| {
        tracing::warn!(
            peer = address,
            field,
            "a peer that is not trusted sends a field of proxies, which is not believed: if {address} is your proxy, set \
             TRUSTED_PROXIES={address}, or to the network that it is in; until then all of its clients count as one"
        );
    });
}

#[cfg(test)]
mod tests {
    use baiwan_limits::Proxies;

    use super::*;

    fn request(fields: &[(&'static str, &'static str)]) -> Request<()> {
        let builder = Request::builder();
        fields.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value)).body(()).unwrap()
    }

    fn peer(text: &str) -> Peer {
        match text {
            "unix" => Peer::Unix,
            _ => Peer::Ip(text.parse().unwrap()),
        }
    }

    #[test]
    fn whoever_asks_for_the_client_has_the_same_answer() {
        let trusted = Settings { proxies: "10.0.0.0/8,unix".parse().unwrap(), ..Settings::default() };
        for (settings, from, field, expected, recorded_as) in [
            (&trusted, "10.0.0.1:80", "192.0.2.1", "192.0.2.1", "192.0.2.1:0"),
            (&trusted, "10.0.0.1:80", "unknown", "10.0.0.1", "10.0.0.1:80"),
            (&trusted, "[::ffff:10.0.0.1]:80", "192.0.2.1", "192.0.2.1", "192.0.2.1:0"),
            (&trusted, "[::ffff:192.0.2.9]:80", "192.0.2.1", "192.0.2.9", "[::ffff:192.0.2.9]:80"),
            (&trusted, "unix", "2001:db8::1", "2001:db8::1", "[2001:db8::1]:0"),
            (&trusted, "unix", "", "0.0.0.0", "0.0.0.0:0"),
            (&Settings::default(), "10.0.0.1:80", "192.0.2.1", "10.0.0.1", "10.0.0.1:80"),
            (&Settings::default(), "unix", "192.0.2.1", "0.0.0.0", "0.0.0.0:0"),
        ] {
            let status = Status::new(1, 1, 1);
            let mut request = request(&[("x-forwarded-for", field)]);
            let expected: IpAddr = expected.parse().unwrap();
            identify(settings, &status, 0, || peer(from), &mut request);
            assert_eq!(client(peer(from), &request), expected, "{from} {field}");
            let inserted = request.extensions().get::<ClientIp>().copied();
            assert_eq!(inserted, (!settings.proxies.is_empty()).then_some(ClientIp(expected)), "{from} {field}");
            assert_eq!(recorded(peer(from), &request), recorded_as.parse().unwrap(), "{from} {field}");
            let counted = status.cores[0].untrusted_proxy_fields.load(Relaxed);
            request.extensions_mut().clear();
            identify_again(settings, peer(from), &mut request);
            assert_eq!(request.extensions().get::<ClientIp>().copied(), inserted, "{from} {field}");
            assert_eq!(status.cores[0].untrusted_proxy_fields.load(Relaxed), counted, "it is not counted twice");
        }
    }

    #[test]
    fn a_field_that_is_not_believed_is_counted_where_it_is_looked_for() {
        let count = |proxies: Proxies, from: &str, field: &'static str| {
            let settings = Settings { proxies, ..Settings::default() };
            let status = Status::new(1, 1, 1);
            let here = &status.cores[0];
            for _ in 0..256 {
                identify(&settings, &status, 0, || peer(from), &mut request(&[(field, "192.0.2.1")]));
                add(&here.requests, 1);
            }
            here.untrusted_proxy_fields.load(Relaxed)
        };
        assert_eq!(count(Proxies::default(), "10.0.0.1:80", "x-forwarded-for"), 64 + 3);
        assert_eq!(count(Proxies::default(), "10.0.0.1:80", "accept"), 0);
        assert_eq!(count("10.0.0.0/8".parse().unwrap(), "10.0.0.1:80", "x-forwarded-for"), 0);
        assert_eq!(count("10.0.0.0/8".parse().unwrap(), "192.0.2.1:80", "forwarded"), 256);
        assert_eq!(count("10.0.0.0/8".parse().unwrap(), "unix", "x-real-ip"), 256);
    }
}
