//! A connection in hyper's hands, over a pair of sockets and with the clock held.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::{get, post};
use baiwan_driver::Peer;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::connection::{Connection, turn_away};
use super::current::Current;
use super::record::Transports;
use super::transport::{SocketStream, Transport};
use crate::Ending;
use crate::gate::{Beyond, Denial, Entry, Newcomer, admit_connection};
use crate::settings::Settings;
use crate::status::{CloseReason, Health, Status};

/// A server of which one connection is taken already, if there may be two.
struct Rig {
    settings: Arc<Settings>,
    status: Arc<Status>,
    transports: Arc<Transports>,
    _stop: watch::Sender<bool>,
    draining: watch::Receiver<bool>,
    /// Who every peer is.
    peer: Peer,
}

impl Rig {
    fn new(settings: Settings, connections_max: u64) -> Self {
        let status = Status::with(settings.bounds(), 1, connections_max, connections_max);
        let settings = Arc::new(settings.in_force());
        let transports = Transports::new(&settings, Arc::clone(&status), 0, None);
        let (stop, draining) = watch::channel(false);
        Self { settings, status, transports, _stop: stop, draining, peer: Peer::Unix }
    }

    /// Serves the other end of what it returns, as an accepted connection.
    fn connect(&self) -> (UnixStream, JoinHandle<()>) {
        let (ours, theirs) = UnixStream::pair().expect("a descriptor is left");
        let beyond = Beyond { count: self.transports.beyond(), max: self.settings.turned_away_max };
        let limits = self.settings.clients_in_force.as_deref();
        let newcomer = Newcomer { peer: self.peer, now: Instant::now(), limits };
        let entry = admit_connection(&self.status, 0, beyond, newcomer);
        let ends = self.settings.draw_age().map(|age| Instant::now() + age);
        let transport =
            Transport::open(&self.transports, SocketStream::Unix(theirs), Bytes::new(), entry, self.peer, ends);
        let connection = Connection {
            current: Current::fixed(app(), Arc::clone(&self.settings)),
            own: None,
            status: Arc::clone(&self.status),
            index: 0,
            draining: Some(self.draining.clone()),
            left: None,
        };
        let task = match entry {
            Entry::Refused(denial) => {
                tokio::task::spawn_local(turn_away(transport, denial, Arc::clone(&self.settings)))
            }
            _ => tokio::task::spawn_local(connection.serve(transport, self.peer)),
        };
        (ours, task)
    }

    fn closed_by(&self, reason: CloseReason) -> u64 {
        let health = Health(Arc::new(Arc::clone(&self.status).into()));
        health.counts().closed_by(reason)
    }
}

fn app() -> Router {
    let polite = |ending: Ending| async {
        ending.await;
        "bye"
    };
    Router::new()
        .route("/never", get(std::future::pending::<&str>))
        .route("/polite", get(polite))
        .route("/tunnel", get(tunnel))
        .route("/", post(|body: Bytes| async move { format!("{} bytes", body.len()) }).get(|| async { "hello" }))
        .route("/health/live", get(|| async { "live" }))
}

/// Goes over to a protocol that says "bye" when its connection should end, and then reads on.
async fn tunnel(ending: Ending, mut request: Request) -> Response {
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::task::spawn_local(async move {
        let mut stream = TokioIo::new(upgrade.await.expect("the 101 was sent"));
        ending.await;
        let _ = stream.write_all(b"bye").await;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(stream.write_all(b"never").await.is_err(), "what was given up sends nothing");
    });
    let head = Response::builder().status(101).header("connection", "upgrade").header("upgrade", "b");
    head.body(axum::body::Body::empty()).expect("it is well-formed")
}

async fn send(stream: &UnixStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        stream.writable().await.expect("it is open");
        match stream.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
}

