//! Connections that trusted proxies begin with the PROXY protocol.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::routing::get as route_get;

use super::hostile::Warnings;
use super::rig::{Peer, Rig, get, statuses};
use crate::ClientIp;
use crate::observe::{Exchange, Observer};
use crate::settings::Settings;
use crate::status::CloseReason;

/// The peers of this network have addresses in here.
const PEERS: &str = "127.0.0.0/8";

const LINE: &str = "PROXY TCP4 192.0.2.1 198.51.100.1 56324 80\r\n";

fn binary(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u16).to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, content].concat()
}

/// From `[2001:db8::1]:80`, with an additional value.
fn binary_of_ipv6() -> Vec<u8> {
    let mut content = vec![0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    content.extend([0; 16]);
    content.extend([0, 80, 1, 187]);
    content.extend([4, 0, 2, 0, 0]);
    binary(0x21, 0x21, &content)
}

fn settings(proxies: &str) -> Settings {
    Settings { proxies: proxies.parse().unwrap(), proxy_protocol: true, ..Settings::default() }
}

/// Tells the peer, the client and the path of each request.
fn app() -> Router {
    let told = async |ConnectInfo(peer): ConnectInfo<SocketAddr>, ClientIp(client): ClientIp, request: Request| {
        format!("{peer} {client} {};", request.uri().path())
    };
    Router::new().fallback(route_get(told))
}

fn rig(proxies: &str) -> Rig {
    Rig::with_settings(app(), settings(proxies))
}

/// What the app has said, without the heads.
fn told(answers: &str) -> String {
    answers.split("\r\n\r\n").skip(1).map(|part| &part[..=part.find(';').expect("an answer of the app")]).collect()
}

async fn exchange(rig: &Rig, bytes: impl AsRef<[u8]>) -> (Peer, String) {
    let mut peer = rig.connect();
    peer.send(bytes);
    rig.settle().await;
    let answer = peer.receive();
    (peer, answer)
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_source_is_the_peer_of_every_request_of_its_connection() {
    let rig = rig(PEERS);
    for (header, source, client) in
        [(LINE.into(), "192.0.2.1:56324", "192.0.2.1"), (binary_of_ipv6(), "[2001:db8::1]:80", "2001:db8::1")]
    {
        let all = [header.as_slice(), get("/1").as_bytes(), get("/2").as_bytes()].concat();
        let (mut peer, answers) = exchange(&rig, all).await;
        assert_eq!(told(&answers), format!("{source} {client} /1;{source} {client} /2;"));
        peer.send(get("/3"));
        rig.settle().await;
        assert_eq!(told(&peer.receive()), format!("{source} {client} /3;"));
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_header_may_be_cut_anywhere() {
    let rig = rig(PEERS);
    for header in [LINE.into(), binary_of_ipv6()] {
        let all = [header.as_slice(), get("/").as_bytes()].concat();
        let expected = exchange(&rig, &all).await.1;
        assert_eq!(statuses(&expected), [200]);
        for cut in 1..all.len() {
            let mut peer = rig.connect();
            for piece in [&all[..cut], &all[cut..]] {
                peer.send(piece);
                rig.settle().await;
            }
            assert_eq!(peer.receive(), expected, "cut at {cut}");
        }
        let mut peer = rig.connect();
        for byte in &all {
            peer.send([*byte]);
            rig.settle().await;
        }
        assert_eq!(peer.receive(), expected, "byte by byte");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_header_that_names_nobody_leaves_the_proxy_as_the_peer() {
    let rig = rig(PEERS);
    let headers = [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN 192.0.2.1 198.51.100.1 56324 80\r\n".to_vec(),
        binary(0x20, 0x00, &[]),
        binary(0x20, 0x11, &[192, 0, 2, 1, 198, 51, 100, 1, 0, 80, 1, 187]),
        binary(0x21, 0x31, &[b'x'; 216]),
        binary(0x21, 0x00, &[]),
    ];
    for header in headers {
        let (_peer, answer) = exchange(&rig, [&header, get("/").as_bytes()].concat()).await;
        assert!(told(&answer).starts_with("127."), "{answer}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_trusted_proxy_must_begin_with_a_header() {
    let rig = rig(PEERS);
    for (wrong, rule) in [
        (get("/").into_bytes(), "proxy-protocol-missing"),
        (b"\r\nPROXY UNKNOWN\r\n".to_vec(), "proxy-protocol-missing"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), "proxy-protocol-missing"),
        (b"PROXY TCP4 192.0.2.1\r\n".to_vec(), "proxy-protocol-malformed"),
        (format!("PROXY UNKNOWN {}", "x".repeat(100)).into_bytes(), "proxy-protocol-malformed"),
        (binary(0x21, 0x41, &[]), "proxy-protocol-malformed"),
        ([b"\r\n\r\n\0\r\nQUIT\n\x21\x11".as_slice(), &[0xff, 0xff]].concat(), "proxy-protocol-malformed"),
    ] {
        let before = rig.counts().refused_by(rule);
        let (peer, answer) = exchange(&rig, [&wrong, get("/").as_bytes()].concat()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.ends_with(&format!("400 Bad Request: {rule}\n")), "{answer}");
        assert_eq!(rig.counts().refused_by(rule), before + 1);
        assert!(peer.is_at_end());
    }
    rig.pass(Duration::from_secs(2)).await;
    rig.assert_empty_but_endpoints();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn one_header_is_enough_and_a_second_is_refused() {
    let rig = rig(PEERS);
    let (_peer, answer) = exchange(&rig, format!("{LINE}{LINE}{}", get("/"))).await;
    assert!(answer.ends_with("400 Bad Request: proxy-protocol-unexpected\n"), "{answer}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_59_from_a_peer_that_is_not_trusted_it_is_refused_as_ever() {
    let rig = rig("10.0.0.0/8");
    for header in [LINE.into(), binary_of_ipv6()] {
        let (_peer, answer) = exchange(&rig, [header.as_slice(), get("/").as_bytes()].concat()).await;
        assert!(answer.ends_with("400 Bad Request: proxy-protocol-unexpected\n"), "{answer}");
    }
    assert_eq!(statuses(&rig.exchange(&get("/")).await), [200]);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_header_has_the_time_of_a_head_and_a_silent_proxy_that_of_an_idle_connection() {
    let rig = rig(PEERS);
    // The signature of the binary one begins with empty lines.
    for part in [&LINE.as_bytes()[..9], &binary_of_ipv6()[..14], &binary_of_ipv6()[..4]] {
        let mut peer = rig.connect();
        peer.send(part);
        rig.pass(Duration::from_millis(9_500)).await;
        assert_eq!(peer.receive(), "");
        rig.pass(Duration::from_secs(1)).await;
        assert_eq!(statuses(&peer.receive()), [408]);
    }
    assert_eq!(rig.closed(CloseReason::HeaderTimeout) + rig.counts().connections, 3);
    let (mut silent, mut named) = (rig.connect(), rig.connect());
    named.send(LINE);
    rig.pass(Duration::from_secs(70)).await;
    named.send(get("/"));
    rig.settle().await;
    assert_eq!(told(&named.receive()), "192.0.2.1:56324 192.0.2.1 /;");
    rig.pass(Duration::from_secs(6)).await;
    assert!(silent.is_at_end() && silent.receive().is_empty());
    assert_eq!(rig.closed(CloseReason::KeepAliveTimeout), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn whether_fields_are_believed_depends_on_the_source() {
    let rig = rig("127.0.0.0/8,10.0.0.0/8");
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n";
    let from = |source: &str| format!("PROXY TCP4 {source} 198.51.100.1 1 80\r\n{request}");
    let (_peer, answer) = exchange(&rig, from("192.0.2.1")).await;
    assert_eq!(told(&answer), "192.0.2.1:1 192.0.2.1 /;");
    let (_peer, answer) = exchange(&rig, from("10.0.0.1")).await;
    assert_eq!(told(&answer), "10.0.0.1:1 203.0.113.7 /;");
    assert_eq!(rig.counts().untrusted_proxy_fields, 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn records_name_the_source() {
    let clients: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
    let seen = Arc::clone(&clients);
    let observer = Observer::new(move |exchange: &Exchange<'_>| seen.lock().unwrap().push(exchange.client));
    let rig = Rig::with_settings(app(), Settings { observer: Some(observer), ..settings(PEERS) });
    let _peers = [exchange(&rig, format!("{LINE}{}", get("/"))).await, exchange(&rig, format!("{LINE}(")).await];
    rig.pass(Duration::from_secs(2)).await;
    let source: SocketAddr = "192.0.2.1:56324".parse().unwrap();
    assert_eq!(*clients.lock().unwrap(), [source, source]);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_connection_beyond_the_maximum_may_ask_for_health_behind_its_header() {
    let rig = Rig::with(app(), settings(PEERS), 1, 64 * 1024);
    let (_held, answer) = exchange(&rig, format!("{LINE}{}", get("/"))).await;
    assert_eq!(statuses(&answer), [200]);
    let (_probe, answer) = exchange(&rig, format!("{LINE}{}", get("/health/live"))).await;
    assert_eq!(told(&answer), "192.0.2.1:56324 192.0.2.1 /health/live;");
    let (_probe, answer) = exchange(&rig, format!("{LINE}{}", get("/"))).await;
    assert_eq!(statuses(&answer), [503]);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_operator_hears_once_which_peer_seems_to_be_a_proxy() {
    for proxies in ["off", "10.0.0.0/8"] {
        let warnings = Warnings::default();
        let _heard = tracing::subscriber::set_default(warnings.clone());
        let proxies = if proxies == "off" { Default::default() } else { proxies.parse().unwrap() };
        let rig = Rig::with_settings(app(), Settings { proxies, ..Settings::default() });
        rig.exchange(&get("/")).await;
        assert!(warnings.take().is_empty());
        for _ in 0..3 {
            rig.exchange("GET / HTTP/1.1\r\nHost: a\r\nX-Real-IP: 192.0.2.1\r\n\r\n").await;
            rig.pass(Duration::from_secs(61)).await;
        }
        let lines = warnings.take();
        let [line] = &lines[..] else { panic!("{lines:?}") };
        assert!(line.contains("X-Real-IP") && line.contains("set TRUSTED_PROXIES=127.0.0.1"), "{line}");
        assert_eq!(rig.counts().untrusted_proxy_fields, 3);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_record_of_a_refusal_that_ends_a_connection_names_the_client() {
    let seen: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
    let lines = Arc::clone(&seen);
    let observer = Observer::new(move |exchange: &Exchange<'_>| {
        lines.lock().unwrap().push(exchange.client);
    });
    let proxies = PEERS.parse().unwrap();
    let rig = Rig::with_settings(app(), Settings { observer: Some(observer), proxies, ..Settings::default() });
    rig.status.set_memory_pressure(rig.status.memory_pressure().next(96, 100));
    let request = "PUT / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n";
    assert_eq!(statuses(&rig.exchange(request).await), [503]);
    rig.pass(Duration::from_secs(1)).await;
    let client: SocketAddr = "203.0.113.7:0".parse().unwrap();
    assert_eq!(*seen.lock().unwrap(), [client]);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn nobody_is_told_to_trust_a_client_that_a_proxy_has_named() {
    let warnings = Warnings::default();
    let _heard = tracing::subscriber::set_default(warnings.clone());
    let rig = rig(PEERS);
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Real-IP: 203.0.113.7\r\n\r\n";
    let (_peer, answer) = exchange(&rig, format!("{LINE}{request}")).await;
    assert_eq!((statuses(&answer), rig.counts().untrusted_proxy_fields), (vec![200], 1));
    assert_eq!(warnings.take(), Vec::<String>::new());
}
