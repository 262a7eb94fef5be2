//! A hundred thousand mixed requests, pipelined, with failures of each kind among them: every counter equals what the clients counted.
//!
//! A client sends what leaves its connection open, all in one write, and when that is answered one request that ends it: a failure, most
//! often.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use baiwan::{CloseReason, EventLoop, Metrics, RouteLimits};
use futures_util::StreamExt;

use crate::metrics::{OFFER, counted, requests, sample};
use crate::rig::{PATIENCE, Rig, eventually, server};

const CLIENTS: usize = 8;
/// Ways to end a connection.
const WAYS: usize = 10;
/// Requests of a connection.
const REQUESTS: usize = 50;
/// In each of these a client has a connection for each way to end one. They are for a hundred thousand requests.
const ROUNDS: usize = 25;
/// With the portable loop, which is for development.
const ROUNDS_PORTABLE: usize = 5;
const _: () = assert!(CLIENTS * ROUNDS * WAYS * REQUESTS == 100_000);
/// What is late is later than this.
const LATE: Duration = Duration::from_millis(20);

/// A request, its method, route and status, and why its connection ends with it, if it does.
struct Kind {
    request: String,
    labels: &'static str,
    ends: Option<CloseReason>,
}

impl Kind {
    /// Whether its bytes are counted: what is refused unread is not.
    fn is_read(&self) -> bool {
        !self.labels.starts_with("_OTHER unmatched")
    }
}

/// Those that leave their connection open.
fn going_on() -> Vec<Kind> {
    let kinds = [
        ("GET /users/7", "", "GET /users/{id} 200"),
        ("GET /users/8/later", "", "GET /users/{id}/later 200"),
        ("HEAD /users/7", "", "HEAD /users/{id} 200"),
        ("GET /events", "", "GET /events 200"),
        ("GET /nowhere", "", "GET unmatched 404"),
        ("DELETE /users/7", "", "DELETE /users/{id} 405"),
        ("OPTIONS *", "", "OPTIONS unmatched 204"),
        ("BREW /any", "", "_OTHER /any 200"),
        ("POST /echo", "Content-Length: 5\r\n\r\nhello", "POST /echo 200"),
        ("POST /echo", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "POST /echo 200"),
    ];
    kinds.map(|(line, rest, labels)| Kind { request: whole(line, rest), labels, ends: None }).into()
}

/// Those that end their connection.
fn ending() -> [Kind; WAYS] {
    use CloseReason::{BodyTimeout, Complete, HandlerFailed, PeerClosed, Refused, RequestTimeout};
    let offer = OFFER.strip_prefix("Host: test\r\n").unwrap().to_owned() + "\r\n";
    let kinds = [
        ("GET /users/7", "Connection: close\r\n\r\n", "GET /users/{id} 200", Complete),
        ("GET /panic", "", "GET /panic 500", HandlerFailed),
        ("GET /broken", "", "GET /broken 200", HandlerFailed),
        ("GET /late", "", "GET /late 503", RequestTimeout),
        ("POST /slow", "Content-Length: 5\r\n\r\nhell", "POST /slow 408", BodyTimeout),
        ("GET /endless", "", "GET /endless 200", PeerClosed),
        ("GET /ws", &*offer, "GET /ws 101", Complete),
        ("GET /users/7", "Ho st: test\r\n\r\n", "_OTHER unmatched 400", Refused),
        ("CONNECT test:80", "", "_OTHER unmatched 501", Refused),
        ("POST /small", "Content-Length: 5\r\n\r\nhello", "POST /small 413", Refused),
    ];
    kinds.map(|(line, rest, labels, ends)| Kind { request: whole(line, rest), labels, ends: Some(ends) })
}

/// A request of its first line, and of what follows its first field; nothing is a head's end.
fn whole(line: &str, rest: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: test\r\n{}", if rest.is_empty() { "\r\n" } else { rest })
}