/// What comes until the end of the stream.
async fn rest(stream: &UnixStream) -> String {
    let mut bytes = Vec::new();
    loop {
        stream.readable().await.expect("it is open");
        match stream.try_read_buf(&mut bytes) {
            Ok(0) => return String::from_utf8(bytes).expect("text"),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    }
}

const UPLOAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n";

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_body_that_does_not_come_is_given_up_after_its_grace_with_408() {
    let rig = Rig::new(Settings::default(), 1);
    let (peer, task) = rig.connect();
    send(&peer, UPLOAD).await;
    let answer = rest(&peer).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.ends_with(": body-too-slow\n"), "{answer}");
    drop(peer);
    task.await.expect("it has not panicked");
    assert_eq!(rig.closed_by(CloseReason::BodyTooSlow), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_body_above_the_minimum_rate_is_waited_for_and_one_below_it_is_not() {
    for (pause, status) in [(1, "200"), (3, "408")] {
        let rig = Rig::new(Settings { body_rate_min: 250, ..Settings::default() }, 1);
        let (peer, _task) = rig.connect();
        send(&peer, UPLOAD).await;
        let sending = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(pause)).await;
                if peer.try_write(&[b'x'; 500]).is_err() {
                    return;
                }
            }
            let _ = peer.try_write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        };
        let (answer, ()) = tokio::join!(rest(&peer), sending);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_body_has_an_end_however_fast_it_comes() {
    let settings = Settings { body_timeout: Some(Duration::from_secs(8)), ..Settings::default() };
    let rig = Rig::new(settings, 1);
    let (peer, task) = rig.connect();
    send(&peer, UPLOAD).await;
    // Enough for half a minute of patience.
    send(&peer, &[b'x'; 4000]).await;
    let answer = rest(&peer).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.ends_with(": body-timeout\n"), "{answer}");
    drop(peer);
    task.await.expect("it has not panicked");
    assert_eq!(rig.closed_by(CloseReason::BodyTimeout), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn sixteen_beyond_the_maximum_are_read_for_a_second_and_the_others_turned_away_at_once() {
    let rig = Rig::new(Settings::default(), 1);
    let (held, _task) = rig.connect();
    let silent: Vec<_> = (0..16).map(|_| rig.connect()).collect();
    let (next, _task) = rig.connect();
    assert!(rest(&next).await.starts_with("HTTP/1.1 503 "), "seventeen are too many");
    for (peer, _) in &silent {
        assert_eq!(rest(peer).await.as_bytes(), Denial::TOO_MANY_CONNECTIONS.answer);
    }
    drop(next);
    for (peer, task) in silent {
        drop(peer);
        task.await.expect("it has not panicked");
    }
    let (prober, task) = rig.connect();
    send(&prober, b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = rest(&prober).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("live"), "{answer}");
    drop(prober);
    task.await.expect("it has not panicked");
    assert_eq!((rig.closed_by(CloseReason::OverLimit), rig.transports.beyond()), (17, 0));
    drop(held);
}

/// A server whose connections live for 6 seconds to 66, the first for the least.
fn aging() -> Rig {
    Rig::new(Settings { max_connection_age: Some(Duration::from_secs(60)), ..Settings::default() }, 9)
}

/// Asks, and reads until the end; says how long that took, in seconds.
async fn ask(rig: &Rig, request: &str) -> (String, u64) {
    let (peer, task) = rig.connect();
    let begun = Instant::now();
    send(&peer, request.as_bytes()).await;
    let answer = rest(&peer).await;
    let seconds = begun.elapsed().as_secs();
    drop(peer);
    task.await.expect("it has not panicked");
    tokio::time::sleep(Duration::from_secs(2)).await;
    (answer, seconds)
}

const NEXT: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_idle_connection_ends_at_its_age_and_a_handler_hears_of_it() {
    let (answer, seconds) = ask(&aging(), NEXT).await;
    assert!(answer.ends_with("hello") && seconds == 6, "{seconds}: {answer}");
    let rig = aging();
    let (answer, seconds) = ask(&rig, "GET /polite HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.ends_with("bye") && seconds == 6, "{seconds}: {answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert_eq!(rig.closed_by(CloseReason::Age), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_handler_that_does_not_listen_is_cut_after_its_grace() {
    let rig = aging();
    let (answer, seconds) = ask(&rig, "GET /never HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!((answer.as_str(), seconds), ("", 36));
    assert_eq!(rig.closed_by(CloseReason::AgeTimeout), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_connection_that_has_switched_is_told_of_its_age_and_cut_after_its_grace() {
    let rig = aging();
    let request = "GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: b\r\n\r\n";
    let (answer, seconds) = ask(&rig, request).await;
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("\r\n\r\nbye"), "{answer}");
    assert_eq!((seconds, rig.closed_by(CloseReason::AgeTimeout)), (36, 1));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_last_request_that_is_allowed_says_so() {
    let max_connection_requests = NonZeroU32::new(3);
    let rig = Rig::new(Settings { max_connection_requests, ..Settings::default() }, 9);
    let (answers, _) = ask(&rig, &NEXT.repeat(5)).await;
    assert_eq!((answers.matches("hello").count(), answers.matches("connection: close").count()), (3, 1), "{answers}");
    assert_eq!(rig.closed_by(CloseReason::Complete), 1);
}

/// A server of one request an hour, to which one client is connected.
fn limited(mut settings: Settings) -> Rig {
    settings.rate_limit.quota = "1/h".parse().ok();
    Rig { peer: Peer::Ip("192.0.2.1:1".parse().expect("an address")), ..Rig::new(settings, 9) }
}

fn statuses(answers: &str) -> Vec<&str> {
    answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect()
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn requests_that_are_refused_count_towards_the_last_that_is_allowed() {
    let rig = limited(Settings { max_connection_requests: NonZeroU32::new(3), ..Settings::default() });
    let (answers, _) = ask(&rig, &NEXT.repeat(5)).await;
    assert_eq!((statuses(&answers), answers.matches("connection: close").count()), (vec!["200", "429", "429"], 1));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn nothing_behind_an_offer_that_is_refused_is_taken_for_a_request() {
    let rig = limited(Settings::default());
    let offer = "GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: b\r\n\r\n";
    let (answers, _) = ask(&rig, &format!("{NEXT}{offer}{NEXT}")).await;
    assert_eq!((statuses(&answers), answers.matches("connection: close").count()), (vec!["200", "429"], 1));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn from_92_percent_a_refusal_is_its_connections_last_answer() {
    let rig = limited(Settings::default());
    let (first, _task) = rig.connect();
    send(&first, NEXT.as_bytes()).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    rig.status.set_memory_pressure(rig.status.memory_pressure().next(92, 100));
    let (answers, _) = ask(&rig, &NEXT.repeat(2)).await;
    assert_eq!((statuses(&answers), answers.matches("connection: close").count()), (vec!["429"], 1));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_is_cut_at_the_end_of_its_age_is_reset_so_that_no_part_looks_whole() {
    let rig = aging();
    for (reason, resets) in [(CloseReason::AgeTimeout, true), (CloseReason::Age, false)] {
        let (_ours, theirs) = UnixStream::pair().expect("a descriptor is left");
        let newcomer = Newcomer { peer: Peer::Unix, now: Instant::now(), limits: None };
        let entry = admit_connection(&rig.status, 0, Beyond { count: 0, max: 1 }, newcomer);
        let socket = SocketStream::Unix(theirs);
        let transport = Transport::open(&rig.transports, socket, Bytes::new(), entry, Peer::Unix, None);
        transport.record().note(reason);
        assert_eq!(transport.record().handle_drop(), resets, "{reason:?}");
    }
}
