//! One record of every exchange, for whoever wants to count or log them: what it says, and to which function of the program.
//!
//! How records come about is `recorder`'s.

use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};

use crate::request_id::RequestId;
use crate::route_table::RouteNumber;
use crate::say::say;
use crate::status::CloseReason;

/// What is known of an exchange at its end: a request, and what was answered. See
/// [`Builder::observe`](crate::Builder::observe).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Exchange<'a> {
    /// None where no head was read: it was refused or did not come in time, or the connection was turned away before.
    pub method: Option<&'a Method>,
    /// The path of the request's target, without its query, as it was sent. None where no head was read, and where only metrics are made
    /// of records.
    pub path: Option<&'a str>,
    /// The template of the route, such as `/users/{id}`, through nested routers as a whole; `unmatched` where none is known, and `other`
    /// beyond the first 1,000 of a server. It is known before the handler runs, so of those that panic or time out too.
    pub route: &'a str,
    /// None where no head of an answer was made.
    pub status: Option<StatusCode>,
    /// Bytes of the request that were received: its head and, as far as somebody read it, its body, with the framing. 0 where
    /// `method` is None. With [`EventLoop::Portable`](crate::EventLoop::Portable): bytes that were received since the exchange
    /// before ended, which is the same unless the client sends its next request before it has the answer.
    pub bytes_in: u64,
    /// Bytes of the answer that were sent, with head and framing. After a 101 nothing is counted: what follows is not HTTP. A small
    /// answer that was there at once counts when it is made, and may be lost on its way if its connection fails a moment later. So
    /// may one, with [`EventLoop::Portable`](crate::EventLoop::Portable), whose client has sent its next request already.
    pub bytes_out: u64,
    /// When the head of the request was complete, or was given up: when it was received, however many other requests were answered before
    /// it came to its turn; with [`Overload::Auto`](crate::Overload::Auto), since when its connection was ready.
    pub begun: Instant,
    /// When the head of the answer was made.
    pub answered: Option<Instant>,
    /// When the kernel had taken the last byte of the answer, or the exchange was cut. For a small answer that was there at once:
    /// when it was made; it leaves with those of other connections, less than a millisecond later.
    pub ended: Instant,
    /// The address of the client: the peer's, `0.0.0.0:0` over a Unix socket; or, with port 0, the one that a
    /// [trusted proxy](crate::Builder::trusted_proxies) has named. Where the head of the request was refused, the peer's.
    pub client: SocketAddr,
    /// How it ended.
    pub outcome: Outcome,
    /// Why the server answered by itself, by the name that the answer gives: the limit that did not let the request through, such as
    /// `rate-limited`, or the rule of HTTP that it broke, such as `host-missing`. A rate limit among the layers of the app
    /// ([`baiwan_limits::RateLimit`]) counts as the server's. None for answers of the app, for timeouts, and for what hyper refuses by itself
    /// ([`EventLoop::Portable`](crate::EventLoop::Portable)).
    pub denied: Option<&'static str>,
    /// The id of the request, where the server gives ids.
    pub request_id: Option<&'a str>,
    /// The trace that the request is a part of, where the server gives ids and the request has named one.
    pub trace_id: Option<&'a str>,
    /// The number of the core that served it, from 0 on.
    pub core: usize,
    /// The answer was no matter of a moment: a piece of its body had to be waited for after the first; or it was one of Server-Sent Events
    /// (`text/event-stream`, without a length); or the connection switched protocols (101). One whose first piece was waited for, and no
    /// other, is no stream.
    pub is_stream: bool,
    /// The same id, of which `request_id` and `trace_id` are told to the program alone: to have them as text takes time.
    pub(crate) id: Option<&'a RequestId>,
    /// From `begun` to `ended`.
    pub(crate) lasted: Duration,
    /// The number of `route`.
    #[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "metrics alone are found by it"))]
    pub(crate) route_number: RouteNumber,
}

/// How an exchange ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The answer of the app was sent as a whole, whatever its status. With 101 the connection is the app's from then on. What is
    /// counted as sent before the kernel has it: see [`Exchange::bytes_out`].
    Answered,
    /// The server did not let the request through and answered by itself, with `status`, for example because of a rate limit, its own or
    /// one among the layers of the app. The connection went on, unless its client did not want it to.
    Denied,
    /// It came to another end, and its connection with it: a request that was refused, a timeout, a handler that failed, a peer
    /// that left, a server that stopped. `status` is what was answered all the same, if anything was.
    Ended(CloseReason),
}

/// Who is told of every exchange: a function of the program's.
#[derive(Clone)]
pub(crate) struct Observer(Arc<dyn Fn(&Exchange<'_>) + Send + Sync>);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

impl Observer {
    pub(crate) fn new(observe: impl Fn(&Exchange<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(observe))
    }

    /// One that panics costs its record and nothing else.
    pub(crate) fn tell(&self, exchange: &Exchange<'_>) {
        if catch_unwind(AssertUnwindSafe(|| (self.0)(exchange))).is_err() {
            say(|| tracing::error!("the observer of exchanges panicked"));
        }
    }
}

#[cfg(test)]
impl Exchange<'static> {
    /// A GET that was answered with `status` at once.
    pub(crate) fn answered(status: StatusCode) -> Self {
        let now = tokio::time::Instant::now().into_std();
        Self {
            method: Some(&Method::GET),
            path: None,
            route: "unmatched",
            status: Some(status),
            bytes_in: 1,
            bytes_out: 2,
            begun: now,
            answered: Some(now),
            ended: now,
            client: SocketAddr::from(([192, 0, 2, 1], 80)),
            outcome: Outcome::Answered,
            denied: None,
            request_id: None,
            trace_id: None,
            core: 0,
            is_stream: false,
            id: None,
            lasted: Duration::ZERO,
            route_number: RouteNumber::UNMATCHED,
        }
    }
}