fn app() -> Router {
    let broken = || async {
        let frames = futures_util::stream::unfold(0, |count| async move {
            tokio::task::yield_now().await;
            let frame =
                if count < 3 { Ok(Bytes::from_static(b"frame")) } else { Err(std::io::Error::other("on purpose")) };
            (count < 4).then_some((frame, count + 1))
        });
        Body::from_stream(frames)
    };
    let endless = || async {
        let begun = futures_util::stream::once(async { Ok::<_, std::io::Error>(Bytes::from_static(b"begun")) });
        Body::from_stream(begun.chain(futures_util::stream::pending()))
    };
    let never = || get(std::future::pending::<&str>);
    let read = || post(|body: Bytes| async { body });
    crate::metrics::app()
        .route("/broken", get(broken))
        .route("/endless", get(endless))
        .route("/late", never().layer(RouteLimits::new().request_timeout(Some(LATE))))
        .route("/slow", read().layer(RouteLimits::new().body_timeout(Some(LATE)).body_min_rate(0)))
        .route("/small", read().layer(RouteLimits::new().body_limit(4)))
}

/// What clients have counted.
#[derive(Default)]
struct Tally {
    requests: BTreeMap<String, u64>,
    closed: BTreeMap<&'static str, u64>,
    sent: u64,
    received: u64,
}

impl Tally {
    /// Sends what goes on, on a connection of its own and in one write, and when all of that is answered what ends it.
    fn visit(&mut self, address: &str, going_on: &[&Kind], last: &Kind) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let bytes: String = going_on.iter().map(|kind| kind.request.as_str()).collect();
        stream.write_all(bytes.as_bytes()).unwrap();
        let mut answers = Vec::new();
        while !self.take_all(&answers, going_on) {
            receive(&mut stream, &mut answers);
        }
        let received = answers.len();
        stream.write_all(last.request.as_bytes()).unwrap();
        let ends = last.ends.expect("the last one ends the connection");
        if ends == CloseReason::PeerClosed {
            while !answers.ends_with(b"begun\r\n") {
                receive(&mut stream, &mut answers);
            }
            stream.shutdown(Shutdown::Write).unwrap();
        }
        // What is cut may be reset.
        if let Err(error) = stream.read_to_end(&mut answers) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        self.sent += (bytes.len() + if last.is_read() { last.request.len() } else { 0 }) as u64;
        self.received += answers.len() as u64;
        *self.closed.entry(ends.name()).or_default() += 1;
        self.count(last, &String::from_utf8_lossy(&answers[received..]));
    }

    /// Counts the answers, if they are all there.
    fn take_all(&mut self, answers: &[u8], kinds: &[&Kind]) -> bool {
        let answers = String::from_utf8_lossy(answers);
        let mut rest = &*answers;
        let each = kinds.iter().map(|kind| take_answer(&mut rest, kind.request.starts_with("HEAD")));
        let Some(each) = each.collect::<Option<Vec<_>>>() else { return false };
        assert_eq!(rest, "", "more than was asked for");
        kinds.iter().zip(each).for_each(|(kind, answer)| self.count(kind, answer));
        true
    }

    /// Counts an answer, which has the status of its kind.
    fn count(&mut self, kind: &Kind, answer: &str) {
        let status = answer.strip_prefix("HTTP/1.1 ").and_then(|answer| answer.get(..3));
        assert_eq!(status, kind.labels.split(' ').next_back(), "{}", kind.request);
        *self.requests.entry(kind.labels.to_owned()).or_default() += 1;
    }

    fn add(&mut self, other: Self) {
        other.requests.into_iter().for_each(|(labels, count)| *self.requests.entry(labels).or_default() += count);
        other.closed.into_iter().for_each(|(reason, count)| *self.closed.entry(reason).or_default() += count);
        self.sent += other.sent;
        self.received += other.received;
    }

    fn of(&self, labels: &str) -> u64 {
        self.requests[labels]
    }
}

/// Takes the first answer off `answers`; None where it is not whole.
fn take_answer<'a>(answers: &mut &'a str, to_head: bool) -> Option<&'a str> {
    let answer = *answers;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let field = |wanted: &str| {
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
    };
    *answers = match field("content-length") {
        _ if to_head || head.starts_with("HTTP/1.1 204") => body,
        Some(length) => body.get(length.parse().unwrap()..)?,
        None => body.split_once("0\r\n\r\n")?.1,
    };
    Some(answer)
}

