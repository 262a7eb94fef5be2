//! A connection in hyper's hands, over a pair of sockets and with the clock held.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get, post};
use baiwan_driver::Peer;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::connection::{Connection, turn_away};
use super::record::Transports;
use super::transport::{SocketStream, Transport};
use crate::gate::{Beyond, Denial, Entry, admit_connection};
use crate::settings::Settings;
use crate::status::{CloseReason, Health, Status};

/// A server of which one connection is taken already, if there may be two.
struct Rig {
    settings: Arc<Settings>,
    status: Arc<Status>,
    transports: Arc<Transports>,
    _stop: watch::Sender<bool>,
    draining: watch::Receiver<bool>,
}

impl Rig {
    fn new(settings: Settings, connections_max: u64) -> Self {
        let (settings, status) = (Arc::new(settings.in_force()), Status::new(1, connections_max, connections_max));
        let transports = Transports::new(&settings, Arc::clone(&status), 0);
        let (stop, draining) = watch::channel(false);
        Self { settings, status, transports, _stop: stop, draining }
    }

    /// Serves the other end of what it returns, as an accepted connection.
    fn connect(&self) -> (UnixStream, JoinHandle<()>) {
        let (ours, theirs) = UnixStream::pair().expect("a descriptor is left");
        let beyond = Beyond { count: self.transports.beyond(), max: self.settings.turned_away_max };
        let entry = admit_connection(&self.status, 0, beyond);
        let transport = Transport::open(&self.transports, SocketStream::Unix(theirs), Bytes::new(), entry, Peer::Unix);
        let connection = Connection {
            app: app(),
            settings: Arc::clone(&self.settings),
            status: Arc::clone(&self.status),
            index: 0,
            draining: Some(self.draining.clone()),
        };
        let task = match entry {
            Entry::Refused(denial) => {
                tokio::task::spawn_local(turn_away(transport, denial, Arc::clone(&self.settings)))
            }
            _ => tokio::task::spawn_local(connection.serve(transport, Peer::Unix)),
        };
        (ours, task)
    }

    fn closed_by(&self, reason: CloseReason) -> u64 {
        let health = Health(Arc::new(Arc::clone(&self.status).into()));
        health.counts().closed_by(reason)
    }
}

fn app() -> Router {
    Router::new()
        .route("/", post(|body: Bytes| async move { format!("{} bytes", body.len()) }).get(|| async { "hello" }))
        .route("/health/live", get(|| async { "live" }))
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
