//! Other protocols: axum's own `WebSocketUpgrade`, unchanged, and what is counted, limited and stopped around it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use axum::routing::{any, get};
use baiwan::{CloseReason, Counts, EventLoop};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite;

use crate::rig::{Client, Rig, builder, eventually, server};

/// The handshake of RFC 6455, section 1.3, without its request line.
const FIELDS: &str = "Host: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                      Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const MANY: usize = 100;

fn handshake(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\n{FIELDS}\r\n").into_bytes()
}

/// A text frame of a client, masked with zeros.
fn frame(text: &str) -> Vec<u8> {
    [&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0], text.as_bytes()].concat()
}

/// The same frame of a server.
fn echoed(text: &str) -> Vec<u8> {
    [&[0x81, text.len() as u8], text.as_bytes()].concat()
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).await.is_err() {
            return;
        }
    }
}

#[derive(Clone, Default)]
struct Signals {
    go: Arc<Notify>,
    /// A protocol began, or failed to.
    began: Arc<AtomicBool>,
    failed: Arc<AtomicBool>,
    /// Handlers of sockets that have ended.
    ended: Arc<AtomicUsize>,
}

async fn counted_echo(State(signals): State<Signals>, upgrade: WebSocketUpgrade) -> Response<Body> {
    upgrade.on_upgrade(|socket| async move {
        echo(socket).await;
        signals.ended.fetch_add(1, Relaxed);
    })
}

/// Switches when it is told to.
async fn gated(State(signals): State<Signals>, upgrade: WebSocketUpgrade) -> Response<Body> {
    signals.go.notified().await;
    upgrade.on_upgrade(echo)
}

/// Prepares to switch, and then answers something else, as a layer around a handler may.
async fn refused(State(signals): State<Signals>, upgrade: WebSocketUpgrade) -> StatusCode {
    let failed = Arc::clone(&signals.failed);
    let upgrade = upgrade.on_failed_upgrade(move |_| failed.store(true, Relaxed));
    let _switched = upgrade.on_upgrade(|socket| async move {
        signals.began.store(true, Relaxed);
        echo(socket).await;
    });
    // Not at once, so that hyper has seen the handler wait.
    tokio::task::yield_now().await;
    StatusCode::FORBIDDEN
}

/// Sends for as long as somebody takes it.
async fn flood(State(signals): State<Signals>, upgrade: WebSocketUpgrade) -> Response<Body> {
    upgrade.on_upgrade(|mut socket| async move {
        let piece = Bytes::from(vec![0; 64 * 1024]);
        while socket.send(Message::Binary(piece.clone())).await.is_ok() {}
        signals.ended.fetch_add(1, Relaxed);
    })
}

/// Neither reads nor writes.
async fn deaf(upgrade: WebSocketUpgrade) -> Response<Body> {
    upgrade.on_upgrade(|socket| async {
        std::future::pending::<()>().await;
        drop(socket);
    })
}

async fn failing(_: WebSocketUpgrade) -> Response<Body> {
    panic!("before the 101, as the test wants it")
}

fn app(signals: &Signals) -> Router {
    let offered =
        |request: Request| async move { request.extensions().get::<hyper::upgrade::OnUpgrade>().is_some().to_string() };
    Router::new()
        .route("/", any(|body: Bytes| async move { format!("hello {}", body.len()) }))
        .route("/large", get(|| async { "x".repeat(8 << 20) }))
        .route("/offered", get(offered))
        .route("/ws", get(counted_echo))
        .route("/gated", get(gated))
        .route("/refused", get(refused))
        .route("/flood", get(flood))
        .route("/deaf", get(deaf))
        .route("/failing", get(failing))
        .route("/bye", get(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(|_| async {}) }))
        .with_state(signals.clone())
}

fn start(event_loop: EventLoop) -> (Rig, Signals) {
    let signals = Signals::default();
    (Rig::start(server(event_loop), app(&signals)), signals)
}

/// Opens a WebSocket and sends something there and back.
fn open(rig: &Rig, path: &str) -> Client<TcpStream> {
    let mut client = rig.connect();
    client.send(handshake(path));
    expect_switch(&mut client);
    expect_echo(&mut client, "first");
    client
}

