//! What a run is made of: settings, faults, peers and requests, all decided by one source.
//!
//! The first choice of each list is the harmless one, so that bytes that have run out make well-behaved peers.

use std::num::NonZeroU32;
use std::time::Duration;

use baiwan_driver::sim::{Decisions, Rates};

use super::app::{FRAME_BYTES_MAX, body_of, frames_of, stream_of};
use crate::settings::{Overload, Settings};

/// The frame of a run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) settings: Settings,
    pub(super) connections_max: u64,
    pub(super) inbox_bytes_max: usize,
    pub(super) peers: usize,
    pub(super) steps: usize,
    pub(super) rates: Rates,
    /// The clock may jump by minutes.
    pub(super) jumps: bool,
    /// Steps are long, so that deadlines pass.
    pub(super) slow: bool,
    /// The server is told to stop at this step.
    pub(super) stop_at: Option<usize>,
    /// And at this one to stop at once.
    pub(super) cut_at: Option<usize>,
    /// How many peers of a thousand misbehave.
    pub(super) rude: usize,
    /// Somebody is told of every exchange.
    pub(super) observed: bool,
}

impl Plan {
    pub(super) fn decide(decisions: &Decisions) -> Self {
        let peers = decisions.within(2..=10);
        let steps = decisions.within(30..=90);
        let crowded = decisions.chance(150);
        Self {
            settings: settings(decisions),
            connections_max: if crowded { (peers / 2) as u64 } else { 1000 },
            inbox_bytes_max: decisions.one_of(&[65_536, 65_536, 8192, 700]),
            peers,
            steps,
            rates: rates(decisions),
            jumps: decisions.chance(250),
            slow: decisions.chance(350),
            stop_at: decisions.chance(350).then(|| decisions.below(steps)),
            cut_at: decisions.chance(50).then(|| decisions.below(steps)),
            rude: decisions.one_of(&[0, 300, 600]),
            observed: decisions.chance(500),
        }
    }
}

fn settings(decisions: &Decisions) -> Settings {
    let mut settings = Settings { half_close: decisions.chance(400), ..Settings::default() };
    if decisions.chance(300) {
        settings.overload = Overload::Auto;
    }
    if decisions.chance(600) {
        let timeout = |from, to| {
            let some = !decisions.chance(100);
            some.then(|| Duration::from_millis(decisions.within(from..=to) as u64))
        };
        settings.header_timeout = timeout(300, 3000);
        settings.keep_alive_timeout = timeout(300, 5000);
        settings.request_timeout = timeout(100, 3000);
        settings.write_timeout = timeout(300, 3000);
        settings.shutdown_idle = decisions.one_of(&[Duration::ZERO, Duration::from_secs(1), Duration::from_secs(5)]);
        settings.shutdown_timeout = Duration::from_millis(decisions.within(100..=8000) as u64);
    }
    if decisions.chance(300) {
        let age_ms = decisions.one_of(&[60_000, 10_000, 3000, 500]);
        settings.max_connection_age = Some(Duration::from_millis(age_ms));
    }
    if decisions.chance(150) {
        settings.max_connection_requests = NonZeroU32::new(decisions.within(1..=6) as u32);
    }
    settings
}

fn rates(decisions: &Decisions) -> Rates {
    let kind = decisions.below(4);
    if kind == 0 {
        return Rates::default();
    }
    let rate = |most: usize| decisions.one_of(&[0, most / 4, most]);
    let soft = Rates {
        short: rate(400),
        again: rate(300),
        delay: rate(300),
        stale: rate(700),
        spurious: rate(300),
        ..Rates::default()
    };
    match kind {
        1 | 2 => soft,
        _ => {
            Rates { reset: rate(20), error: rate(20), watch: rate(100), exhausted: rate(300), dead: rate(100), ..soft }
        }
    }
}

/// What must come back for a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Expect {
    /// The app's answer, with a body of that many bytes.
    Body(usize),
    /// The app's answer, and then the end before the body's.
    Cut,
    /// 500.
    Failed,
    /// The status of a refusal.
    Refused,
    /// Either of the two, as the handler may have answered before the body turned out wrong.
    RefusedOrCut,
    /// Nothing, until the request timeout.
    Nothing,
}

/// A request on its way.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    pub(super) id: u32,
    pub(super) bytes: Vec<u8>,
    pub(super) head_bytes: usize,
    pub(super) expect: Expect,
    pub(super) head_request: bool,
    /// The peer waits for `100 Continue` before it sends the body.
    pub(super) waits: bool,
    /// The answer may be the last of its connection: it was asked to be, or the body was not read.
    pub(super) may_close: bool,
    /// It must be.
    pub(super) closes: bool,
    /// The handler may wait for something other than the peer.
    pub(super) sleeps: bool,
    /// The largest frame of the answer.
    pub(super) frame_bytes: usize,
}

