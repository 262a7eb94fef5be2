//! Where a server listens, and what it says when it cannot.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use baiwan::{Builder, Error, EventLoop};

use crate::rig::{Client, PATIENCE, Rig, builder, eventually, server};

/// What a connection beyond the maximum is told.
const TURNED_AWAY: &str = "503 Service Unavailable: too-many-connections\n";

pub(crate) fn app() -> Router {
    Router::new().route("/", get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() }))
}

pub(crate) fn a_unix_socket_is_served(event_loop: EventLoop) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let address = format!("unix:{}", path.display());
    let rig = Rig::start(builder(event_loop).workers(2).bind(&address), app());
    assert_eq!(rig.address(), address);
    let mut clients: Vec<_> = (0..4).map(|_| Client::connect_unix(&path)).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").text(), "0.0.0.0");
    }
    drop(clients);
    rig.stop();
}

pub(crate) fn the_file_of_a_unix_socket_has_its_mode_and_goes_with_the_stop(event_loop: EventLoop) {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let bind = |name: &str| builder(event_loop).workers(2).bind(format!("unix:{}", at(name).display()));
    let rig = Rig::start(bind("socket").bind_mode(0o660), app());
    assert_eq!(std::fs::metadata(at("socket")).unwrap().permissions().mode() & 0o777, 0o660);
    assert_eq!(Client::connect_unix(&at("socket")).get("/").status, 200);
    rig.stop();
    assert!(!at("socket").exists());
    // Another server's, in its place, stays.
    let rig = Rig::start(bind("socket"), app());
    std::fs::remove_file(at("socket")).unwrap();
    let other = UnixListener::bind(at("socket")).unwrap();
    rig.stop();
    assert!(at("socket").exists());
    drop(other);
    // So does the file of a socket that was handed in.
    let given = UnixListener::bind(at("given")).unwrap();
    Rig::start(builder(event_loop).listener(given), app()).stop();
    assert!(at("given").exists());
    // A server that was dropped, or does not start, leaves none.
    drop(bind("dropped").start(app()).unwrap());
    assert!(bind("refused").bind("unix:/nowhere/socket").start(app()).is_err());
    assert!(!at("dropped").exists() && !at("refused").exists());
    assert!(line(bind("mode").bind_mode(0o444)).starts_with("BIND_MODE is \"0444\"; allowed is a 0 and three octal"));
}

pub(crate) fn a_socket_that_cannot_be_served_is_named(event_loop: EventLoop) {
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let said = line(builder(event_loop).listener(datagrams));
    assert!(said.starts_with("cannot listen on the given socket: it is a datagram socket"), "{said}");
    let file = std::fs::File::open("/dev/null").unwrap();
    assert!(line(builder(event_loop).listener(file)).ends_with("it is no socket"));
}

pub(crate) fn a_socket_that_listens_already_is_taken_over(event_loop: EventLoop) {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let unix = UnixListener::bind(&path).unwrap();
    // It waits in the backlog of a socket that nobody serves yet.
    let mut early = Client::connect(&address);
    early.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let rig = Rig::start(builder(event_loop).workers(2).listener(tcp).listener(unix), app());
    assert_eq!(rig.address(), address);
    assert_eq!(early.answer(false).text(), "127.0.0.1");
    assert_eq!(rig.connect().get("/").text(), "127.0.0.1");
    assert_eq!(Client::connect_unix(&path).get("/").text(), "0.0.0.0");
    drop(early);
    rig.stop();
}

/// Keeps one core from its loop, and asks on a new connection.
fn expect_the_other_core<S: Read + Write>(
    connect: impl Fn() -> Client<S>,
    holding: &Receiver<()>,
    go: &SyncSender<()>,
) {
    let mut held = connect();
    let core = held.get("/").text().to_owned();
    held.send("GET /hold HTTP/1.1\r\nHost: test\r\n\r\n");
    holding.recv_timeout(PATIENCE).unwrap();
    assert_ne!(connect().get("/").text(), core);
    go.send(()).unwrap();
    assert_eq!(held.answer(false).text(), core);
}

pub(crate) fn each_core_serves_a_listener_that_they_share(event_loop: EventLoop) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let (tell_holding, holding) = mpsc::sync_channel(1);
    let (go, wait_for_go) = mpsc::sync_channel(1);
    let wait_for_go = Arc::new(Mutex::new(wait_for_go));
    let app = move |core: usize| {
        let (tell_holding, wait_for_go) = (tell_holding.clone(), Arc::clone(&wait_for_go));
        let hold = async move || {
            tell_holding.send(()).unwrap();
            // The test has failed if nobody is there to say so.
            let _ = wait_for_go.lock().unwrap().recv();
            core.to_string()
        };
        Router::new().route("/", get(async move || core.to_string())).route("/hold", get(hold))
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let builder = builder(event_loop).workers(2).listener(listener).bind(format!("unix:{}", path.display()));
    let rig = Rig::start_with(builder, app);
    expect_the_other_core(|| Client::connect(&address), &holding, &go);
    expect_the_other_core(|| Client::connect_unix(&path), &holding, &go);
    rig.stop();
}