fn expect_switch<S: Read + Write>(client: &mut Client<S>) {
    let head = client.head();
    assert_eq!((head.status, head.field("sec-websocket-accept")), (101, Some(ACCEPT)));
}

fn expect_echo<S: Read + Write>(client: &mut Client<S>, text: &str) {
    client.send(frame(text));
    assert_eq!(client.bytes(text.len() + 2), echoed(text));
}

/// Waits until nothing is open, and compares why each connection ended.
fn expect_reasons(rig: &Rig, expected: &[(CloseReason, u64)]) {
    eventually("every connection is closed", || rig.health.connections() == 0);
    assert_eq!(reasons(&rig.health.counts()), expected);
}

fn reasons(counts: &Counts) -> Vec<(CloseReason, u64)> {
    assert_eq!((counts.connections, counts.upgraded), (0, 0));
    counts.closed.iter().copied().filter(|(_, count)| *count > 0).collect()
}

pub(crate) fn a_web_socket_carries_text_binary_and_a_mebibyte(event_loop: EventLoop) {
    let (rig, _) = start(event_loop);
    let stream = TcpStream::connect(rig.address()).unwrap();
    let (mut socket, answer) = tungstenite::client(format!("ws://{}/ws", rig.address()), stream).unwrap();
    assert_eq!(answer.status(), 101);
    eventually("it is counted", || rig.health.counts().upgraded == 1);
    assert_eq!(rig.health.connections(), 1);
    for message in [
        tungstenite::Message::text("grüße"),
        tungstenite::Message::binary(vec![0, 1, 255]),
        tungstenite::Message::binary(vec![7; 1 << 20]),
        tungstenite::Message::text("ü".repeat(1 << 19)),
    ] {
        socket.send(message.clone()).unwrap();
        assert!(socket.read().unwrap() == message, "another message came back");
    }
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
    drop(socket);
    expect_reasons(&rig, &[(CloseReason::Complete, 1)]);
    rig.stop();
}

pub(crate) fn row_31_bytes_behind_the_head_wait_for_the_101(event_loop: EventLoop) {
    let (rig, signals) = start(event_loop);
    let mut client = rig.connect();
    client.send([handshake("/gated"), frame("early")].concat());
    eventually("the request is taken in", || rig.health.counts().requests == 1);
    assert_eq!(rig.health.counts().upgraded, 0);
    signals.go.notify_one();
    expect_switch(&mut client);
    assert_eq!(client.bytes(7), echoed("early"));
    expect_echo(&mut client, "late");
    drop(client);
    expect_reasons(&rig, &[(CloseReason::PeerClosed, 1)]);
    rig.stop();
}

pub(crate) fn row_31_without_a_101_no_byte_reaches_the_protocol(event_loop: EventLoop) {
    let (rig, signals) = start(event_loop);
    let mut client = rig.connect();
    let fields = FIELDS.replace("Upgrade\r\n", "Upgrade, close\r\n");
    client.send(format!("GET /refused HTTP/1.1\r\n{fields}\r\n"));
    client.send(frame("early"));
    let answer = client.answer(false);
    assert_eq!((answer.status, answer.field("connection")), (403, Some("close")));
    client.expect_end();
    eventually("the protocol hears of it", || signals.failed.load(Relaxed));
    assert!(!signals.began.load(Relaxed));
    drop(client);
    expect_reasons(&rig, &[(CloseReason::Complete, 1)]);
    rig.stop();
}

pub(crate) fn row_31_an_offer_with_a_body_is_not_taken(event_loop: EventLoop) {
    let (rig, _) = start(event_loop);
    for body in ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"] {
        let mut client = rig.connect();
        client.send(format!("GET /ws HTTP/1.1\r\n{FIELDS}{body}"));
        let status = client.answer(false).status;
        // Of hyper's own accord there is no rule, but no switch either.
        assert_eq!(status, if event_loop == EventLoop::Epoll { 400 } else { 426 });
        if event_loop == EventLoop::Epoll {
            client.expect_end();
        }
        // Any other protocol may come after a body, but need not be taken up: the connection goes on.
        let mut client = rig.connect();
        for _ in 0..2 {
            client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: foo\r\n{body}"));
            assert_eq!(client.answer(false).text(), "hello 5");
        }
    }
    assert_eq!(rig.health.counts().upgraded, 0);
    rig.stop();
}

