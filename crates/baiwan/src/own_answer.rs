//! What the server answers by itself, for both event loops: the words, and the fields beside them.
//!
//! An answer depends on what was asked: a page of another site may read it only with the fields of CORS, and an `EventSource` that
//! is answered with any status but 200 never connects again. How a connection goes on after it is the loop's business, and how it
//! is written is `http1`'s.
//!
//! The invariant: the same refusal has the same words on both loops.

use std::hash::{BuildHasher, RandomState};

use baiwan_http1::{ShortAnswer, ShortField, error_text};
use http::header::{ACCEPT, HeaderMap};
use http::{Method, Request, StatusCode};

use crate::cors::{Origin, RefusalCors};
use crate::settings::Settings;

/// When a client should come back, in seconds, if nothing better is known.
const RETRY_AFTER_S: u32 = 1;
/// Fields of an answer at the most.
const FIELDS_MAX: usize = 8;

/// What of a request an answer of the server's own depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Asked {
    origin: Origin,
    /// It is one of an `EventSource`.
    for_events: bool,
}

impl Asked {
    /// A request whose head is not read.
    pub(crate) const UNREAD: Self = Self { origin: Origin::Unread, for_events: false };

    /// All that matters of a request that is refused now.
    pub(crate) fn of<B>(settings: &Settings, request: &Request<B>) -> Self {
        let origin = settings.refusal_cors.origin_of(request.headers());
        Self { origin, for_events: asks_for_events(request) }
    }

    /// What must be kept of a request that goes to the app, because it may have to be answered instead: nothing, unless there are
    /// settings that need it.
    #[inline]
    pub(crate) fn to_keep<B>(settings: &Settings, request: &Request<B>) -> Self {
        let origin = match settings.refusal_cors {
            RefusalCors::Off | RefusalCors::Any => Origin::Other,
            RefusalCors::Origins(_) => settings.refusal_cors.origin_of(request.headers()),
        };
        Self { origin, for_events: settings.request_timeout.is_some() && asks_for_events(request) }
    }
}

/// Whether a request is like that of an `EventSource`: a GET that takes a stream of events (WHATWG HTML, 9.2.2). One that sends a body has
/// a program behind it that reads the status.
fn asks_for_events<B>(request: &Request<B>) -> bool {
    *request.method() == Method::GET && accepts_events(request.headers())
}

fn accepts_events(headers: &HeaderMap) -> bool {
    let is_events = |range: &[u8]| {
        let range = range.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        range.eq_ignore_ascii_case(EVENTS.as_bytes())
    };
    headers.get_all(ACCEPT).iter().any(|value| value.as_bytes().split(|byte| *byte == b',').any(is_events))
}

const EVENTS: &str = "text/event-stream";

/// The status that an answer stands for, whatever its status line says: an extension of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StandsFor(pub(crate) StatusCode);

/// An answer of the server's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnAnswer<'a> {
    /// What it stands for, whatever its status line says.
    pub(crate) status: StatusCode,
    /// The name of the rule.
    pub(crate) text: &'a str,
}

impl OwnAnswer<'_> {
    /// Hands the whole answer to what writes it.
    pub(crate) fn write<R>(&self, settings: &Settings, asked: Asked, write: impl FnOnce(&ShortAnswer<'_>) -> R) -> R {
        let cors = settings.refusal_cors.fields(asked.origin);
        let mut fields = Fields::new();
        fields.extend(cors.as_slice());
        let comes_back = matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
        if comes_back && asked.for_events {
            return write_events(RETRY_AFTER_S, fields, write);
        }
        let mut buffer = itoa::Buffer::new();
        if comes_back {
            fields.extend(&[("retry-after", buffer.format(RETRY_AFTER_S).as_bytes())]);
        }
        let body = error_text(self.status, self.text);
        let content_type = "text/plain";
        write(&ShortAnswer { status: self.status, content_type, fields: fields.as_slice(), body: body.as_bytes() })
    }
}

/// Tells an `EventSource` when to come back: not all at once. It takes any other status than 200 for the end.
fn write_events<R>(retry_after_s: u32, mut fields: Fields<'_>, write: impl FnOnce(&ShortAnswer<'_>) -> R) -> R {
    let body = format!("retry: {}\n\n", spread_ms(retry_after_s));
    fields.extend(&[("cache-control", b"no-store")]);
    write(&ShortAnswer {
        status: StatusCode::OK,
        content_type: EVENTS,
        fields: fields.as_slice(),
        body: body.as_bytes(),
    })
}

/// Between one and three times as long, at random.
fn spread_ms(seconds: u32) -> u64 {
    // Every hasher that is made has another seed.
    let random = RandomState::new().hash_one(());
    let base = u64::from(seconds.max(1)) * 1000;
    base + random % (2 * base + 1)
}

/// Fields of an answer, in a place of fixed size.
struct Fields<'a> {
    all: [ShortField<'a>; FIELDS_MAX],
    count: usize,
}

impl<'a> Fields<'a> {
    fn new() -> Self {
        Self { all: [("", b""); FIELDS_MAX], count: 0 }
    }

    fn extend(&mut self, fields: &[ShortField<'a>]) {
        self.all[self.count..self.count + fields.len()].copy_from_slice(fields);
        self.count += fields.len();
    }

    fn as_slice(&self) -> &[ShortField<'a>] {
        &self.all[..self.count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_source_is_known_by_what_it_accepts() {
        let asks = |method: &str, accept: &str| {
            asks_for_events(&Request::builder().method(method).uri("/").header("accept", accept).body(()).unwrap())
        };
        for accept in
            ["text/event-stream", "Text/Event-Stream", "text/html, text/event-stream;q=0.9", "a/b,text/event-stream"]
        {
            assert!(asks("GET", accept), "{accept}");
        }
        for accept in ["*/*", "text/*", "text/event-streams", "application/json", ""] {
            assert!(!asks("GET", accept), "{accept}");
        }
        assert!(!asks("POST", "text/event-stream"), "no EventSource posts");
    }

    #[test]
    fn those_that_are_told_to_come_back_come_back_at_different_times() {
        let times: Vec<_> = (0..100).map(|_| spread_ms(2)).collect();
        assert!(times.iter().all(|time| (2000..=6000).contains(time)), "{times:?}");
        assert!(times.iter().max() > times.iter().min());
    }
}