pub(crate) fn the_ipv6_wildcard_serves_both_versions(event_loop: EventLoop) {
    let rig = Rig::start(builder(event_loop).bind("[::]:0"), app());
    let port = rig.address().parse::<SocketAddr>().unwrap().port();
    assert_eq!(Client::connect(&format!("[::1]:{port}")).get("/").text(), "::1");
    let four = Client::connect(&format!("127.0.0.1:{port}")).get("/");
    assert!(["127.0.0.1", "::ffff:127.0.0.1"].contains(&four.text()), "{}", four.text());
    rig.stop();
}

pub(crate) fn both_wildcards_serve_a_port_together(event_loop: EventLoop) {
    let port = free_port();
    for addresses in [["0.0.0.0", "[::]"], ["[::]", "0.0.0.0"]] {
        let builder = addresses
            .iter()
            .fold(builder(event_loop).workers(2), |builder, address| builder.bind(format!("{address}:{port}")));
        let rig = Rig::start(builder, app());
        assert_eq!(Client::connect(&format!("[::1]:{port}")).get("/").text(), "::1");
        assert_eq!(Client::connect(&format!("127.0.0.1:{port}")).get("/").text(), "127.0.0.1", "not mapped to IPv6");
        rig.stop();
    }
}

/// What a server says that cannot start.
pub(crate) fn line(builder: Builder) -> String {
    let line = builder.start(app()).unwrap_err().to_string();
    assert_eq!(line.lines().count(), 1, "{line}");
    line
}

/// A port that nobody has, and that the system gives to nobody who asks for any: it is below those.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + std::process::id() as u16 % 8_000;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("::", port)).is_ok() {
            return port;
        }
    }
}

pub(crate) fn an_address_that_another_one_covers_is_called_so(event_loop: EventLoop) {
    let free = free_port();
    for (all, one, what) in
        [("[::]", "127.0.0.1", "IPv4"), ("[::]", "[::1]", "[::1]:PORT"), ("0.0.0.0", "127.0.0.1", "127.0.0.1:PORT")]
    {
        let (all, one) = (format!("{all}:{free}"), format!("{one}:{free}"));
        let what = what.replace("PORT", &free.to_string());
        let expected = format!("{all} serves {what} too: leave {one} out");
        assert_eq!(line(builder(event_loop).bind(&all).bind(&one)), expected);
        assert_eq!(line(builder(event_loop).bind(&one).bind(&all)), expected, "the other way round");
    }
}

pub(crate) fn an_unknown_host_is_not_called_a_wrong_address(event_loop: EventLoop) {
    let host = format!("{}:80", "x".repeat(64));
    let said = line(builder(event_loop).bind(&host));
    assert!(said.starts_with(&format!("cannot listen on {host}: its host is not known: ")), "{said}");
    assert!(line(builder(event_loop).bind("localhost")).contains("write HOST:PORT"));
}

pub(crate) fn running_inside_a_runtime_is_an_error(event_loop: EventLoop) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(async { server(event_loop).run(app()) }).unwrap_err();
    assert!(matches!(error, Error::BlockingInRuntime), "{error:?}");
    assert_eq!(error.to_string().lines().count(), 1);
}

pub(crate) fn one_connection_too_many_is_not_served(event_loop: EventLoop) {
    let rig = Rig::start(server(event_loop).max_connections(2), app());
    let (mut first, mut second) = (rig.connect(), rig.connect());
    assert_eq!((first.get("/").status, second.get("/").status), (200, 200));
    assert!(!rig.health.is_ready(), "a load balancer should look elsewhere");
    let mut third = rig.connect();
    let health = third.get("/health/");
    assert_eq!(
        (health.status, health.field("connection")),
        (404, Some("close")),
        "the app is asked for the health alone"
    );
    let _ = third.sender().shutdown(Shutdown::Write);
    third.expect_end();
    let mut fourth = rig.connect();
    let turned_away = fourth.get("/");
    assert_eq!((turned_away.status, turned_away.field("connection")), (503, Some("close")));
    assert_eq!((turned_away.text(), turned_away.field("retry-after")), (TURNED_AWAY, Some("1")));
    let _ = fourth.sender().shutdown(Shutdown::Write);
    fourth.expect_end();
    assert_eq!((first.get("/").status, second.get("/").status), (200, 200));
    drop(first);
    eventually("there is room again", || rig.health.is_ready());
    assert_eq!(rig.connect().get("/").status, 200);
    drop((second, third, fourth));
    rig.stop();
}