pub(crate) fn row_32_a_wrong_handshake_is_refused(event_loop: EventLoop) {
    let (rig, _) = start(event_loop);
    let request_line = "GET /ws HTTP/1.1";
    let without_key = FIELDS.split("Sec-WebSocket-Key").next().unwrap().to_owned();
    for (request_line, fields, expected) in [
        (request_line, FIELDS.replace("13", "12"), [400, 426]),
        (request_line, FIELDS.replace("Sec-WebSocket-Version: 13\r\n", ""), [400, 426]),
        (request_line, without_key, [400, 426]),
        (request_line, FIELDS.replace("Connection: Upgrade\r\n", ""), [400, 426]),
        (request_line, FIELDS.replace("Upgrade: websocket\r\n", ""), [400, 426]),
        ("POST /ws HTTP/1.1", FIELDS.to_owned(), [405, 400]),
        ("GET /ws HTTP/1.0", FIELDS.to_owned(), [400, 426]),
    ] {
        let mut client = rig.connect();
        client.send(format!("{request_line}\r\n{fields}\r\n"));
        let answer = client.answer(false);
        assert!(expected.contains(&answer.status), "{request_line} {fields}: {answer:?}");
    }
    assert_eq!(rig.health.counts().upgraded, 0);
    rig.stop();
}

pub(crate) fn row_33_h2c_is_ignored(event_loop: EventLoop) {
    let (rig, _) = start(event_loop);
    let mut client = rig.connect();
    for offer in ["h2c", "H2C"] {
        let fields = format!("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {offer}\r\nHTTP2-Settings: AAMAAABk\r\n");
        let answer = client.ask("GET", "/offered", &fields, "");
        assert_eq!((answer.status, answer.text(), answer.field("connection")), (200, "false", None));
    }
    assert_eq!(client.get("/").status, 200);
    assert_eq!(client.ask("GET", "/offered", "Connection: upgrade\r\nUpgrade: foo\r\n", "").text(), "true");
    drop(client);
    rig.stop();
}

pub(crate) fn an_offer_that_the_app_ignores_is_answered(event_loop: EventLoop) {
    let (rig, _) = start(event_loop);
    let mut client = rig.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n");
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    if event_loop == EventLoop::Epoll {
        // More than is received at once.
        client.send([b'x'; 40 * 1024]);
    }
    let answer = client.answer(false);
    assert_eq!(answer.text(), "hello 0");
    if event_loop == EventLoop::Epoll {
        // What stands behind may be the other protocol: it is not read as a request, but does not reset the connection either.
        assert_eq!(answer.field("connection"), Some("close"));
        assert_eq!(client.sender().read(&mut [0; 1]).unwrap(), 0);
        assert_eq!(rig.health.counts().requests, 1);
        drop(client);
        expect_reasons(&rig, &[(CloseReason::Complete, 1)]);
    } else {
        drop(client);
    }
    rig.stop();
}

pub(crate) fn answers_leave_before_the_connection_switches(event_loop: EventLoop) {
    let (rig, _) = start(event_loop);
    let plain = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").into_bytes();
    let mut client = rig.connect();
    client.send([plain("/"), plain("/none"), plain("/"), handshake("/ws"), frame("early")].concat());
    assert_eq!(client.answer(false).text(), "hello 0");
    assert_eq!(client.answer(false).status, 404);
    assert_eq!(client.answer(false).text(), "hello 0");
    expect_switch(&mut client);
    assert_eq!(client.bytes(7), echoed("early"));
    drop(client);
    // An answer that the kernel does not take at once, and a head that comes in two parts.
    let mut client = rig.connect();
    let (first, second) = (handshake("/ws"), frame("early"));
    client.send([plain("/large"), first[..40].to_vec()].concat());
    eventually("the first is taken in", || rig.health.counts().requests == 5);
    client.send([first[40..].to_vec(), second].concat());
    assert_eq!(client.answer(false).body.len(), 8 << 20);
    expect_switch(&mut client);
    assert_eq!(client.bytes(7), echoed("early"));
    drop(client);
    rig.stop();
}

