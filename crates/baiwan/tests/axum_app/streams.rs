//! Bodies that come and go in pieces: neither side gets further ahead than what the sockets hold.

use std::convert::Infallible;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::sse::{Event, Sse};
use axum::routing::{get, post};
use baiwan::EventLoop;
use futures_util::stream;
use http_body_util::BodyExt;
use tokio::sync::{Notify, mpsc};

use crate::rig::{Client, Rig, server};

const MEBIBYTE: u64 = 1 << 20;
/// More than the sockets of both sides hold, by far, and much less than what is offered.
const HELD_BYTES_MAX: u64 = 64 * MEBIBYTE;
const OFFERED_BYTES: u64 = 256 * MEBIBYTE;
/// So many answers on another connection, during which nothing moves, say that nothing will.
const FENCE_ANSWERS: usize = 200;

/// Reads a body and counts its bytes.
async fn count(mut body: Body) -> u64 {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame.unwrap().into_data().map_or(0, |data| data.len() as u64);
    }
    bytes
}

/// Memory of this process that is in use, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn begin_upload(client: &mut Client<TcpStream>, path: &str, bytes: u64) {
    client.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {bytes}\r\n\r\n"));
}

/// Waits until `progress` stands still while the same core answers another connection.
fn stand_still(fence: &mut Client<TcpStream>, mut progress: impl FnMut() -> u64) -> u64 {
    let mut before = progress();
    loop {
        for _ in 0..FENCE_ANSWERS {
            assert_eq!(fence.get("/").text(), "fence");
        }
        let now = progress();
        if now == before {
            return now;
        }
        before = now;
    }
}

pub(crate) fn an_upload_of_a_gibibyte_needs_no_memory(event_loop: EventLoop) {
    let app = Router::new().route("/", post(|request: Request| async { count(request.into_body()).await.to_string() }));
    let rig = Rig::start(server(event_loop), app);
    let mut client = rig.connect();
    let piece = vec![b'u'; MEBIBYTE as usize];
    let mut before = 0;
    let mut grown = 0;
    for mebibytes in [16, 1024] {
        begin_upload(&mut client, "/", mebibytes * MEBIBYTE);
        for _ in 0..mebibytes {
            client.send(&piece);
            grown = grown.max(resident().saturating_sub(before));
        }
        assert_eq!(client.answer(false).text(), (mebibytes * MEBIBYTE).to_string());
        if mebibytes == 16 {
            // The first upload is there to have everything allocated once.
            (before, grown) = (resident(), 0);
        }
    }
    assert!(grown < HELD_BYTES_MAX, "grew by {grown} bytes");
    drop(client);
    rig.stop();
}

