//! Who the client is: for handlers, records and counts, with and without proxies that are trusted.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::ws::WebSocketUpgrade;
use axum::routing::get;
use baiwan::{Builder, ClientIp, EventLoop};

use crate::rig::{Client, Rig, builder, eventually, server};

/// Offers a WebSocket.
const OFFER: &str = "Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Tells each client its address.
fn app() -> Router {
    let address = async |ClientIp(address): ClientIp| address.to_string();
    let switch = async |ClientIp(address): ClientIp, upgrade: WebSocketUpgrade| {
        upgrade.protocols([address.to_string()]).on_upgrade(async |_| {})
    };
    Router::new().route("/", get(address)).route("/switch", get(switch))
}

fn trusting(event_loop: EventLoop, proxies: &str) -> Builder {
    server(event_loop).trusted_proxies(proxies.parse().unwrap())
}

/// What the app says to a request with these field lines.
fn told<S: Read + Write>(client: &mut Client<S>, fields: &str) -> String {
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    client.answer(false).text().to_owned()
}

pub(crate) fn a_handler_and_a_record_name_the_client_behind_a_trusted_proxy(event_loop: EventLoop) {
    let seen: Arc<Mutex<Vec<(IpAddr, bool)>>> = Arc::default();
    let records = Arc::clone(&seen);
    let builder = trusting(event_loop, "127.0.0.0/8").observe(move |exchange| {
        records.lock().unwrap().push((exchange.client.ip(), exchange.client.port() > 0));
    });
    let rig = Rig::start(builder, app());
    let mut client = rig.connect();
    assert_eq!(told(&mut client, "X-Forwarded-For: 6.6.6.6, 192.0.2.1\r\n"), "192.0.2.1");
    assert_eq!(told(&mut client, "X-Forwarded-For: 192.0.2.2\r\nX-Forwarded-For: 127.0.0.9\r\n"), "192.0.2.2");
    assert_eq!(told(&mut client, "Forwarded: for=\"[2001:db8::1]:80\"\r\n"), "2001:db8::1");
    assert_eq!(told(&mut client, ""), "127.0.0.1");
    eventually("every exchange has a record", || seen.lock().unwrap().len() == 4);
    let records: Vec<_> = seen.lock().unwrap().iter().map(|(ip, port)| (ip.to_string(), *port)).collect();
    let expected = [("192.0.2.1", false), ("192.0.2.2", false), ("2001:db8::1", false), ("127.0.0.1", true)];
    assert_eq!(records, expected.map(|(ip, port)| (ip.to_owned(), port)));
    assert_eq!(rig.health.counts().untrusted_proxy_fields, 0);
    drop(client);
    rig.stop();
}

pub(crate) fn a_request_that_offers_another_protocol_knows_its_client(event_loop: EventLoop) {
    let rig = Rig::start(trusting(event_loop, "127.0.0.1"), app());
    let mut client = rig.connect();
    let offer = format!("{OFFER}Sec-WebSocket-Protocol: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.1\r\n");
    client.send(format!("GET /switch HTTP/1.1\r\n{offer}\r\n"));
    let answer = client.answer(false);
    assert_eq!((answer.status, answer.field("sec-websocket-protocol")), (101, Some("192.0.2.1")));
    drop(client);
    rig.stop();
}

pub(crate) fn a_named_field_is_the_only_one(event_loop: EventLoop) {
    let builder = trusting(event_loop, "127.0.0.1").client_ip_header("cf-connecting-ip".parse().unwrap());
    let rig = Rig::start(builder, app());
    let mut client = rig.connect();
    assert_eq!(told(&mut client, "CF-Connecting-IP: 192.0.2.1\r\nX-Forwarded-For: 6.6.6.6\r\n"), "192.0.2.1");
    assert_eq!(told(&mut client, "X-Forwarded-For: 6.6.6.6\r\n"), "127.0.0.1");
    drop(client);
    rig.stop();
}

