//! The record of an exchange that has not ended.
//!
//! The loops write into it what they learn. While an exchange is answered at once it is a value on the stack; one that has to wait takes
//! it along, in a box.

use std::net::SocketAddr;
use std::time::Instant;

use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode};

use super::Recorder;
use crate::observe::{Exchange, Outcome};
use crate::rate_limit::RATE_LIMITED;
use crate::request_id::{RequestId, TraceContext};
use crate::route_table::RouteNumber;
use crate::status::CloseReason;

/// What was asked for.
#[derive(Debug)]
enum Target {
    /// Nobody wants to know, or no head was read.
    Unknown,
    /// A part of the head, which it holds on to.
    Whole(PathAndQuery),
    /// Its path, or the beginning of that.
    Path(Box<str>),
}

impl Target {
    fn path(&self) -> Option<&str> {
        match self {
            Self::Unknown => None,
            Self::Whole(target) => Some(target.path()),
            Self::Path(path) => Some(path),
        }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Draft {
    method: Option<Method>,
    target: Target,
    pub(crate) request_id: Option<RequestId>,
    pub(crate) route: RouteNumber,
    client: SocketAddr,
    begun: Instant,
    answered: Option<(StatusCode, Instant)>,
    /// What did not let the request through, by name.
    denied: Option<&'static str>,
    /// The server answered by itself, and the connection goes on.
    goes_on: bool,
    /// See `Exchange::is_stream`.
    pub(crate) is_stream: bool,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

impl Draft {
    /// Begins the record of something that came from `client` at the time `begun`. It has a method if a head was read.
    #[inline]
    pub(crate) fn begin(method: Option<Method>, client: SocketAddr, begun: Instant) -> Self {
        Self {
            method,
            target: Target::Unknown,
            request_id: None,
            route: RouteNumber::UNMATCHED,
            client,
            begun,
            answered: None,
            denied: None,
            goes_on: false,
            is_stream: false,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// Begins the record of a request that came from `client`, of which `bytes_in` are there.
    #[inline]
    pub(crate) fn of_request<B>(
        recorder: &Recorder,
        request: &Request<B>,
        client: SocketAddr,
        id: Option<&RequestId>,
        begun: Instant,
        bytes_in: u64,
    ) -> Self {
        let target = match request.uri().path_and_query().filter(|_| recorder.path_bytes_max() > 0) {
            Some(target) => Target::Whole(target.clone()),
            None => Target::Unknown,
        };
        // As a whole: it is large to be moved about.
        let method = Some(request.method().clone());
        Self { method, target, request_id: id.cloned(), bytes_in, ..Self::begin(None, client, begun) }
    }

    /// It has to wait: what it knows of its request is its own from now on, and as much as it can say, so that the head can go.
    pub(crate) fn into_kept(mut self, recorder: &Recorder) -> Box<Self> {
        if let Some(path) = self.target.path() {
            // No character is cut in two.
            let end = (recorder.path_bytes_max()..path.len()).find(|at| path.is_char_boundary(*at));
            self.target = Target::Path(path[..end.unwrap_or(path.len())].into());
        }
        Box::new(self)
    }

    /// An answer has a head, since `at`. What the server says instead of the app's answer comes later and counts.
    #[inline]
    pub(crate) fn handle_head(&mut self, status: StatusCode, at: Instant) {
        let status = match self.denied {
            // An `EventSource` obeys nothing else: it stands for what others are told, as the server's own does.
            Some(RATE_LIMITED) if status == StatusCode::OK => StatusCode::TOO_MANY_REQUESTS,
            _ => status,
        };
        self.answered = Some((status, at));
        self.is_stream |= status == StatusCode::SWITCHING_PROTOCOLS;
    }

    /// The server answers by itself, because of what has this name.
    pub(crate) fn handle_denied(&mut self, name: &'static str) {
        self.denied = Some(name);
    }

    /// A rate limit among the layers of the app answers instead of it, with what comes next as its answer.
    #[cold]
    pub(crate) fn handle_rate_limited(&mut self) {
        self.handle_denied(RATE_LIMITED);
        self.handle_goes_on();
    }

    /// The connection goes on after an answer of the server's own.
    pub(crate) fn handle_goes_on(&mut self) {
        self.goes_on = true;
    }

    /// Whether the head of the request was accepted.
    pub(crate) fn has_method(&self) -> bool {
        self.method.is_some()
    }

    /// Whether the answer has a head.
    pub(crate) fn has_head(&self) -> bool {
        self.answered.is_some()
    }

    /// The exchange has ended, at the time `ended`. `last` is why its connection ends with it, if it does.
    #[inline]
    pub(crate) fn finish(&self, recorder: &Recorder, last: Option<CloseReason>, ended: Instant) {
        let outcome = match last {
            None | Some(CloseReason::Complete | CloseReason::Age) if self.goes_on => Outcome::Denied,
            None | Some(CloseReason::Complete | CloseReason::Age) => Outcome::Answered,
            Some(reason) => Outcome::Ended(reason),
        };
        let id = self.request_id.as_ref();
        let told = id.filter(|_| recorder.has_observer());
        recorder.tell(&Exchange {
            method: self.method.as_ref(),
            path: self.target.path(),
            route: recorder.routes().template(self.route),
            status: self.answered.map(|(status, _)| status),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            begun: self.begun,
            answered: self.answered.map(|(_, at)| at),
            ended,
            client: self.client,
            outcome,
            denied: self.denied,
            request_id: told.map(RequestId::as_str),
            trace_id: told.and_then(RequestId::trace_context).map(TraceContext::trace_id),
            core: recorder.core,
            is_stream: self.is_stream,
            id,
            lasted: ended.saturating_duration_since(self.begun),
            route_number: self.route,
        });
    }
}

/// The time, for whoever has none of a turn.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::observe::Observer;

    #[test]
    fn a_record_that_waits_holds_on_to_nothing_of_its_head() {
        let recorder = Recorder::of_observer(Observer::new(|_| {}));
        let head = Bytes::from("/a/path?and=query".to_owned() + &"x".repeat(100));
        let mut request = Request::new(());
        *request.uri_mut() = PathAndQuery::from_maybe_shared(head.clone()).unwrap().into();
        let draft = Draft::of_request(&recorder, &request, "192.0.2.1:80".parse().unwrap(), None, now(), 0);
        drop(request);
        assert!(!head.is_unique(), "one that does not wait copies nothing");
        let kept = draft.into_kept(&recorder);
        assert!(head.is_unique());
        assert_eq!(kept.target.path(), Some("/a/path"));
    }
}
