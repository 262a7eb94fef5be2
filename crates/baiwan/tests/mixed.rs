//! Fifty thousand mixed requests on two hundred connections at a time, over real sockets, against two cores: every answer is
//! right and in order, and afterwards nothing is left of any of it.
//!
//! `MIXED_SEED=… cargo test -p baiwan --test mixed` repeats what the clients do; how the cores interleave it is up to the system.

#![cfg(all(target_os = "linux", not(baiwan_portable)))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Request};
use axum::http::{StatusCode, Uri};
use axum::routing::{get, post};
use baiwan::{CloseReason, Counts, EventLoop, Server};
use http_body_util::BodyExt;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;

const CONNECTIONS: usize = 200;
const REQUESTS_PER_CLIENT: usize = 250;
const PIPELINED_MAX: usize = 12;
const PATIENCE: Duration = Duration::from_secs(120);

/// A small generator (xorshift64*, Vigna 2016).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % end
    }
}

/// What comes back to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Expected {
    status: u16,
    body: String,
    /// The announced length without a body.
    to_head: bool,
}

async fn slowly() {
    tokio::task::yield_now().await;
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Reads frame by frame, so that a body in pieces is asked for in pieces.
async fn slow_echo(request: Request) -> Result<String, StatusCode> {
    let mut body = request.into_body();
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        tokio::task::yield_now().await;
        text.extend_from_slice(&frame.map_err(|_| StatusCode::BAD_REQUEST)?.into_data().unwrap_or_default());
    }
    String::from_utf8(text).map_err(|_| StatusCode::BAD_REQUEST)
}

fn app() -> Router {
    // How many tasks this core has, and which core it is.
    let tasks = || async {
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        format!("{} {tasks}", std::thread::current().name().unwrap_or_default())
    };
    let slow = |Path(number): Path<String>| async {
        slowly().await;
        number
    };
    Router::new()
        .route("/item/{number}", get(|Path(number): Path<String>| async { number }))
        .route("/slow/{number}", get(slow))
        .route("/echo", post(|bytes: Bytes| async { bytes }))
        .route("/slow-echo", post(slow_echo))
        .route("/ignore", post(|| async { "ignored" }))
        .route("/tasks", get(tasks))
        .fallback(|uri: Uri| async move { (StatusCode::NOT_FOUND, uri.path().to_owned()) })
}

fn chunked(text: &str, random: &mut Random) -> String {
    let mut encoded = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (chunk, left) = rest.split_at(1 + random.below(rest.len()));
        encoded += &format!("{:x}\r\n{chunk}\r\n", chunk.len());
        rest = left;
    }
    encoded + "0\r\n\r\n"
}

/// A request and what must come back.
fn request(name: &str, random: &mut Random) -> (String, Expected) {
    let size = if random.below(20) == 0 { random.below(60_000) } else { random.below(300) };
    let text = format!("{name} {}", "b".repeat(size));
    let length = text.len();
    let get = |method: &str, path: &str| format!("{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n");
    let post = |path: &str| format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n{text}");
    let in_chunks = |path: &str, chunks: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")
    };
    let (bytes, status, body) = match random.below(10) {
        0 | 1 => (get("GET", &format!("/item/{name}")), 200, name),
        2 => (get("GET", &format!("/slow/{name}")), 200, name),
        3 => (post("/echo"), 200, &*text),
        4 => (in_chunks("/echo", &chunked(&text, random)), 200, &*text),
        5 => (post("/slow-echo"), 200, &*text),
        6 => (in_chunks("/slow-echo", &chunked(&text, random)), 200, &*text),
        7 => (get("HEAD", &format!("/item/{name}")), 200, name),
        8 => (post("/ignore"), 200, "ignored"),
        _ => (get("GET", &format!("/nowhere/{name}")), 404, &*format!("/nowhere/{name}")),
    };
    let expected = Expected { status, body: body.to_owned(), to_head: bytes.starts_with("HEAD") };
    (bytes, expected)
}

/// How a client leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Leaving {
    /// After the last answer.
    InOrder,
    /// It asked the server to close.
    Asked,
    /// In the middle of a request, or of its answer.
    EarlyByFin,
    EarlyByReset,
}

async fn read_answer(reader: &mut BufReader<OwnedReadHalf>, to_head: bool) -> (Expected, bool) {
    let (mut status, mut length, mut closes) = (0, None, false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).await.unwrap();
        let line = line.strip_suffix("\r\n").unwrap_or_else(|| panic!("the answer was cut: {line:?}"));
        match line.split_once(": ") {
            None if line.is_empty() => break,
            None => status = line.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap(),
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().ok(),
            Some((name, value)) if name.eq_ignore_ascii_case("connection") => closes = value == "close",
            Some(_) => {}
        }
    }
    let length: usize = length.expect("every handler here knows its length");
    let mut body = vec![0; if to_head { 0 } else { length }];
    reader.read_exact(&mut body).await.unwrap();
    (Expected { status, body: String::from_utf8(body).unwrap(), to_head }, closes)
}