pub(crate) fn each_end_of_a_web_socket_has_its_reason(event_loop: EventLoop) {
    let (rig, signals) = start(event_loop);
    let mut finished = open(&rig, "/ws");
    finished.sender().shutdown(Shutdown::Write).unwrap();
    finished.expect_end();
    expect_reasons(&rig, &[(CloseReason::PeerClosed, 1)]);
    // Closing with bytes unread resets.
    let mut reset = open(&rig, "/ws");
    reset.send(frame("unread"));
    reset.sender().peek(&mut [0; 1]).unwrap();
    drop(reset);
    expect_reasons(&rig, &[(CloseReason::PeerClosed, 1), (CloseReason::Reset, 1)]);
    let mut ended = rig.connect();
    ended.send(handshake("/bye"));
    expect_switch(&mut ended);
    ended.expect_end();
    let all = [(CloseReason::PeerClosed, 1), (CloseReason::Reset, 1), (CloseReason::Complete, 1)];
    expect_reasons(&rig, &all);
    eventually("the handlers have ended", || signals.ended.load(Relaxed) == 2);
    rig.stop();
}

pub(crate) fn web_sockets_count_as_connections(event_loop: EventLoop) {
    let signals = Signals::default();
    let rig = Rig::start(server(event_loop).max_connections(2), app(&signals));
    let (first, mut second) = (open(&rig, "/ws"), open(&rig, "/ws"));
    assert_eq!((rig.health.connections(), rig.health.counts().upgraded), (2, 2));
    let mut third = rig.connect();
    assert_eq!(third.get("/").status, 503);
    let _ = third.sender().shutdown(Shutdown::Write);
    third.expect_end();
    drop(first);
    eventually("there is room again", || rig.health.is_ready());
    let mut fourth = open(&rig, "/ws");
    expect_echo(&mut second, "still there");
    expect_echo(&mut fourth, "there");
    drop((second, third, fourth));
    expect_reasons(&rig, &[(CloseReason::PeerClosed, 3), (CloseReason::OverLimit, 1)]);
    rig.stop();
}

pub(crate) fn a_stop_ends_silent_web_sockets_first_and_the_others_at_its_end(event_loop: EventLoop) {
    let signals = Signals::default();
    let builder = server(event_loop).shutdown_timeout(Duration::from_secs(8));
    let rig = Rig::start(builder, app(&signals));
    let silent: Vec<_> = (0..MANY).map(|_| open(&rig, "/ws")).collect();
    let (mut deaf, busy) = (rig.connect(), open(&rig, "/ws"));
    deaf.send(handshake("/deaf"));
    expect_switch(&mut deaf);
    let talking = std::thread::spawn(move || {
        let mut stream = busy.sender();
        let mut answer = [0; 6];
        while stream.write_all(&frame("talk")).is_ok() && stream.read_exact(&mut answer).is_ok() {}
        drop(busy);
    });
    let health = rig.health.clone();
    assert_eq!(health.counts().upgraded, MANY as u64 + 2);
    let stopping = rig.begin_stop();
    for mut client in silent {
        client.expect_end();
    }
    eventually("they are counted out", || health.counts().upgraded == 2);
    assert_eq!(signals.ended.load(Relaxed), MANY, "their handlers came to an end of their own");
    assert!(!stopping.is_finished(), "somebody is still talking");
    stopping.join().unwrap().unwrap();
    talking.join().unwrap();
    let expected = [(CloseReason::Drained, MANY as u64), (CloseReason::DrainTimeout, 2)];
    assert_eq!(reasons(&health.counts()), expected);
}

