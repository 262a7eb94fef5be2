//! One record of every exchange, for whoever wants to count or log them.
//!
//! A [`Draft`] goes along with an exchange while there is an observer, and becomes an [`Exchange`] when that ends. Without an
//! observer there is none: no allocation, no look at the clock.
//!
//! The invariant: a draft that was begun is finished exactly once.

use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use http::{Method, StatusCode};

use crate::say::say;
use crate::status::CloseReason;

/// The route of a request that no route's template is known of.
const UNMATCHED: &str = "unmatched";

/// What is known of an exchange at its end: a request, and what was answered. See
/// [`Builder::observe`](crate::Builder::observe).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Exchange<'a> {
    /// None where the head of the request was refused or did not come in time, or the connection was beyond the maximum.
    pub method: Option<&'a Method>,
    /// The template of the route, such as `/users/{id}`, through nested routers as a whole; `unmatched` where none is known. It
    /// is known before the handler runs, so of those that panic or time out too.
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
    /// When the head of the request was complete, or was given up.
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
}

/// How an exchange ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The answer of the app was sent as a whole, whatever its status. With 101 the connection is the app's from then on. What is
    /// counted as sent before the kernel has it: see [`Exchange::bytes_out`].
    Answered,
    /// The server did not let the request through and answered by itself, with `status`, for example because of a rate limit. The connection
    /// went on, unless its client did not want it to.
    Denied,
    /// It came to another end, and its connection with it: a request that was refused, a timeout, a handler that failed, a peer
    /// that left, a server that stopped. `status` is what was answered all the same, if anything was.
    Ended(CloseReason),
}

/// Who is told of every exchange.
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

    /// Tells of a peer that was turned away with an answer of which `bytes_out` were sent. Whatever the load, this allocates
    /// nothing.
    #[cfg(all(target_os = "linux", not(baiwan_portable)))]
    pub(crate) fn tell_turned_away(
        &self,
        client: SocketAddr,
        status: StatusCode,
        bytes_out: usize,
        reason: CloseReason,
    ) {
        let now = now();
        self.tell(&Exchange {
            method: None,
            route: UNMATCHED,
            status: Some(status),
            bytes_in: 0,
            bytes_out: bytes_out as u64,
            begun: now,
            answered: Some(now),
            ended: now,
            client,
            outcome: Outcome::Ended(reason),
        });
    }

    /// Tells of a request that the gate did not let through and whose connection goes on: bytes in, bytes out. This allocates nothing.
    #[cfg(all(target_os = "linux", not(baiwan_portable)))]
    pub(crate) fn tell_denied(&self, method: &Method, client: SocketAddr, status: StatusCode, bytes: [u64; 2]) {
        let now = now();
        let [bytes_in, bytes_out] = bytes;
        self.tell(&Exchange {
            method: Some(method),
            route: UNMATCHED,
            status: Some(status),
            bytes_in,
            bytes_out,
            begun: now,
            answered: Some(now),
            ended: now,
            client,
            outcome: Outcome::Denied,
        });
    }

    /// One that panics costs its record and nothing else.
    fn tell(&self, exchange: &Exchange<'_>) {
        if catch_unwind(AssertUnwindSafe(|| (self.0)(exchange))).is_err() {
            say(|| tracing::error!("the observer of exchanges panicked"));
        }
    }
}

/// Where the template of a request's route is written, as soon as it is known: an extension of the request.
#[derive(Clone, Debug, Default)]
pub(crate) struct RouteCell(Arc<OnceLock<Arc<str>>>);

impl RouteCell {
    /// Of several, the first stands.
    #[cfg(feature = "matched-path")]
    pub(crate) fn write(&self, template: &str) {
        let _ = self.0.get_or_init(|| Arc::from(template));
    }

    fn template(&self) -> &str {
        self.0.get().map_or(UNMATCHED, |template| template)
    }
}

/// The record of an exchange that has not ended.
#[derive(Debug)]
pub(crate) struct Draft {
    method: Option<Method>,
    pub(crate) route: RouteCell,
    client: SocketAddr,
    begun: Instant,
    answered: Option<(StatusCode, Instant)>,
    /// The server answered by itself, and the connection goes on.
    pub(crate) denied: bool,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

impl Draft {
    /// Begins the record of a request, which has a method if its head was accepted.
    pub(crate) fn begin(method: Option<Method>, client: SocketAddr) -> Box<Self> {
        Box::new(Self {
            method,
            route: RouteCell::default(),
            client,
            begun: now(),
            answered: None,
            denied: false,
            bytes_in: 0,
            bytes_out: 0,
        })
    }

    /// An answer has a head. What the server says instead of the app's answer comes later and counts.
    pub(crate) fn handle_head(&mut self, status: StatusCode) {
        self.answered = Some((status, now()));
    }

    /// Whether the head of the request was accepted.
    pub(crate) fn has_method(&self) -> bool {
        self.method.is_some()
    }

    /// Whether the answer has a head.
    pub(crate) fn has_head(&self) -> bool {
        self.answered.is_some()
    }

    /// The exchange has ended. `last` is why its connection ends with it, if it does.
    pub(crate) fn finish(self, observer: &Observer, last: Option<CloseReason>) {
        let outcome = match last {
            None | Some(CloseReason::Complete) if self.denied => Outcome::Denied,
            None | Some(CloseReason::Complete) => Outcome::Answered,
            Some(reason) => Outcome::Ended(reason),
        };
        observer.tell(&Exchange {
            method: self.method.as_ref(),
            route: self.route.template(),
            status: self.answered.map(|(status, _)| status),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            begun: self.begun,
            answered: self.answered.map(|(_, at)| at),
            ended: now(),
            client: self.client,
            outcome,
        });
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
