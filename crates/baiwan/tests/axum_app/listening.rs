//! Where a server listens, and what it says when it cannot.

use std::net::{SocketAddr, TcpListener};

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use baiwan::{Error, EventLoop};

use crate::rig::{Client, Rig, builder, eventually, server};

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
        let expected =
            format!("cannot listen on {address}: something else listens there; stop it or choose another port");
        assert_eq!(error.to_string(), expected);
    };
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    refused(&other.local_addr().unwrap().to_string());
    // Its cores share a port, but not with others.
    let rig = Rig::start(server(event_loop), app());
    refused(&rig.address());
    rig.stop();
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
    if event_loop == EventLoop::Epoll {
        assert_eq!(third.answer(false).status, 503);
    }
    // hyper has no word for it.
    third.expect_end();
    assert_eq!((first.get("/").status, second.get("/").status), (200, 200));
    drop(first);
    eventually("there is room again", || rig.health.is_ready());
    assert_eq!(rig.connect().get("/").status, 200);
    drop((second, third));
    rig.stop();
}
