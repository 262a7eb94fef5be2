//! The whole life of a server that was made with `baiwan::serve`: where it may be started, ended, dropped and started again.

use std::future::{Future, IntoFuture};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::rig::{Client, eventually};

fn app(answer: &'static str) -> Router {
    Router::new().route("/", get(move || async move { answer }))
}

/// A free port of the loopback, and its address.
async fn free() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// Asks once, on a connection of its own, without holding up the runtime of the caller.
async fn ask(address: &str) -> String {
    let address = address.to_owned();
    tokio::task::spawn_blocking(move || Client::connect(&address).get("/").text().to_owned()).await.unwrap()
}

/// Whether nobody listens at an address.
fn refuses(address: &str) -> bool {
    std::net::TcpStream::connect(address).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// A stop that is given by hand.
fn stop() -> (oneshot::Sender<()>, impl Future<Output = ()> + Send + 'static) {
    let (stop, stopped) = oneshot::channel();
    (stop, async { stopped.await.unwrap_or_default() })
}

/// A server beside the test, and what stops it.
fn spawn(listener: TcpListener, answer: &'static str) -> (oneshot::Sender<()>, JoinHandle<io::Result<()>>) {
    let (stop, stopped) = stop();
    let server = baiwan::serve(listener, app(answer)).with_graceful_shutdown(stopped);
    (stop, tokio::spawn(server.into_future()))
}

async fn is_served_beside_the_test() {
    let (listener, address) = free().await;
    let (stop, server) = spawn(listener, "hello");
    assert_eq!(ask(&address).await, "hello");
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
    assert!(refuses(&address));
}

#[tokio::test]
async fn a_test_on_one_thread_has_a_server_beside_it() {
    is_served_beside_the_test().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_on_several_threads_has_a_server_beside_it() {
    is_served_beside_the_test().await;
}

#[tokio::test]
async fn port_0_is_a_free_port_whose_address_is_known_before_it_is_served() {
    let server = baiwan::serve("127.0.0.1:0", app("hello"));
    let address: SocketAddr = server.local_addr().unwrap();
    assert_ne!(address.port(), 0);
    let (stop, stopped) = stop();
    let server = tokio::spawn(server.with_graceful_shutdown(stopped).into_future());
    assert_eq!(ask(&address.to_string()).await, "hello");
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn two_servers_live_beside_each_other_and_end_each_for_itself() {
    let ((one, first), (two, second)) = (free().await, free().await);
    let (stop_one, server_one) = spawn(one, "one");
    let (stop_two, server_two) = spawn(two, "two");
    assert_eq!((&*ask(&first).await, &*ask(&second).await), ("one", "two"));
    stop_one.send(()).unwrap();
    server_one.await.unwrap().unwrap();
    assert!(refuses(&first));
    assert_eq!(ask(&second).await, "two");
    stop_two.send(()).unwrap();
    server_two.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_server_whose_future_is_dropped_is_gone_and_another_may_take_its_place() {
    let (listener, address) = free().await;
    let (stop, server) = spawn(listener, "first");
    let mut held = Client::connect(&address);
    let mut held = tokio::task::spawn_blocking(move || {
        assert_eq!(held.get("/").text(), "first");
        held
    })
    .await
    .unwrap();
    server.abort();
    assert!(server.await.unwrap_err().is_cancelled());
    // What it held ends, and its port is free.
    tokio::task::spawn_blocking(move || held.expect_end()).await.unwrap();
    eventually("nobody listens any more", || refuses(&address));
    drop(stop);

    let listener = TcpListener::bind(&address).await.unwrap();
    let (stop, server) = spawn(listener, "second");
    assert_eq!(ask(&address).await, "second");
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn one_that_is_never_awaited_is_dropped_like_any_value() {
    let server = baiwan::serve("127.0.0.1:0", app("hello"));
    let address = server.local_addr().unwrap().to_string();
    drop(server);
    assert!(refuses(&address));
}

#[tokio::test]
async fn after_a_stop_the_same_port_is_served_again() {
    let (listener, address) = free().await;
    let mut listener = Some(listener);
    for answer in ["first", "second", "third"] {
        let listener = match listener.take() {
            Some(listener) => listener,
            None => TcpListener::bind(&address).await.unwrap(),
        };
        let (stop, server) = spawn(listener, answer);
        assert_eq!(ask(&address).await, answer);
        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
    }
}

#[test]
fn a_runtimes_handle_may_block_on_a_server() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (listener, address) = runtime.block_on(free());
    let (stop, stopped) = stop();
    let handle = runtime.handle().clone();
    let server = std::thread::spawn(move || {
        let server = baiwan::serve(listener, app("hello")).with_graceful_shutdown(stopped);
        handle.block_on(server.into_future())
    });
    assert_eq!(Client::connect(&address).get("/").text(), "hello");
    stop.send(()).unwrap();
    server.join().unwrap().unwrap();
}

/// Lines that a subscriber was given.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// As the documentation says: handlers run on the threads of the cores.
#[tokio::test]
async fn what_is_local_to_the_thread_that_serves_is_not_there_in_handlers() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _here = tracing::subscriber::set_default(subscriber);
    let app = Router::new().route(
        "/",
        get(|| async {
            tracing::info!("in the handler");
            "hello"
        }),
    );
    let (listener, address) = free().await;
    let (stop, stopped) = stop();
    let server = tokio::spawn(baiwan::serve(listener, app).with_graceful_shutdown(stopped).into_future());
    assert_eq!(ask(&address).await, "hello");
    tracing::info!("in the test");
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
    assert!(lines.text().contains("in the test"), "{}", lines.text());
    assert!(!lines.text().contains("in the handler"), "{}", lines.text());
}
