//! Fifty thousand mixed requests on two hundred connections, twice with one seed: every answer right and in order, nothing
//! left, and both runs the same to the byte.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::Path;
use axum::routing::{get as route_get, post};

use super::rig::{Peer, Rig};

const CONNECTIONS: usize = 200;
const REQUESTS: usize = 50_000;

/// A small generator (xorshift64, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % end
    }
}

/// A request and what must come back: the status, and the body.
fn request(number: usize, random: &mut Random) -> (String, u16, String) {
    let text = format!("{number}-{}", "b".repeat(random.below(300)));
    let length = text.len();
    match random.below(7) {
        0 => (format!("GET /item/{number} HTTP/1.1\r\nHost: a\r\n\r\n"), 200, number.to_string()),
        1 => (format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{text}"), 200, text),
        2 => {
            let (first, second) = text.split_at(length / 2);
            let chunk = |data: &str| match data.is_empty() {
                true => String::new(),
                false => format!("{:x}\r\n{data}\r\n", data.len()),
            };
            let head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            (format!("{head}{}{}0\r\n\r\n", chunk(first), chunk(second)), 200, text)
        }
        3 => (format!("HEAD /item/{number} HTTP/1.1\r\nHost: a\r\n\r\n"), 200, String::new()),
        4 => (format!("GET /nowhere/{number} HTTP/1.1\r\nHost: a\r\n\r\n"), 404, String::new()),
        5 => (format!("GET /slow/{number} HTTP/1.1\r\nHost: a\r\n\r\n"), 200, format!("slow {number}")),
        _ => (format!("POST /slow-echo HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{text}"), 200, text),
    }
}

struct Client {
    peer: Peer,
    /// Answers that are due: status, body, and whether the request was a HEAD.
    due: VecDeque<(u16, String, bool)>,
    arrived: String,
    unsent: String,
}

impl Client {
    fn send(&mut self, random: &mut Random) {
        // In pieces of any size, so that heads and bodies are split anywhere.
        while !self.unsent.is_empty() {
            let piece: String = self.unsent.drain(..self.unsent.len().min(1 + random.below(400))).collect();
            self.peer.send(&piece);
            if random.below(3) == 0 {
                return;
            }
        }
    }

    /// Checks what has arrived against what is due.
    fn check(&mut self, digest: &mut DefaultHasher) {
        self.arrived += &self.peer.receive();
        while let Some((head, rest)) = self.arrived.split_once("\r\n\r\n") {
            let (status, body, is_head) = self.due.front().expect("no answer without a request");
            let field = head.split("content-length: ").nth(1).map(|rest| rest.split('\r').next().unwrap());
            let announced: usize = field.map_or(0, |length| length.parse().unwrap());
            let length = if *is_head { 0 } else { announced };
            if rest.len() < length {
                return;
            }
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
            assert_eq!(&rest[..length], body);
            digest.write(head.split("date: ").next().unwrap().as_bytes());
            digest.write(body.as_bytes());
            self.arrived = rest[length..].to_owned();
            self.due.pop_front();
        }
    }
}

async fn run(seed: u64) -> (u64, u64) {
    let slow = |Path(number): Path<usize>| async move {
        tokio::time::sleep(Duration::from_millis(number as u64 % 20)).await;
        format!("slow {number}")
    };
    let slow_echo = |body: Bytes| async {
        tokio::task::yield_now().await;
        body
    };
    let app = Router::new()
        .route("/item/{number}", route_get(|Path(number): Path<usize>| async move { number.to_string() }))
        .route("/echo", post(|body: Bytes| async { body }))
        .route("/slow/{number}", route_get(slow))
        .route("/slow-echo", post(slow_echo));
    let rig = Rig::new(app);
    let mut random = Random(seed);
    let mut digest = DefaultHasher::new();
    let mut clients: Vec<Option<Client>> = (0..CONNECTIONS).map(|_| None).collect();
    let (mut made, mut gone_early) = (0, 0);
    while made < REQUESTS || clients.iter().any(Option::is_some) {
        for place in &mut clients {
            if place.is_none() && made < REQUESTS {
                let peer = rig.connect();
                *place = Some(Client { peer, due: VecDeque::new(), arrived: String::new(), unsent: String::new() });
            }
            let Some(client) = place else { continue };
            client.check(&mut digest);
            if client.unsent.is_empty() && client.due.is_empty() {
                if made >= REQUESTS || random.below(50) == 0 {
                    *place = None;
                    continue;
                }
                for _ in 0..=random.below(6) {
                    let (text, status, body) = request(made, &mut random);
                    let is_head = text.starts_with("HEAD");
                    client.unsent += &text;
                    client.due.push_back((status, body, is_head));
                    made += 1;
                }
            }
            client.send(&mut random);
            if random.below(400) == 0 {
                // Gone in the middle of whatever is going on.
                gone_early += 1;
                match random.below(2) {
                    0 => place.take().expect("it was there").peer.0.reset(),
                    _ => *place = None,
                }
            }
        }
        tokio::time::advance(Duration::from_millis(1)).await;
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }
    assert!(gone_early > 100, "{gone_early} clients left early");
    rig.pass(Duration::from_secs(1)).await;
    rig.assert_empty();
    (digest.finish(), rig.counts().requests)
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn mixed_requests_are_answered_right_and_in_order_and_the_run_is_repeatable() {
    let first = run(0x0ba1_3a17).await;
    assert!(first.1 > REQUESTS as u64 * 9 / 10, "most requests got there: {first:?}");
    assert_eq!(run(0x0ba1_3a17).await, first);
}