pub(crate) fn a_stop_without_time_cuts_web_sockets(event_loop: EventLoop) {
    let signals = Signals::default();
    let rig = Rig::start(server(event_loop).workers(2).shutdown_timeout(Duration::from_millis(100)), app(&signals));
    let clients: Vec<_> = (0..MANY).map(|_| open(&rig, "/ws")).collect();
    let mut waiting = rig.connect();
    waiting.send(handshake("/gated"));
    eventually("it is taken in", || rig.health.counts().requests == MANY as u64 + 1);
    let health = rig.health.clone();
    rig.begin_stop().join().unwrap().unwrap();
    assert_eq!(reasons(&health.counts()), [(CloseReason::DrainTimeout, MANY as u64 + 1)]);
    for mut client in clients {
        client.expect_end();
    }
    waiting.expect_end();
}

pub(crate) fn a_stop_ends_when_the_last_web_socket_does(event_loop: EventLoop) {
    // Longer than the test has.
    let builder = server(event_loop).shutdown_timeout(Duration::from_secs(3600));
    let rig = Rig::start(builder, app(&Signals::default()));
    let mut client = open(&rig, "/ws");
    let (address, health) = (rig.address(), rig.health.clone());
    let stopping = rig.begin_stop();
    eventually("nobody listens any more", || TcpStream::connect(&address).is_err());
    expect_echo(&mut client, "still there");
    assert!(!stopping.is_finished());
    drop(client);
    stopping.join().unwrap().unwrap();
    reasons(&health.counts());
}

pub(crate) fn a_panic_before_the_101_is_a_500(event_loop: EventLoop) {
    let (rig, _) = start(event_loop);
    let mut client = rig.connect();
    client.send(handshake("/failing"));
    let answer = client.answer(false);
    assert_eq!((answer.status, answer.field("connection")), (500, Some("close")));
    client.expect_end();
    drop(client);
    assert_eq!(rig.health.counts().handler_panics, 1);
    expect_reasons(&rig, &[(CloseReason::HandlerFailed, 1)]);
    let mut client = rig.connect();
    assert_eq!(client.get("/").status, 200);
    drop(client);
    rig.stop();
}

pub(crate) fn a_panic_in_the_body_of_an_answer_to_an_offer_is_the_handlers(event_loop: EventLoop) {
    let body = || async {
        let pieces = futures_util::stream::unfold(0, |number| async move {
            tokio::task::yield_now().await;
            assert!(number < 3, "in the body, as the test wants it");
            Some((Ok::<_, std::convert::Infallible>(Bytes::from_static(b"piece")), number + 1))
        });
        Body::from_stream(pieces)
    };
    let rig = Rig::start(server(event_loop), Router::new().route("/", get(body)));
    let mut client = rig.connect();
    client.send(handshake("/"));
    assert_eq!(client.head().status, 200);
    while let Ok(Some(_)) = client.try_chunk() {}
    client.expect_end();
    expect_reasons(&rig, &[(CloseReason::HandlerFailed, 1)]);
    assert_eq!(rig.health.counts().handler_panics, 1);
    rig.stop();
}

pub(crate) fn an_answer_to_an_offer_is_framed_by_the_server_alone(event_loop: EventLoop) {
    let answer = |status: u16, name: &'static str, value: &'static str| {
        get(
            move || async move { Response::builder().status(status).header(name, value).body(Body::from("hello")).unwrap() },
        )
    };
    let app = Router::new()
        .route("/longer", answer(200, "content-length", "50"))
        .route("/shorter", answer(200, "content-length", "2"))
        .route("/coded", answer(200, "transfer-encoding", "gzip"))
        .route("/reset", answer(205, "content-length", "5"));
    let rig = Rig::start(server(event_loop), app);
    for path in ["/longer", "/shorter", "/coded", "/reset"] {
        for request in [handshake(path), format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").into_bytes()] {
            let mut client = rig.connect();
            client.send(request);
            let answer = client.answer(false);
            let framing = (answer.status, answer.field("content-length"), answer.field("transfer-encoding"));
            match path {
                "/coded" => assert_eq!((framing, answer.text()), ((200, Some("5"), None), "hello")),
                "/reset" => assert_eq!((framing, answer.text()), ((205, Some("0"), None), "")),
                _ => assert_eq!((framing.0, framing.2), (500, None), "{path}"),
            }
            let _ = client.sender().shutdown(Shutdown::Write);
            client.expect_end();
        }
    }
    assert_eq!(rig.health.counts().handler_panics, 0);
    rig.stop();
}