const GARBAGE: [&[u8]; 6] = [
    b"GET /now/0/1/1 HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET /now/0/1/1 HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n",
    b"POST /echo/0/1/1 HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
    b"GET /now/0/1/1 HTTP/9.1\r\nHost: a\r\n\r\n",
];

/// Bytes that break a rule within their head.
pub(super) fn garbage(decisions: &Decisions) -> Asking {
    let bytes = decisions.one_of(&GARBAGE).to_vec();
    let head_bytes = bytes.len();
    Asking { bytes, head_bytes, expect: Expect::Refused, closes: true, may_close: true, ..plain(0) }
}

fn plain(id: u32) -> Asking {
    Asking {
        id,
        bytes: Vec::new(),
        head_bytes: 0,
        expect: Expect::Body(0),
        head_request: false,
        waits: false,
        may_close: false,
        closes: false,
        sleeps: false,
        frame_bytes: 0,
    }
}

/// A request. Only a rude peer sends a body that is broken.
pub(super) fn request(decisions: &Decisions, id: u32, inbox_bytes_max: usize, rude: bool) -> Asking {
    let most = inbox_bytes_max.saturating_mul(20).min(FRAME_BYTES_MAX);
    let length = decisions.below(decisions.one_of(&[1, 400, 6000, 30_000]).min(most));
    let ms = decisions.one_of(&[0, 3, 40, 900]);
    let mut asking = plain(id);
    let without_body = |asking: Asking, kind: &str, expect, a: usize| {
        let head_request = expect == Expect::Body(length) && decisions.chance(150);
        let method = if head_request { "HEAD" } else { "GET" };
        let asking = Asking { expect, head_request, ..asking };
        finish(decisions, asking, &format!("{method} /{kind}/{id}/{a}/{ms}"), None)
    };
    asking.frame_bytes = length;
    let whole = Expect::Body(length);
    let (frames, frame_bytes) = frames_of(length);
    let streamed = Expect::Body(frames * frame_bytes);
    match decisions.below(24) {
        0..4 => without_body(asking, "now", whole, length),
        4 => without_body(asking, "yield", whole, length),
        5 | 6 => without_body(Asking { sleeps: true, ..asking }, "sleep", whole, length),
        7 => {
            let big = most - decisions.below(most / 2);
            asking.frame_bytes = big;
            without_body(asking, "now", Expect::Body(big), big)
        }
        8 => {
            // More than a connection may hold of an answer.
            let frame_bytes = decisions.within(1..=25_000.min(most / 8));
            let frames = decisions.within(3..=7);
            asking.frame_bytes = frame_bytes;
            let streamed = Expect::Body(frames * frame_bytes);
            without_body(Asking { sleeps: true, ..asking }, "stream", streamed, stream_of(frames, frame_bytes))
        }
        9 => without_body(Asking { sleeps: true, ..asking }, "stream", streamed, length),
        10 if rude => without_body(Asking { closes: true, ..asking }, "panic-in-call", Expect::Failed, 0),
        11 if rude => without_body(Asking { closes: true, ..asking }, "panic", Expect::Failed, 0),
        12 if rude => without_body(Asking { closes: true, ..asking }, "panic-late", Expect::Failed, 0),
        13 if rude => without_body(Asking { closes: true, ..asking }, "error", Expect::Failed, 0),
        14 if rude => without_body(Asking { sleeps: true, closes: true, ..asking }, "fail", Expect::Cut, length),
        15 if rude => {
            without_body(Asking { sleeps: true, closes: true, ..asking }, "panic-in-body", Expect::Cut, length)
        }
        16 if rude => without_body(Asking { sleeps: true, ..asking }, "never", Expect::Nothing, 0),
        17 if rude => {
            let kind = decisions.one_of(&["echo", "pipe", "ignore", "lazy-echo"]);
            broken_body(decisions, asking, kind, length, ms)
        }
        18 => with_body(decisions, Asking { may_close: true, ..asking }, "ignore", length, 0),
        19 => with_body(decisions, Asking { may_close: true, sleeps: true, ..asking }, "hold", length, ms),
        20 => with_body(decisions, Asking { may_close: true, ..asking }, "peek", length, 0),
        21 => with_body(decisions, Asking { sleeps: true, ..asking }, "lazy-echo", length, ms.min(40)),
        22 => with_body(decisions, asking, "pipe", length, 0),
        _ => with_body(decisions, asking, "echo", length, 0),
    }
}

fn with_body(decisions: &Decisions, asking: Asking, kind: &str, length: usize, ms: usize) -> Asking {
    let id = asking.id;
    let waits = decisions.chance(100) && length > 0;
    let asking = Asking { expect: Expect::Body(length), waits, ..asking };
    let body = body_of(id, 0, length);
    let chunked = decisions.chance(400).then(|| chunks(decisions, body));
    let framing = match &chunked {
        Some(_) => "Transfer-Encoding: chunked\r\n".to_owned(),
        None => format!("Content-Length: {length}\r\n"),
    };
    let body = chunked.unwrap_or_else(|| body.to_vec());
    finish(decisions, asking, &format!("POST /{kind}/{id}/{length}/{ms}"), Some((framing, body)))
}