fn receive(stream: &mut TcpStream, answers: &mut Vec<u8>) {
    let mut piece = [0; 16 * 1024];
    let count = stream.read(&mut piece).unwrap();
    assert!(count > 0, "it ends before its last request");
    answers.extend(&piece[..count]);
}

fn ask(address: &str, rounds: usize) -> Tally {
    let (going_on, ending) = (going_on(), ending());
    let mut tally = Tally::default();
    for round in 0..rounds {
        for last in &ending {
            let many = going_on.iter().cycle().skip(round).take(REQUESTS - 1);
            tally.visit(address, &many.collect::<Vec<_>>(), last);
        }
    }
    tally
}

pub(crate) fn every_counter_equals_what_the_clients_counted(event_loop: EventLoop) {
    let rounds = if event_loop == EventLoop::Epoll { ROUNDS } else { ROUNDS_PORTABLE };
    let (builder, metrics) = counted(server(event_loop).workers(2));
    let rig = Rig::start(builder, app());
    let address = rig.address();
    let clients = (0..CLIENTS).map(|_| {
        let address = address.clone();
        std::thread::spawn(move || ask(&address, rounds))
    });
    let mut tally = Tally::default();
    clients.collect::<Vec<_>>().into_iter().for_each(|client| tally.add(client.join().unwrap()));
    let all = tally.requests.values().sum::<u64>();
    assert_eq!(all, (CLIENTS * rounds * WAYS * REQUESTS) as u64);
    eventually("every exchange is counted", || requests(&metrics).values().sum::<u64>() == all);
    let connections = tally.closed.values().sum::<u64>();
    let closed = || metrics.snapshot().closed.iter().map(|(_, count)| count).sum::<u64>();
    eventually("each connection has its reason", || closed() == connections);
    assert_counted(&metrics, &tally);
    rig.stop();
}

fn assert_counted(metrics: &Metrics, tally: &Tally) {
    assert_eq!(requests(metrics), tally.requests);
    let snapshot = metrics.snapshot();
    let closed = snapshot.closed.iter().filter(|(_, count)| *count > 0).map(|(reason, count)| (reason.name(), *count));
    assert_eq!(closed.collect::<BTreeMap<_, _>>(), tally.closed);
    let connections = tally.closed.values().sum();
    for (name, expected) in [
        ("baiwan_connections_opened_total", connections),
        ("baiwan_requests_refused_total{rule=\"connect-unsupported\"}", tally.of("_OTHER unmatched 501")),
        ("baiwan_requests_refused_total{rule=\"body-too-large\"}", tally.of("POST /small 413")),
        ("baiwan_handler_panics_total", tally.of("GET /panic 500")),
        ("baiwan_sent_bytes_total", tally.received),
        ("baiwan_received_bytes_total", tally.sent),
        ("baiwan_requests_in_flight", 0),
        ("baiwan_connections{state=\"closing\"}", 0),
        ("baiwan_stream_duration_seconds_count{route=\"/events\"}", tally.of("GET /events 200")),
        ("baiwan_stream_duration_seconds_count{route=\"/broken\"}", tally.of("GET /broken 200")),
        ("baiwan_stream_duration_seconds_count{route=\"/ws\"}", tally.of("GET /ws 101")),
        (
            "http_request_duration_seconds_count{method=\"GET\",route=\"/users/{id}\",status=\"200\"}",
            tally.of("GET /users/{id} 200"),
        ),
        ("http_request_duration_seconds_count{method=\"GET\",route=\"/events\",status=\"200\"}", 0),
        ("http_request_duration_seconds_count{method=\"GET\",route=\"/ws\",status=\"101\"}", 0),
    ] {
        assert_eq!(sample(metrics, name), expected, "{name}");
    }
    let failed = tally.requests.iter().filter(|(labels, _)| labels.contains(" 50")).map(|(_, count)| count);
    assert_eq!(snapshot.routes.iter().map(|route| route.failures).sum::<u64>(), failed.sum::<u64>());
    assert!(
        (1..=50).contains(&snapshot.failures.len()) && snapshot.failures.iter().all(|failure| failure.status >= 500)
    );
    assert_eq!(metrics.clients().iter().map(|client| client.address.to_string()).collect::<Vec<_>>(), ["127.0.0.1"]);
}
