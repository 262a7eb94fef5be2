//! What the server answers by itself, for both event loops: the words, and the fields beside them.
//!
//! An answer depends on what was asked: a page of another site may read it only with the fields of CORS, and an `EventSource` that
//! is answered with any status but 200 never connects again. How a connection goes on after it is the loop's business, and how it
//! is written is `http1`'s.
//!
//! The invariant: the same refusal has the same words on both loops.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use baiwan_http1::{ShortAnswer, ShortField, error_text};
use baiwan_limits::{Decision, EVENT_STREAM, is_event_source, retry_event};
use http::{Request, StatusCode};

use crate::cors::{Origin, RefusalCors};
use crate::request_id::{self, RequestId};
use crate::settings::Settings;

/// When a client should come back, if nothing better is known.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Fields of an answer at the most.
const FIELDS_MAX: usize = 5;

/// What of a request an answer of the server's own depends on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Asked {
    origin: Origin,
    /// It is one of an `EventSource`.
    for_events: bool,
    /// What it is called, where the server gives ids.
    pub(crate) id: Option<RequestId>,
}

impl Asked {
    /// A request of which nothing matters.
    pub(crate) const NONE: Self = Self { origin: Origin::Other, for_events: false, id: None };
    /// A request whose head is not read.
    pub(crate) const UNREAD: Self = Self { origin: Origin::Unread, for_events: false, id: None };

    /// All that matters of a request that is refused now, and is called `id`.
    pub(crate) fn of<B>(settings: &Settings, request: &Request<B>, id: Option<RequestId>) -> Self {
        let origin = settings.refusal_cors.origin_of(request.headers());
        Self { origin, for_events: is_event_source(request.method(), request.headers()), id }
    }

    /// Whether settings need that something is kept of requests ([`to_keep`](Self::to_keep)).
    #[cfg(all(target_os = "linux", not(baiwan_portable)))]
    pub(crate) fn is_kept(settings: &Settings) -> bool {
        matches!(settings.refusal_cors, RefusalCors::Origins(_)) || may_be_late(settings)
    }

    /// What must be kept of a request that goes to the app, because it may have to be answered instead: nothing, unless there are
    /// settings that need it. What it is called is added where it is kept.
    #[inline]
    pub(crate) fn to_keep<B>(settings: &Settings, request: &Request<B>) -> Self {
        let origin = match settings.refusal_cors {
            RefusalCors::Off | RefusalCors::Any => Origin::Other,
            RefusalCors::Origins(_) => settings.refusal_cors.origin_of(request.headers()),
        };
        let for_events = may_be_late(settings) && is_event_source(request.method(), request.headers());
        Self { origin, for_events, id: None }
    }

    /// Whether more than its id matters.
    #[cfg(all(target_os = "linux", not(baiwan_portable)))]
    pub(crate) fn is_special(&self) -> bool {
        self.for_events || self.origin != Origin::Other
    }

    /// A layer of its route has seen a request of an `EventSource` that may be late.
    pub(crate) fn note_events(&mut self) {
        self.for_events = true;
    }
}

/// Whether the server may answer in the place of a handler that takes too long, whatever its route.
fn may_be_late(settings: &Settings) -> bool {
    settings.request_timeout.is_some() || settings.max_connection_age.is_some()
}

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
    /// What the rate limit says, if it is about that.
    pub(crate) over: Option<Decision>,
}

impl<'a> OwnAnswer<'a> {
    pub(crate) fn new(status: StatusCode, text: &'a str) -> Self {
        Self { status, text, over: None }
    }

    /// Hands the whole answer to what writes it.
    pub(crate) fn write<R>(&self, settings: &Settings, asked: &Asked, write: impl FnOnce(&ShortAnswer<'_>) -> R) -> R {
        let cors = settings.refusal_cors.fields(asked.origin);
        let mut fields = Fields::new();
        fields.extend(cors.as_slice());
        if let Some(id) = &asked.id {
            fields.extend(&[(request_id::FIELD_NAME, id.as_bytes())]);
        }
        let comes_back = matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
        if comes_back && asked.for_events {
            let body = retry_event(self.over.map_or(RETRY_AFTER, |over| over.retry_after), random());
            fields.extend(&[("cache-control", b"no-store")]);
            let (status, body) = (StatusCode::OK, body.as_bytes());
            return write(&ShortAnswer {
                status,
                content_type: EVENT_STREAM,
                fields: fields.as_slice(),
                lines: &[],
                body,
            });
        }
        if let (Some(over), Some(limit)) = (&self.over, &settings.rate_limit_in_force) {
            let numbers = limit.fields().rest_of_lines(over, random());
            let lines = [limit.fields().begin_of_lines(), numbers.as_slice()];
            return write(&limit.refusal(fields.as_slice(), &lines));
        }
        let mut buffer = itoa::Buffer::new();
        if comes_back {
            fields.extend(&[("retry-after", buffer.format(RETRY_AFTER.as_secs()).as_bytes())]);
        }
        let body = error_text(self.status, self.text);
        let (fields, body) = (fields.as_slice(), body.as_bytes());
        write(&ShortAnswer { status: self.status, content_type: "text/plain", fields, lines: &[], body })
    }
}

/// A number that no client expects: SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014), with a
/// seed for each thread. Answers show a few bits of it.
pub(crate) fn random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(()));
    }
    let state = STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(state);
    let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
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