pub(crate) fn row_59_what_an_untrusted_peer_says_of_the_client_is_counted_and_not_believed(event_loop: EventLoop) {
    for builder in [server(event_loop), trusting(event_loop, "10.0.0.0/8")] {
        let rig = Rig::start(builder, app());
        let mut client = rig.connect();
        assert_eq!(told(&mut client, "X-Forwarded-For: 10.0.0.1\r\n"), "127.0.0.1");
        assert_eq!(told(&mut client, "Forwarded: for=192.0.2.1\r\n"), "127.0.0.1");
        assert_eq!(told(&mut client, ""), "127.0.0.1");
        assert_eq!(rig.health.counts().untrusted_proxy_fields, 2);
        drop(client);
        rig.stop();
    }
}

pub(crate) fn a_proxy_over_a_unix_socket_is_believed_if_it_is_trusted(event_loop: EventLoop) {
    let folder = tempfile::tempdir().unwrap();
    for (proxies, expected) in [("unix", "192.0.2.1"), ("10.0.0.0/8", "0.0.0.0")] {
        let path = folder.path().join("socket");
        let builder = builder(event_loop).bind(format!("unix:{}", path.display()));
        let rig = Rig::start(builder.trusted_proxies(proxies.parse().unwrap()), app());
        let mut client = Client::connect_unix(&path);
        assert_eq!(told(&mut client, "X-Forwarded-For: 192.0.2.1\r\n"), expected);
        assert_eq!(told(&mut client, ""), "0.0.0.0");
        drop(client);
        rig.stop();
    }
}

pub(crate) fn a_field_of_proxies_needs_a_proxy(event_loop: EventLoop) {
    let named = server(event_loop).client_ip_header("x-real-ip".parse().unwrap());
    let error = named.start(app()).unwrap_err().to_string();
    assert!(error.contains("CLIENT_IP_HEADER is \"x-real-ip\"") && error.contains("TRUSTED_PROXIES"), "{error}");
}

/// What comes before anything else, as only the engine reads it.
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod proxy_protocol {
    use super::*;

    const HEADER: &str = "PROXY TCP4 192.0.2.1 198.51.100.1 56324 80\r\n";

    fn proxied(builder: Builder, proxies: &str) -> Rig {
        Rig::start(builder.trusted_proxies(proxies.parse().unwrap()).proxy_protocol(true), app())
    }

    #[test]
    fn a_proxy_says_first_who_has_connected_to_it() {
        let rig = proxied(server(EventLoop::Epoll), "127.0.0.1");
        let mut client = rig.connect();
        client.send(&HEADER[..17]);
        client.send(&HEADER[17..]);
        assert_eq!(told(&mut client, ""), "192.0.2.1");
        // Whoever is behind the proxy is no proxy.
        assert_eq!(told(&mut client, "X-Forwarded-For: 6.6.6.6\r\n"), "192.0.2.1");
        let mut silent = rig.connect();
        assert_eq!(told(&mut silent, ""), "400 Bad Request: proxy-protocol-missing\n");
        drop((client, silent));
        rig.stop();
    }

    #[test]
    fn a_connection_over_a_unix_socket_may_switch_behind_its_header() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let rig = proxied(builder(EventLoop::Epoll).bind(format!("unix:{}", path.display())), "unix");
        let mut client = Client::connect_unix(&path);
        client.send(HEADER);
        assert_eq!(told(&mut client, ""), "192.0.2.1");
        client.send(format!("GET /switch HTTP/1.1\r\n{OFFER}Sec-WebSocket-Protocol: 192.0.2.1\r\n\r\n"));
        let answer = client.answer(false);
        assert_eq!((answer.status, answer.field("sec-websocket-protocol")), (101, Some("192.0.2.1")));
        drop(client);
        rig.stop();
    }

    #[test]
    fn it_needs_a_proxy_and_the_engine() {
        let error = |builder: Builder| builder.proxy_protocol(true).start(app()).unwrap_err().to_string();
        let lonely = error(server(EventLoop::Epoll));
        assert!(lonely.contains("PROXY_PROTOCOL is \"on\"") && lonely.contains("TRUSTED_PROXIES"), "{lonely}");
        let portable = error(trusting(EventLoop::Portable, "127.0.0.1"));
        assert!(portable.contains("PROXY_PROTOCOL is \"on\"") && portable.contains("EVENT_LOOP"), "{portable}");
    }
}