pub(crate) fn a_handler_that_does_not_read_stops_its_sender(event_loop: EventLoop) {
    let reads = Arc::new(Notify::new());
    let may_read = Arc::clone(&reads);
    let upload = |request: Request| async move {
        may_read.notified().await;
        count(request.into_body()).await.to_string()
    };
    let app = Router::new().route("/", get(|| async { "fence" })).route("/upload", post(upload));
    let rig = Rig::start(server(event_loop), app);
    let (mut fence, mut client) = (rig.connect(), rig.connect());
    begin_upload(&mut client, "/upload", OFFERED_BYTES);
    let mut sender = client.sender();
    sender.set_nonblocking(true).unwrap();
    let piece = vec![b'u'; MEBIBYTE as usize];
    let mut sent = 0;
    stand_still(&mut fence, || {
        while sent < OFFERED_BYTES {
            let left = (OFFERED_BYTES - sent).min(MEBIBYTE) as usize;
            match sender.write(&piece[..left]) {
                Ok(count) => sent += count as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        sent
    });
    assert!(sent < HELD_BYTES_MAX, "{sent} bytes were taken for a handler that reads none");
    sender.set_nonblocking(false).unwrap();
    reads.notify_one();
    while sent < OFFERED_BYTES {
        let left = (OFFERED_BYTES - sent).min(MEBIBYTE) as usize;
        sender.write_all(&piece[..left]).unwrap();
        sent += left as u64;
    }
    assert_eq!(client.answer(false).text(), OFFERED_BYTES.to_string());
    drop((client, sender, fence));
    rig.stop();
}

pub(crate) fn a_reader_that_stops_stops_the_producer(event_loop: EventLoop) {
    const ITEM_BYTES: u64 = 16 * 1024;
    const ITEMS: u64 = OFFERED_BYTES / ITEM_BYTES;
    let produced = Arc::new(AtomicU64::new(0));
    let producer = Arc::clone(&produced);
    let item = Bytes::from(vec![b'd'; ITEM_BYTES as usize]);
    let download = || async move {
        Body::from_stream(stream::unfold(producer, move |producer| {
            let item = item.clone();
            async move { (producer.fetch_add(1, Relaxed) < ITEMS).then_some((Ok::<_, Infallible>(item), producer)) }
        }))
    };
    let app = Router::new().route("/", get(|| async { "fence" })).route("/download", get(download));
    let rig = Rig::start(server(event_loop), app);
    let (mut fence, mut client) = (rig.connect(), rig.connect());
    client.send("GET /download HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.head().status, 200);
    let items = stand_still(&mut fence, || produced.load(Relaxed));
    assert!(items * ITEM_BYTES < HELD_BYTES_MAX, "{items} items were made for a reader that takes none");
    let mut bytes = 0;
    while let Some(chunk) = client.chunk() {
        bytes += chunk.len() as u64;
    }
    assert_eq!(bytes, OFFERED_BYTES);
    drop((client, fence));
    rig.stop();
}

pub(crate) fn a_request_and_its_answer_stream_at_the_same_time(event_loop: EventLoop) {
    let app = Router::new().route("/echo", post(|request: Request| async { request.into_body() }));
    let rig = Rig::start(server(event_loop), app);
    let mut client = rig.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(client.head().field("transfer-encoding"), Some("chunked"));
    for number in 0..100 {
        // Nothing of the next piece exists before this one is back.
        let piece = format!("piece {number:03}");
        client.send(format!("9\r\n{piece}\r\n"));
        assert_eq!(client.chunk().as_deref(), Some(piece.as_bytes()));
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.chunk(), None);
    drop(client);
    rig.stop();
}

pub(crate) fn events_arrive_one_by_one_while_the_stream_is_open(event_loop: EventLoop) {
    let (events, receiver) = mpsc::channel::<String>(1);
    let receiver = Arc::new(Mutex::new(Some(receiver)));
    let left = Arc::new(AtomicUsize::new(0));
    let handlers = Arc::clone(&left);
    let subscribe = || async move {
        let receiver = receiver.lock().unwrap().take().unwrap();
        Sse::new(stream::unfold((receiver, CountDrop(handlers)), |(mut receiver, counted)| async {
            let text = receiver.recv().await?;
            Some((Ok::<_, Infallible>(Event::default().event("news").data(text)), (receiver, counted)))
        }))
    };
    let rig = Rig::start(server(event_loop), Router::new().route("/events", get(subscribe)));
    let mut client = rig.connect();
    client.send("GET /events HTTP/1.1\r\nHost: test\r\n\r\n");
    let head = client.head();
    assert_eq!((head.status, head.field("content-type")), (200, Some("text/event-stream")));
    for text in ["one", "two", "three"] {
        events.blocking_send(text.to_owned()).unwrap();
        let chunk = client.chunk().unwrap();
        assert_eq!(String::from_utf8(chunk).unwrap(), format!("event: news\ndata: {text}\n\n"));
    }
    assert_eq!(left.load(Relaxed), 0, "the stream is open");
    drop(client);
    crate::rig::eventually("the stream is dropped when its reader leaves", || left.load(Relaxed) == 1);
    rig.stop();
}

/// Counts that something is gone.
struct CountDrop(Arc<AtomicUsize>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Relaxed);
    }
}
