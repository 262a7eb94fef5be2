//! Where a server listens, and what it says when it cannot.

use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use baiwan::{Builder, Error, EventLoop};

use crate::rig::{Client, Rig, builder, eventually, server};

/// What a connection beyond the maximum is told.
const TURNED_AWAY: &str = "503 Service Unavailable: too-many-connections\n";

fn app() -> Router {
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

pub(crate) fn a_socket_that_listens_already_is_taken_over(event_loop: EventLoop) {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
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

pub(crate) fn the_ipv6_wildcard_serves_both_versions(event_loop: EventLoop) {
    let rig = Rig::start(builder(event_loop).bind("[::]:0"), app());
    let port = rig.address().parse::<SocketAddr>().unwrap().port();
    assert_eq!(Client::connect(&format!("[::1]:{port}")).get("/").text(), "::1");
    let four = Client::connect(&format!("127.0.0.1:{port}")).get("/");
    assert!(["127.0.0.1", "::ffff:127.0.0.1"].contains(&four.text()), "{}", four.text());
    rig.stop();
}

pub(crate) fn an_address_in_use_is_one_clear_line(event_loop: EventLoop) {
    let refused = |address: &str| {
        let error = builder(event_loop).bind(address).start(app()).unwrap_err();
        assert!(matches!(error, Error::Listen { .. }), "{error:?}");
        let said = error.to_string();
        assert!(
            said.starts_with(&format!("cannot listen on {address}: the port is in use (`ss -ltnp` shows")),
            "{said}"
        );
        assert!(said.ends_with("choose another port"), "{said}");
    };
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    refused(&other.local_addr().unwrap().to_string());
    // Its cores share a port, but not with others.
    let rig = Rig::start(server(event_loop), app());
    refused(&rig.address());
    rig.stop();
}

pub(crate) fn an_abstract_socket_is_served(event_loop: EventLoop) {
    let name = format!("baiwan-{}-{}", event_loop.name(), std::process::id());
    let address = format!("unix:@{name}");
    let rig = Rig::start(builder(event_loop).workers(2).bind(&address), app());
    assert_eq!(rig.address(), address);
    assert!(!std::path::Path::new(&format!("@{name}")).exists(), "it has no file");
    assert_eq!(Client::connect_abstract(&name).get("/").text(), "0.0.0.0");
    let refused = line(builder(event_loop).bind(&address));
    assert!(refused.ends_with("stop it or listen elsewhere"), "{refused}");
    rig.stop();
}

/// What a server says that cannot start.
fn line(builder: Builder) -> String {
    let line = builder.start(app()).unwrap_err().to_string();
    assert_eq!(line.lines().count(), 1, "{line}");
    line
}

pub(crate) fn at_a_path_a_dead_socket_is_replaced_and_nothing_else(event_loop: EventLoop) {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let bind = |name: &str| builder(event_loop).bind(format!("unix:{}", at(name).display()));
    std::fs::write(at("file"), "precious").unwrap();
    std::fs::create_dir(at("directory")).unwrap();
    for name in ["file", "directory"] {
        let said = line(bind(name));
        assert!(said.contains(&format!("{} is a {name}, and no socket", at(name).display())), "{said}");
    }
    assert_eq!(std::fs::read_to_string(at("file")).unwrap(), "precious");
    drop(std::os::unix::net::UnixListener::bind(at("dead")).unwrap());
    let rig = Rig::start(bind("dead"), app());
    assert_eq!(Client::connect_unix(&at("dead")).get("/").status, 200);
    let said = line(bind("dead"));
    assert!(said.contains("another program listens there"), "{said}");
    assert_eq!(Client::connect_unix(&at("dead")).get("/").status, 200, "it was left alone");
    rig.stop();
    assert!(line(bind("nowhere/socket")).contains("the folder for the socket does not exist"));
    assert!(line(bind(&"x".repeat(200))).contains("107 bytes"));
}

/// A port that nobody has, and that the system gives to nobody who asks for any: it is below those.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + std::process::id() as u16 % 8_000;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("::", port)).is_ok() {
            return port;
        }
    }
}

pub(crate) fn an_address_that_is_given_twice_is_called_so(event_loop: EventLoop) {
    let free = free_port();
    let both = |one: &str, other: &str| line(builder(event_loop).bind(one).bind(other));
    let (number, mapped) = (format!("127.0.0.1:{free}"), format!("[::ffff:127.0.0.1]:{free}"));
    assert_eq!(both(&number, &number), format!("{number} is given twice: leave one out"));
    let said = both(&number, &mapped);
    assert_eq!(said, format!("{mapped} is given twice, the other time as {number}: leave one out"));
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| format!("unix:{}/{name}", directory.path().display());
    let said = both(&path("a"), &path("./a"));
    assert_eq!(said, format!("{} is given twice, the other time as {}: leave one out", path("./a"), path("a")));
    let name = format!("unix:@baiwan-twice-{}-{}", event_loop.name(), std::process::id());
    assert_eq!(both(&name, &name), format!("{name} is given twice: leave one out"));
    // Port 0 is another port each time.
    drop(builder(event_loop).bind("127.0.0.1:0").bind("127.0.0.1:0").start(app()).unwrap());
}

pub(crate) fn an_address_that_another_one_covers_is_called_so(event_loop: EventLoop) {
    let free = free_port();
    for (all, one, what) in [
        ("[::]", "0.0.0.0", "IPv4"),
        ("[::]", "127.0.0.1", "IPv4"),
        ("[::]", "[::1]", "[::1]:PORT"),
        ("0.0.0.0", "127.0.0.1", "127.0.0.1:PORT"),
    ] {
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
