//! A `ConnectInfo` of the app's own: what it learns of a connection, and how often it is made.

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, LazyLock, Mutex, Weak};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::extract::connect_info::Connected;
use axum::routing::get;
use baiwan::{CloseReason, EventLoop, IncomingStream, axum_app};

use crate::rig::{Client, Rig, builder, eventually, server};

/// What is known of a connection, as text for those who ask.
#[derive(Clone, Debug)]
struct Facts {
    text: Arc<str>,
}

impl Connected<IncomingStream<'_>> for Facts {
    fn connect_info(stream: IncomingStream<'_>) -> Self {
        let text = match stream.is_unix() {
            false => {
                assert!(stream.peer_cred().is_err() && stream.unix_peer_addr().is_err());
                format!("from {} to {}", stream.remote_addr(), stream.local_addr().unwrap())
            }
            true => {
                assert!(stream.local_addr().is_err());
                assert!(stream.unix_peer_addr().unwrap().is_unnamed());
                let peer = stream.peer_cred().unwrap();
                let (user, process, to) = (peer.uid(), peer.pid(), stream.unix_local_addr().unwrap());
                format!("from {} {user} {process:?} to {:?}", stream.remote_addr(), to.as_pathname().unwrap())
            }
        };
        Self { text: text.into() }
    }
}

/// A router that answers with what is known of a connection.
fn telling<C: Clone + Send + Sync + 'static>(text: fn(&C) -> String) -> Router {
    let tell = move |ConnectInfo(info): ConnectInfo<C>| async move {
        tokio::task::yield_now().await;
        text(&info)
    };
    Router::new().route("/", get(tell))
}

pub(crate) fn an_app_learns_both_addresses_of_a_tcp_connection(event_loop: EventLoop) {
    let app = telling(|facts: &Facts| facts.text.to_string()).into_make_service_with_connect_info::<Facts>();
    let rig = Rig::start(server(event_loop), axum_app(app));
    let (mut one, mut other) = (rig.connect(), rig.connect());
    for client in [&mut one, &mut other] {
        let expected = format!("from {} to {}", client.local_address(), rig.address());
        assert_eq!(client.get("/").text(), expected);
        assert_eq!(client.get("/").text(), expected);
    }
    drop((one, other));
    rig.stop();
}

pub(crate) fn an_app_learns_who_is_at_the_other_end_of_a_unix_socket(event_loop: EventLoop) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let app = telling(|facts: &Facts| facts.text.to_string()).into_make_service_with_connect_info::<Facts>();
    let rig = Rig::start(builder(event_loop).bind(format!("unix:{}", path.display())), axum_app(app));
    let mut client = Client::connect_unix(&path);
    let (user, process) = (rustix::process::getuid().as_raw(), std::process::id());
    let expected = format!("from 0.0.0.0:0 {user} Some({process}) to {path:?}");
    assert_eq!(client.get("/").text(), expected);
    drop(client);
    rig.stop();
}

/// How often something was made of the connection from an address, and whether any of that is still there.
static MADE: LazyLock<Mutex<HashMap<SocketAddr, Vec<Weak<()>>>>> = LazyLock::new(Mutex::default);

fn made(client: SocketAddr) -> usize {
    MADE.lock().unwrap().get(&client).map_or(0, Vec::len)
}

#[derive(Clone, Debug)]
struct Once {
    _alive: Arc<()>,
}

impl Connected<IncomingStream<'_>> for Once {
    fn connect_info(stream: IncomingStream<'_>) -> Self {
        let alive = Arc::new(());
        MADE.lock().unwrap().entry(*stream.remote_addr()).or_default().push(Arc::downgrade(&alive));
        Self { _alive: alive }
    }
}

fn once() -> Router {
    telling(|_: &Once| "served".to_owned())
}

pub(crate) fn it_is_made_once_for_each_connection_and_ends_with_it(event_loop: EventLoop) {
    let rig = Rig::start(server(event_loop), axum_app(once().into_make_service_with_connect_info::<Once>()));
    let mut clients = [rig.connect(), rig.connect(), rig.connect()];
    for _ in 0..3 {
        for client in &mut clients {
            assert_eq!(client.get("/").text(), "served");
        }
    }
    let addresses = clients.each_ref().map(Client::local_address);
    assert_eq!(addresses.map(made), [1, 1, 1]);
    let is_there = |address| MADE.lock().unwrap()[&address].iter().any(|made| made.strong_count() > 0);
    assert_eq!(addresses.map(is_there), [true; 3]);
    drop(clients);
    eventually("what was made of connections ends with them", || addresses.map(is_there) == [false; 3]);
    rig.stop();
}