/// One connection, from its opening to its end; returns how many requests it began.
async fn visit(address: &str, client: usize, done: usize, random: &mut Random) -> usize {
    let leaving = match random.below(8) {
        0 => Leaving::Asked,
        1 => Leaving::EarlyByFin,
        2 => Leaving::EarlyByReset,
        _ => Leaving::InOrder,
    };
    let stream = TcpStream::connect(address).await.unwrap();
    let groups = 1 + random.below(4);
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let mut begun = 0;
    for group in 0..groups {
        let left = REQUESTS_PER_CLIENT - done - begun;
        let count = (1 + random.below(PIPELINED_MAX)).min(left);
        let last = group + 1 == groups || count == left;
        let (mut bytes, mut expected) = (String::new(), Vec::new());
        for _ in 0..count {
            let (request, answer) = request(&format!("{client}-{}", done + begun), random);
            bytes += &request;
            expected.push(answer);
            begun += 1;
        }
        if last && matches!(leaving, Leaving::EarlyByFin | Leaving::EarlyByReset) {
            let cut = &bytes.as_bytes()[..random.below(bytes.len() + 1)];
            // The server may be gone as soon as it has seen enough, and then this fails.
            let _ = tokio::time::timeout(Duration::from_millis(1), writer.write_all(cut)).await;
            break;
        }
        if last && leaving == Leaving::Asked {
            bytes += "GET /item/last HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
            expected.push(Expected { status: 200, body: "last".to_owned(), to_head: false });
        }
        let sending = async { writer.write_all(bytes.as_bytes()).await.unwrap() };
        let reading = async {
            for expected in &expected {
                let (answer, closes) = read_answer(&mut reader, expected.to_head).await;
                let body = if expected.to_head { "" } else { &expected.body };
                assert!(answer.status == expected.status && answer.body == body, "{expected:?}, not {answer:?}");
                assert_eq!(closes, expected.body == "last");
            }
        };
        tokio::join!(sending, reading);
        if last {
            break;
        }
    }
    match leaving {
        Leaving::Asked => assert!(matches!(reader.read(&mut [0]).await, Ok(0) | Err(_)), "it said that it would close"),
        Leaving::EarlyByReset => reader.get_ref().as_ref().set_zero_linger().unwrap(),
        Leaving::EarlyByFin | Leaving::InOrder => {}
    }
    begun
}

async fn client(address: String, number: usize, seed: u64) {
    let mut random = Random(seed.wrapping_add((number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1);
    let mut done = 0;
    while done < REQUESTS_PER_CLIENT {
        done += visit(&address, number, done, &mut random).await;
    }
    assert_eq!(done, REQUESTS_PER_CLIENT);
}

/// What each open file of this process is, without the numbers that tell one of a kind from another.
fn open_files() -> Vec<String> {
    let files = std::fs::read_dir("/proc/self/fd").unwrap();
    let kind = |path: std::path::PathBuf| path.to_string_lossy().split(":[").next().unwrap_or_default().to_owned();
    let mut kinds: Vec<_> = files.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok()).map(kind).collect();
    kinds.sort();
    kinds
}

async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let outcome = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(outcome.is_ok(), "it did not come to pass that {what}");
}

/// Waits until no core has a task besides the one that is the server. A task that saw a handler undo what it had begun looks only now
/// and then, so it ends a little after its connection.
async fn no_task_is_left(address: &str) {
    let mut left = BTreeMap::new();
    let waiting = async {
        loop {
            left = tasks_left(address).await;
            if left.values().all(|tasks| *tasks == 0) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let outcome = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(outcome.is_ok(), "tasks are left: {left:?}");
}

/// Asks each core how many tasks it has, besides the one that is the server.
async fn tasks_left(address: &str) -> BTreeMap<String, usize> {
    let mut cores = BTreeMap::new();
    while cores.len() < 2 {
        let (reader, mut writer) = TcpStream::connect(address).await.unwrap().into_split();
        writer.write_all(b"GET /tasks HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
        let (answer, _) = read_answer(&mut BufReader::new(reader), false).await;
        let (core, tasks) = answer.body.split_once(' ').unwrap();
        cores.insert(core.to_owned(), tasks.parse().unwrap());
    }
    cores
}

fn assert_nothing_left(counts: &Counts) {
    let left = (counts.connections, counts.slots, counts.exchanges, counts.deadlines);
    assert_eq!(left, (0, 0, 0, 0), "connections, slots, exchanges, deadlines");
    assert_eq!(counts.closed.iter().map(|(_, count)| count).sum::<u64>(), counts.accepted, "{counts:?}");
}

/// Says how to repeat a run that failed.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("to repeat: MIXED_SEED={} cargo test -p baiwan --test mixed", self.0);
        }
    }
}

#[test]
fn fifty_thousand_mixed_requests_are_answered_in_order_and_leave_nothing() {
    let seed =
        std::env::var("MIXED_SEED").map_or_else(|_| RandomState::new().hash_one(0), |seed| seed.parse().unwrap());
    let seed = Seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let files_before = open_files();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let builder = Server::builder().bind("127.0.0.1:0").workers(2).event_loop(EventLoop::Epoll);
    let health = builder.health();
    let running = builder.shutdown(async { drop(stopped.await) }).start(app()).unwrap();
    let address = running.addresses().remove(0);

    let counts = runtime.block_on(async {
        let mut clients = tokio::task::JoinSet::new();
        for number in 0..CONNECTIONS {
            clients.spawn(client(address.clone(), number, seed.0));
        }
        let finished = tokio::time::timeout(PATIENCE, async {
            while let Some(outcome) = clients.join_next().await {
                outcome.unwrap();
            }
        });
        assert!(finished.await.is_ok(), "clients wait: {:?}", health.counts());
        eventually("nothing is left of any connection", || {
            let counts = health.counts();
            counts.connections + counts.slots + counts.exchanges + counts.deadlines == 0
        })
        .await;
        assert_nothing_left(&health.counts());
        no_task_is_left(&address).await;
        stop.send(()).unwrap();
        running.wait().await.unwrap();
        health.counts()
    });

    assert_nothing_left(&counts);
    assert_eq!(counts.handler_panics, 0);
    for (reason, count) in counts.closed {
        let expected = matches!(reason, CloseReason::PeerClosed | CloseReason::Reset | CloseReason::Complete);
        assert_eq!(count > 0, expected, "{count} connections ended by {reason:?}");
    }
    assert_eq!(open_files(), files_before, "files left");
}
