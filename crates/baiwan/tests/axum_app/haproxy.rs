//! HAProxy in front of the server: what it says of its clients is what the app is told. Left out where it is not installed, unless `CI` is
//! in the environment.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use axum::Router;
use axum::routing::get;
use baiwan::{ClientIp, EventLoop};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::rig::{Client, Rig, eventually, server};

/// Where the client connects from; the proxy connects from 127.0.0.1.
const CLIENT: &str = "127.0.0.9";

/// How it listens: its mode, and what it does with the connection to the server.
const LISTENERS: [(&str, &str); 4] = [
    ("mode tcp", "send-proxy"),
    ("mode tcp", "send-proxy-v2"),
    ("mode tcp", "send-proxy-v2 proxy-v2-options crc32c"),
    // Its own checks are LOCAL.
    ("mode tcp\n  option httpchk GET /", "send-proxy-v2 check inter 50ms"),
];

/// A running HAProxy, ended when it is dropped.
struct Proxy {
    child: Child,
    ports: Vec<u16>,
    _configuration: tempfile::NamedTempFile,
}

impl Proxy {
    /// In front of `server`, a listener for each of `listeners`. `None` if there is no HAProxy.
    fn start(server: &str, listeners: &[(&str, &str)]) -> Option<Self> {
        let version = Command::new("haproxy").arg("-v").stdout(Stdio::null()).status();
        if !version.is_ok_and(|status| status.success()) {
            assert!(std::env::var_os("CI").is_none(), "haproxy is not installed");
            return None;
        }
        loop {
            // Somebody else may take one of the ports before HAProxy does; then there are others.
            let free: Vec<_> = listeners.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
            let ports: Vec<u16> = free.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
            drop(free);
            let configuration = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(&configuration, configured(server, listeners, &ports)).unwrap();
            let mut command = Command::new("haproxy");
            command.arg("-db").arg("-f").arg(configuration.path()).stdin(Stdio::null());
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let mut proxy = Self { child, ports, _configuration: configuration };
            if proxy.has_begun() {
                return Some(proxy);
            }
        }
    }

    /// Waits until it listens. `false` if it has ended instead.
    fn has_begun(&mut self) -> bool {
        let mut ended = false;
        let address = SocketAddr::from(([127, 0, 0, 1], *self.ports.last().expect("it has a listener")));
        eventually("HAProxy listens", || {
            ended = self.child.try_wait().unwrap().is_some();
            ended || TcpStream::connect(address).is_ok()
        });
        !ended
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configured(server: &str, listeners: &[(&str, &str)], ports: &[u16]) -> String {
    let timeouts = "defaults\n  timeout connect 30s\n  timeout client 30s\n  timeout server 30s\n";
    let mut configuration = timeouts.to_owned();
    for ((mode, options), port) in listeners.iter().zip(ports) {
        let listener = format!("listen on{port}\n  {mode}\n  bind 127.0.0.1:{port}\n  server one {server} {options}\n");
        configuration.write_str(&listener).unwrap();
    }
    configuration
}

/// Connects from [`CLIENT`].
fn connect_to(port: u16) -> Client<TcpStream> {
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&fd, &format!("{CLIENT}:0").parse::<SocketAddr>().unwrap()).unwrap();
    connect(&fd, &SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
    let stream = TcpStream::from(fd);
    Client::over_tcp(stream)
}

fn app() -> Router {
    Router::new().route("/", get(async |ClientIp(address): ClientIp| address.to_string()))
}

#[test]
fn a_client_behind_haproxy_is_known_by_the_proxy_protocol() {
    let builder = server(EventLoop::Epoll).trusted_proxies("127.0.0.1".parse().unwrap()).proxy_protocol(true);
    let rig = Rig::start(builder, app());
    let Some(proxy) = Proxy::start(&rig.address(), &LISTENERS) else { return };
    for (port, (_, options)) in proxy.ports.iter().zip(LISTENERS) {
        let mut client = connect_to(*port);
        for _ in 0..2 {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.answer(false).text(), CLIENT, "{options}");
        }
    }
    let requests = rig.health.counts().requests;
    eventually("the proxy checks the server again", || rig.health.counts().requests > requests);
    let counts = rig.health.counts();
    let refused = counts.refused_by("proxy-protocol-missing") + counts.refused_by("proxy-protocol-malformed");
    assert_eq!(refused, 0);
    drop(proxy);
    rig.stop();
}

#[test]
fn a_client_behind_haproxy_is_known_by_its_field() {
    for event_loop in [EventLoop::Epoll, EventLoop::Portable] {
        let builder = server(event_loop).trusted_proxies("127.0.0.1".parse().unwrap());
        let rig = Rig::start(builder, app());
        let Some(proxy) = Proxy::start(&rig.address(), &[("mode http\n  option forwardfor", "")]) else { return };
        let mut client = connect_to(proxy.ports[0]);
        // It adds a line of its own, and passes on the one of its client.
        client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n\r\n");
        assert_eq!(client.answer(false).text(), CLIENT);
        drop((client, proxy));
        rig.stop();
    }
}