pub(crate) fn a_panic_beside_a_web_socket_is_the_handlers(event_loop: EventLoop) {
    let panicking = |upgrade: WebSocketUpgrade| async {
        upgrade.on_upgrade(|mut socket| async move {
            let _ = socket.recv().await;
            panic!("with the socket in its hands, as the test wants it");
        })
    };
    let rig = Rig::start(server(event_loop), Router::new().route("/ws", get(panicking)));
    let mut client = rig.connect();
    client.send([handshake("/ws"), frame("go")].concat());
    expect_switch(&mut client);
    client.expect_end();
    expect_reasons(&rig, &[(CloseReason::HandlerFailed, 1)]);
    rig.stop();
}

pub(crate) fn a_handler_that_is_late_to_switch_is_a_503(event_loop: EventLoop) {
    let builder = server(event_loop).request_timeout(Some(Duration::from_millis(50)));
    let rig = Rig::start(builder, app(&Signals::default()));
    let mut client = rig.connect();
    client.send(handshake("/gated"));
    assert_eq!(client.answer(false).status, 503);
    client.expect_end();
    drop(client);
    expect_reasons(&rig, &[(CloseReason::RequestTimeout, 1)]);
    // The time is for the answer, not for what comes after it.
    let mut client = open(&rig, "/ws");
    std::thread::park_timeout(Duration::from_millis(100));
    expect_echo(&mut client, "still there");
    drop(client);
    rig.stop();
}

pub(crate) fn an_app_that_fails_or_switches_unasked_is_a_500(event_loop: EventLoop) {
    let app = tower::service_fn(|request: axum::http::Request<baiwan::Body>| async move {
        let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        match request.uri().path() {
            "/fails" => Err("as the test wants it"),
            _ => Ok(response.body(Body::empty()).unwrap()),
        }
    });
    let rig = Rig::start(server(event_loop), app);
    for request in [handshake("/fails"), b"GET /switches HTTP/1.1\r\nHost: test\r\n\r\n".to_vec()] {
        let mut client = rig.connect();
        client.send(request);
        assert_eq!(client.answer(false).status, 500);
        client.expect_end();
    }
    expect_reasons(&rig, &[(CloseReason::HandlerFailed, 2)]);
    rig.stop();
}

/// An app that cannot be cloned once more.
struct Dwindling(Arc<AtomicUsize>, Router);

impl Clone for Dwindling {
    fn clone(&self) -> Self {
        assert!(self.0.fetch_sub(1, Relaxed) != 1, "while it is cloned, as the test wants it");
        Self(Arc::clone(&self.0), self.1.clone())
    }
}

impl tower::Service<axum::http::Request<baiwan::Body>> for Dwindling {
    type Response = Response<Body>;
    type Error = std::convert::Infallible;
    type Future = axum::routing::future::RouteFuture<Self::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        tower::Service::<axum::http::Request<baiwan::Body>>::poll_ready(&mut self.1, cx)
    }

    fn call(&mut self, request: axum::http::Request<baiwan::Body>) -> Self::Future {
        self.1.call(request)
    }
}

pub(crate) fn a_panic_of_the_apps_clone_costs_its_own_request_alone(event_loop: EventLoop) {
    let left = Arc::new(AtomicUsize::new(usize::MAX / 2));
    let rig = Rig::start(server(event_loop), Dwindling(Arc::clone(&left), app(&Signals::default())));
    let mut web_socket = open(&rig, "/ws");
    left.store(1, Relaxed);
    let mut client = rig.connect();
    client.send(handshake("/ws"));
    assert_eq!(client.answer(false).status, 500);
    client.expect_end();
    left.store(1, Relaxed);
    let mut client = rig.connect();
    client.send(format!("HEAD /ws HTTP/1.1\r\n{FIELDS}\r\n"));
    assert_eq!(client.answer(true).status, 500);
    client.expect_end();
    assert_eq!(rig.health.counts().requests, 3);
    expect_echo(&mut web_socket, "still there");
    drop((client, web_socket));
    expect_reasons(&rig, &[(CloseReason::PeerClosed, 1), (CloseReason::HandlerFailed, 2)]);
    rig.stop();
}

