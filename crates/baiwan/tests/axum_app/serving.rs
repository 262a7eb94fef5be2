//! `baiwan::serve` in the place of `axum::serve`: what it listens on, what it serves, how it ends.

use std::future::IntoFuture;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::extract::{ConnectInfo, Request};
use axum::handler::{Handler, HandlerWithoutStateExt};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::get;
use axum::{Router, ServiceExt};
use baiwan::{App, IntoApp, Listen, Serve, serve};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, oneshot};
use tower::{Layer, service_fn};
use tower_http::normalize_path::NormalizePathLayer;

use crate::rig::{Client, eventually};

fn router() -> Router {
    Router::new().route("/", get(|| async { "served" }))
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A server that runs, and how to stop it.
pub(crate) struct Serving {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<io::Result<()>>,
}

impl Serving {
    pub(crate) fn start<Address>(server: Serve<Address>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let server = server.with_graceful_shutdown(async {
            // A sender that is gone says the same.
            let _ = stopped.await;
        });
        let serving = server.into_future();
        Self { stop, thread: std::thread::spawn(|| runtime().block_on(serving)) }
    }

    pub(crate) fn stop(self) {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap().unwrap();
    }
}

/// Serves one request of a client that has connected before.
fn exchange<Address, S: io::Read + io::Write>(server: Serve<Address>, mut client: Client<S>) {
    let serving = Serving::start(server);
    assert_eq!(client.get("/").text(), "served");
    drop(client);
    serving.stop();
}

#[test]
fn a_server_outlives_the_text_of_its_address() {
    let server = {
        let address = "127.0.0.1:0".to_owned();
        serve(address.as_str(), router())
    };
    let address = server.local_addr().unwrap();
    runtime().block_on(async move {
        let stopped = Arc::new(Notify::new());
        let stop = Arc::clone(&stopped);
        // A task of its own, in which it is first awaited.
        let serving =
            tokio::spawn(async move { server.with_graceful_shutdown(async move { stop.notified().await }).await });
        let client =
            tokio::task::spawn_blocking(move || Client::connect(&address.to_string()).get("/").text().to_owned());
        assert_eq!(client.await.unwrap(), "served");
        stopped.notify_one();
        serving.await.unwrap().unwrap();
    });
}

fn exchange_over_tcp(listener: impl Listen<Address = SocketAddr>) {
    let server = serve(listener, router());
    let client = Client::connect(&server.local_addr().unwrap().to_string());
    exchange(server, client);
}

#[test]
fn tcp_listeners_and_addresses_are_served() {
    exchange_over_tcp(runtime().block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap());
    exchange_over_tcp(TcpListener::bind("127.0.0.1:0").unwrap());
    exchange_over_tcp("127.0.0.1:0");
    exchange_over_tcp("127.0.0.1:0".to_owned());
    exchange_over_tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
}

#[test]
fn unix_listeners_and_paths_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tokio");
    let listener = {
        let runtime = runtime();
        let _within = runtime.enter();
        tokio::net::UnixListener::bind(&path).unwrap()
    };
    let server = serve(listener, router());
    assert_eq!(server.local_addr().unwrap().as_pathname(), Some(path.as_path()));
    exchange(server, Client::connect_unix(&path));

    let path = directory.path().join("std");
    let server = serve(UnixListener::bind(&path).unwrap(), router());
    assert_eq!(server.local_addr().unwrap().as_pathname(), Some(path.as_path()));
    exchange(server, Client::connect_unix(&path));

    let path = directory.path().join("text");
    let server = serve(format!("unix:{}", path.display()), router());
    let error = server.local_addr().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    assert!(error.to_string().contains("is a Unix socket"), "{error}");
    exchange(server, Client::connect_unix(&path));
}

#[test]
fn whoever_connects_after_a_spawn_is_served() {
    runtime().block_on(async {
        let server = serve("127.0.0.1:0", router());
        let address = server.local_addr().unwrap();
        let serving = tokio::spawn(server.into_future());
        let answer = reqwest::get(format!("http://{address}/")).await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "served");
        serving.abort();
        assert!(serving.await.unwrap_err().is_cancelled());
    });
}

#[test]
fn an_address_that_is_taken_is_an_error_when_the_server_is_awaited() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = serve(taken.local_addr().unwrap(), router());
    let said = server.local_addr().unwrap_err();
    let error = runtime().block_on(server.into_future()).unwrap_err();
    assert_eq!((said.kind(), error.kind()), (io::ErrorKind::AddrInUse, io::ErrorKind::AddrInUse));
    assert_eq!(said.to_string(), error.to_string());
    assert!(std::error::Error::source(&error).is_some(), "the system's own error is its source");
    let error = error.downcast::<baiwan::Error>().unwrap();
    assert!(matches!(error, baiwan::Error::Listen { .. }), "{error:?}");
    assert_eq!(said.to_string(), error.to_string());
}