pub(crate) fn it_is_there_for_a_request_that_offers_another_protocol(event_loop: EventLoop) {
    let rig = Rig::start(server(event_loop), axum_app(once().into_make_service_with_connect_info::<Once>()));
    for before in [0, 1] {
        let mut client = rig.connect();
        for _ in 0..before {
            assert_eq!(client.get("/").text(), "served");
        }
        assert_eq!(client.ask("GET", "/", "Connection: upgrade\r\nUpgrade: foo\r\n", "").text(), "served");
        assert_eq!(made(client.local_address()), 1, "after {before} requests");
    }
    rig.stop();
}

/// The servers at which it cannot be made.
static FAILING: LazyLock<Mutex<HashSet<SocketAddr>>> = LazyLock::new(Mutex::default);

#[derive(Clone, Debug)]
struct Fails;

impl Connected<IncomingStream<'_>> for Fails {
    fn connect_info(stream: IncomingStream<'_>) -> Self {
        let fails = FAILING.lock().unwrap().contains(&stream.local_addr().unwrap());
        assert!(!fails, "asked for");
        Self
    }
}

pub(crate) fn a_panic_in_making_it_costs_that_connection_alone(event_loop: EventLoop) {
    let app = telling(|_: &Fails| "served".to_owned()).into_make_service_with_connect_info::<Fails>();
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = Arc::clone(&told);
    let builder = server(event_loop).observe(move |exchange| {
        let (method, status) =
            (exchange.method.map(ToString::to_string), exchange.status.map(|status| status.as_u16()));
        telling.lock().unwrap().push((method, status));
    });
    let rig = Rig::start(builder, axum_app(app));
    let mut bystander = rig.connect();
    assert_eq!(bystander.get("/").text(), "served");
    FAILING.lock().unwrap().insert(rig.address().parse().unwrap());
    for _ in 0..2 {
        let mut client = rig.connect();
        // The portable event loop makes it when the connection comes, before there is a request to answer.
        if event_loop == EventLoop::Epoll {
            assert_eq!(client.get("/").status, 500);
        }
        let _ = client.sender().shutdown(std::net::Shutdown::Write);
        client.expect_end();
    }
    eventually("both connections are counted", || rig.health.counts().closed_by(CloseReason::HandlerFailed) == 2);
    assert_eq!(rig.health.counts().handler_panics, 2);
    assert_eq!(bystander.get("/").text(), "served");
    let failed = if event_loop == EventLoop::Epoll { 2 } else { 0 };
    assert_eq!(rig.health.counts().requests, failed + 2);
    drop(bystander);
    rig.stop();
    let mut told = std::mem::take(&mut *told.lock().unwrap());
    told.sort();
    let get = |status| (Some("GET".to_owned()), Some(status));
    assert_eq!(told, [vec![get(200); 2], vec![get(500); failed as usize]].concat());
}

/// The engine alone: the portable event loop makes it when the connection comes.
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
#[test]
fn an_offer_of_another_protocol_whose_connect_info_panics_is_answered_as_its_method_wants() {
    let app = telling(|_: &Fails| "served".to_owned()).into_make_service_with_connect_info::<Fails>();
    let rig = Rig::start(server(EventLoop::Epoll), axum_app(app));
    FAILING.lock().unwrap().insert(rig.address().parse().unwrap());
    for method in ["GET", "HEAD"] {
        let mut client = rig.connect();
        assert_eq!(client.ask(method, "/", "Connection: upgrade\r\nUpgrade: foo\r\n", "").status, 500);
        client.expect_end();
    }
    eventually("both are counted", || rig.health.counts().closed_by(CloseReason::HandlerFailed) == 2);
    assert_eq!((rig.health.counts().requests, rig.health.counts().handler_panics), (2, 2));
    rig.stop();
}

/// Panics when its connection is over.
#[derive(Clone)]
struct Falls(#[allow(dead_code, reason = "it is only dropped")] Arc<Fall>);

struct Fall;

impl Drop for Fall {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "asked for");
    }
}