pub(crate) fn a_panic_of_any_clone_of_the_app_costs_its_own_connection_alone(event_loop: EventLoop) {
    let left = Arc::new(AtomicUsize::new(usize::MAX / 2));
    let rig = Rig::start(server(event_loop), Dwindling(Arc::clone(&left), app(&Signals::default())));
    let mut web_socket = open(&rig, "/ws");
    // The first clone that an offer costs fails, then the second, where there is one.
    let costs = if event_loop == EventLoop::Portable { [1, 1] } else { [1, 2] };
    for clones in costs {
        left.store(clones, Relaxed);
        let mut client = rig.connect();
        client.send(handshake("/ws"));
        assert_eq!(client.answer(false).status, 500);
        client.expect_end();
    }
    expect_echo(&mut web_socket, "still there");
    drop(web_socket);
    expect_reasons(&rig, &[(CloseReason::PeerClosed, 1), (CloseReason::HandlerFailed, 2)]);
    assert_eq!(rig.health.counts().handler_panics, 2);
    let mut client = rig.connect();
    assert_eq!(client.get("/").status, 200, "others are served");
    drop(client);
    rig.stop();
}

pub(crate) fn a_peer_that_takes_nothing_is_given_up(event_loop: EventLoop) {
    let signals = Signals::default();
    let builder = server(event_loop).write_timeout(Some(Duration::from_millis(300)));
    let rig = Rig::start(builder, app(&signals));
    let mut client = rig.connect();
    client.send(handshake("/flood"));
    expect_switch(&mut client);
    expect_reasons(&rig, &[(CloseReason::WriteTimeout, 1)]);
    eventually("the handler has ended", || signals.ended.load(Relaxed) == 1);
    drop(client);
    rig.stop();
}

pub(crate) fn a_peer_that_takes_little_is_kept(event_loop: EventLoop) {
    let signals = Signals::default();
    let builder = server(event_loop).write_timeout(Some(Duration::from_millis(300)));
    let rig = Rig::start(builder, app(&signals));
    let mut client = rig.connect();
    client.send(handshake("/flood"));
    expect_switch(&mut client);
    // Less than makes the kernel say that there is room, but some within each timeout.
    for _ in 0..20 {
        client.bytes(64 * 1024);
        std::thread::park_timeout(Duration::from_millis(50));
        assert_eq!(rig.health.counts().upgraded, 1);
    }
    drop(client);
    rig.stop();
}

pub(crate) fn a_web_socket_may_live_on_another_thread(event_loop: EventLoop) {
    let elsewhere = Arc::new(Runtime::new().unwrap());
    let handle = elsewhere.handle().clone();
    let away = |upgrade: WebSocketUpgrade| async move {
        upgrade.on_upgrade(move |socket| async move {
            // Nobody waits for it here.
            drop(handle.spawn(echo(socket)));
        })
    };
    let rig = Rig::start(server(event_loop), Router::new().route("/ws", get(away)));
    let mut clients: Vec<_> = (0..MANY).map(|_| open(&rig, "/ws")).collect();
    assert_eq!(rig.health.counts().upgraded, MANY as u64);
    clients.truncate(10);
    eventually("they are counted out", || rig.health.connections() == 10);
    for client in &mut clients {
        expect_echo(client, "still there");
    }
    let health = rig.health.clone();
    let stopping = rig.begin_stop();
    drop(clients);
    stopping.join().unwrap().unwrap();
    assert_eq!(reasons(&health.counts()), [(CloseReason::PeerClosed, MANY as u64)]);
}

pub(crate) fn a_unix_socket_carries_web_sockets(event_loop: EventLoop) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let address = format!("unix:{}", path.display());
    let rig = Rig::start(builder(event_loop).workers(2).bind(&address), app(&Signals::default()));
    for _ in 0..4 {
        let mut client = Client::connect_unix(&path);
        client.send([handshake("/ws"), frame("early")].concat());
        expect_switch(&mut client);
        assert_eq!(client.bytes(7), echoed("early"));
        expect_echo(&mut client, "late");
    }
    expect_reasons(&rig, &[(CloseReason::PeerClosed, 4)]);
    rig.stop();
}