#[test]
fn a_text_that_is_no_address_is_an_error_when_the_server_is_awaited() {
    let error = runtime().block_on(serve("8080", router()).into_future()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("write HOST:PORT"), "{error}");
}

#[test]
fn a_graceful_shutdown_answers_what_was_received() {
    let (asked, answer) = (std::sync::Arc::new(Notify::new()), std::sync::Arc::new(Notify::new()));
    let (has_asked, may_answer) = (asked.clone(), answer.clone());
    let app = Router::new().route(
        "/",
        get(async move || {
            has_asked.notify_one();
            may_answer.notified().await;
            "served"
        }),
    );
    let server = serve("127.0.0.1:0", app).with_graceful_shutdown(async move { asked.notified().await });
    let address = server.local_addr().unwrap();
    let mut client = Client::connect(&address.to_string());
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let serving = server.into_future();
    let thread = std::thread::spawn(|| runtime().block_on(serving));
    // The request itself asks for the stop; it is answered when nobody may connect any more.
    eventually("the stop begins", || TcpStream::connect(address).is_err());
    answer.notify_one();
    let answer = client.answer(false);
    assert_eq!((answer.text(), answer.field("connection")), ("served", Some("close")));
    drop(client);
    thread.join().unwrap().unwrap();
}

/// What an app answers to a request for a target.
fn ask<A, Kind>(app: A, target: &str) -> String
where
    A: IntoApp<Kind, ConnectInfo = SocketAddr>,
    A::App: App + Send,
{
    let server = serve("127.0.0.1:0", app);
    let mut client = Client::connect(&server.local_addr().unwrap().to_string());
    let serving = Serving::start(server);
    let answer = client.post(target, "sent");
    let text = answer.text().to_owned();
    drop(client);
    serving.stop();
    text
}

async fn echo(ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request) -> String {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 100).await.unwrap();
    let ip = peer.ip();
    format!("{ip} {} {}", parts.uri, String::from_utf8_lossy(&body))
}

fn echo_router() -> Router {
    Router::new().route("/here", axum::routing::post(echo))
}

#[test]
fn whatever_axum_serves_is_served() {
    let expected = "127.0.0.1 /here sent";
    assert_eq!(ask(echo_router(), "/here"), expected);
    assert_eq!(ask(axum::routing::post(echo), "/here"), expected);
    assert_eq!(ask(echo.with_state(()), "/here"), expected);
    assert_eq!(ask(echo_router().into_make_service(), "/here"), expected);
    assert_eq!(ask(axum::routing::post(echo).into_make_service(), "/here"), expected);
    assert_eq!(ask(echo.into_make_service(), "/here"), expected);
    assert_eq!(ask(echo_router().into_make_service_with_connect_info::<SocketAddr>(), "/here"), expected);
    assert_eq!(ask(echo.into_make_service_with_connect_info::<SocketAddr>(), "/here"), expected);
    let mirror = |request: Request| async move { Ok::<_, baiwan::BoxError>(Response::new(request.into_body())) };
    assert_eq!(ask(service_fn(mirror), "/here"), "sent");
}

async fn rewrite(request: Request, next: Next) -> Response {
    next.run(to_here(request)).await
}

fn to_here(mut request: Request) -> Request {
    *request.uri_mut() = "/here".parse().unwrap();
    request
}

#[test]
fn layers_around_the_router_see_a_request_before_it_is_routed() {
    let expected = "127.0.0.1 /here sent";
    assert_eq!(ask(from_fn(rewrite).layer(echo_router()), "/elsewhere"), expected);
    let rewritten = tower::util::MapRequestLayer::new(to_here).layer(echo_router());
    assert_eq!(ask(rewritten.clone(), "/elsewhere"), expected);
    assert_eq!(ask(rewritten.into_make_service(), "/elsewhere"), expected);
    let normal = NormalizePathLayer::trim_trailing_slash().layer(echo_router());
    assert_eq!(ask(normal.clone(), "/here/"), expected);
    assert_eq!(ask(ServiceExt::<Request>::into_make_service(normal), "/here/"), expected);
}

#[test]
fn an_address_is_listened_on_before_anyone_waits_for_the_server() {
    let server = serve("127.0.0.1:0", router());
    let mut client = Client::connect(&server.local_addr().unwrap().to_string());
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let serving = Serving::start(server);
    assert_eq!(client.answer(false).text(), "served");
    drop(client);
    serving.stop();
}