/// A chunked body with something wrong in it, somewhere.
fn broken_body(decisions: &Decisions, asking: Asking, kind: &str, length: usize, ms: usize) -> Asking {
    let id = asking.id;
    let mut body = chunks(decisions, body_of(id, 0, length));
    // The last chunk is what is always there.
    let end = body.len() - b"0\r\n\r\n".len();
    body.truncate(end);
    body.extend_from_slice(decisions.one_of(&[b"xyz\r\n\r\n" as &[u8], b"-1\r\n", b"5 \r\nabcde\r\n", b"\n0\r\n\r\n"]));
    let asking = Asking { expect: Expect::RefusedOrCut, closes: true, may_close: true, sleeps: ms > 0, ..asking };
    let framing = "Transfer-Encoding: chunked\r\n".to_owned();
    finish(decisions, asking, &format!("POST /{kind}/{id}/{length}/{ms}"), Some((framing, body)))
}

fn chunks(decisions: &Decisions, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = data;
    while !rest.is_empty() {
        let (chunk, left) = rest.split_at(decisions.within(1..=rest.len()));
        let extension = if decisions.chance(100) { ";a=b" } else { "" };
        bytes.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
        rest = left;
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

fn finish(decisions: &Decisions, mut asking: Asking, line: &str, body: Option<(String, Vec<u8>)>) -> Asking {
    let line = if decisions.chance(150) { line.replacen('/', "/health/", 1) } else { line.to_owned() };
    let mut head = format!("{line} HTTP/1.1\r\nHost: a\r\n");
    if decisions.chance(50) {
        head += "Connection: close\r\n";
        asking.closes = true;
    }
    if decisions.chance(50) {
        head += &format!("X-Padding: {}\r\n", "p".repeat(decisions.below(5000)));
    }
    let (framing, mut body) = body.unwrap_or_default();
    if !body.is_empty() && decisions.chance(100) {
        // Old clients send an empty line behind a body.
        body.extend_from_slice(b"\r\n");
    }
    head += &framing;
    if asking.waits {
        head += "Expect: 100-continue\r\n";
    }
    head += "\r\n";
    asking.may_close |= asking.closes;
    asking.head_bytes = head.len();
    asking.bytes = [head.into_bytes(), body].concat();
    asking
}

/// How a peer behaves.
#[derive(Clone, Debug)]
pub(super) struct Manner {
    pub(super) piece_max: usize,
    /// Steps of a thousand in which it sends nothing.
    pub(super) pauses: usize,
    /// Bytes that it reads in a step; none means all there is.
    pub(super) reads: Option<usize>,
    /// Requests that it sends without waiting for answers.
    pub(super) pipeline: usize,
    pub(super) requests: usize,
    /// At which step it does what it does wrong, if anything.
    pub(super) mishap: Option<(usize, Mishap)>,
    pub(super) ending: Ending,
}

/// What a rude or unlucky peer does at some moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mishap {
    Reset,
    Close,
    HalfClose,
    Garbage,
    /// It sends nothing any more.
    Silence,
    /// It reads nothing any more.
    Deafness,
}

/// What a peer does when all is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    Close,
    HalfClose,
    Stay,
}

impl Manner {
    pub(super) fn decide(decisions: &Decisions, plan: &Plan) -> Self {
        let rude = decisions.chance(plan.rude);
        let mishap = || {
            let all =
                [Mishap::Close, Mishap::Reset, Mishap::HalfClose, Mishap::Garbage, Mishap::Silence, Mishap::Deafness];
            let mishap = decisions.one_of(&all);
            // Soon, so that there is something that it does not read.
            let latest = if mishap == Mishap::Deafness { 8 } else { plan.steps };
            (decisions.below(latest), mishap)
        };
        Self {
            piece_max: decisions.one_of(&[100_000, 3000, 200, if rude { 1 } else { 20 }]),
            pauses: decisions.one_of(&[0, 0, 200, if rude { 800 } else { 300 }]),
            reads: (rude && decisions.chance(300)).then(|| decisions.one_of(&[1000, 50, 1])),
            pipeline: decisions.one_of(&[1, 1, 2, 6]),
            requests: decisions.below(10),
            mishap: (rude && decisions.chance(700)).then(mishap),
            ending: decisions.one_of(&[Ending::Close, Ending::HalfClose, Ending::Stay]),
        }
    }

    /// Whether it reads all that comes, at once.
    pub(super) fn is_attentive(&self) -> bool {
        self.reads.is_none() && !matches!(self.mishap, Some((_, Mishap::Deafness)))
    }
}