impl Connected<IncomingStream<'_>> for Falls {
    fn connect_info(_: IncomingStream<'_>) -> Self {
        Self(Arc::new(Fall))
    }
}

pub(crate) fn a_panic_when_it_is_dropped_costs_neither_others_nor_the_stop(event_loop: EventLoop) {
    let app = telling(|_: &Falls| "served".to_owned()).into_make_service_with_connect_info::<Falls>();
    let rig = Rig::start(server(event_loop).shutdown_timeout(Duration::from_millis(100)), axum_app(app));
    let (mut one, mut other) = (rig.connect(), rig.connect());
    assert_eq!(one.get("/").text(), "served");
    assert_eq!(other.get("/").text(), "served");
    drop(one);
    eventually("one is gone", || rig.health.connections() == 1);
    assert_eq!(other.get("/").text(), "served");
    let health = rig.health.clone();
    rig.begin_stop().join().unwrap().unwrap();
    assert_eq!((health.connections(), health.counts().core_panics), (0, 0));
    drop(other);
}

#[derive(Clone, Debug)]
struct NoDelay(bool);

impl Connected<IncomingStream<'_>> for NoDelay {
    fn connect_info(stream: IncomingStream<'_>) -> Self {
        let socket = TcpStream::from(stream.as_fd().try_clone_to_owned().unwrap());
        Self(socket.nodelay().unwrap())
    }
}

fn nodelay() -> Router {
    telling(|NoDelay(on): &NoDelay| on.to_string())
}

pub(crate) fn answers_leave_at_once_unless_the_builder_says_otherwise(event_loop: EventLoop) {
    for (builder, expected) in [(server(event_loop), "true"), (server(event_loop).tcp_nodelay(false), "false")] {
        let rig = Rig::start(builder, axum_app(nodelay().into_make_service_with_connect_info::<NoDelay>()));
        assert_eq!(rig.connect().get("/").text(), expected);
        rig.stop();
    }
}

#[test]
fn answers_leave_at_once_unless_serve_is_told_otherwise() {
    for on in [true, false] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let app = nodelay().into_make_service_with_connect_info::<NoDelay>();
        let server = baiwan::serve(listener, app).tcp_nodelay(on);
        let mut client = Client::connect(&server.local_addr().unwrap().to_string());
        let serving = crate::serving::Serving::start(server);
        assert_eq!(client.get("/").text(), on.to_string());
        drop(client);
        serving.stop();
    }
}

/// The engine alone: the portable event loop makes it when the connection comes.
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
#[test]
fn nothing_is_made_of_a_connection_that_asks_for_nothing() {
    let app = once().into_make_service_with_connect_info::<Once>();
    let rig = Rig::start(server(EventLoop::Epoll), axum_app(app));
    let mut idle = rig.connect();
    eventually("it is accepted", || rig.health.connections() == 1);
    assert_eq!(rig.connect().get("/").text(), "served", "others are served meanwhile");
    assert_eq!(made(idle.local_address()), 0);
    assert_eq!(idle.get("/").text(), "served");
    assert_eq!(made(idle.local_address()), 1);
    drop(idle);
    rig.stop();
}

fn route_told<A: baiwan::App + Send>(event_loop: EventLoop, app: A) -> Vec<String> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = Arc::clone(&told);
    let builder = server(event_loop).observe(move |exchange| telling.lock().unwrap().push(exchange.route.to_owned()));
    let rig = Rig::start(builder, app);
    assert_eq!(rig.connect().get("/users/7").text(), "a user");
    rig.stop();
    std::mem::take(&mut *told.lock().unwrap())
}

pub(crate) fn the_record_has_the_route_of_a_router_inside_of_what_axum_serves(event_loop: EventLoop) {
    let router = || Router::new().route("/users/{id}", get(|| async { "a user" }));
    assert_eq!(route_told(event_loop, axum_app(router())), ["/users/{id}"]);
    assert_eq!(route_told(event_loop, axum_app(router().into_make_service())), ["/users/{id}"]);
    let app = router().layer(baiwan::RouteLayer).into_make_service_with_connect_info::<SocketAddr>();
    assert_eq!(route_told(event_loop, axum_app(app)), ["/users/{id}"]);
}
