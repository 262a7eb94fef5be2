//! Limits of one route in the place of the server's, and how they reach whoever judges them.
//!
//! The server's loops judge time and bytes, not the layer: so nothing is wrapped, and what is late or too large ends as the server's own
//! limits end it. A loop opens a scope around each poll of a call; a layer that is called within it leaves its limits there, and the loop
//! takes them after the poll.
//!
//! The invariant: limits reach the exchange whose call was being polled, or nobody.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use baiwan_limits::is_event_source;
use http::Request;
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

/// Time and bytes that requests of a route may take, in the place of what the [`Builder`](crate::Builder) says: a layer for a route, a
/// `Router`, or any other service.
///
/// What is not set here stays as it is for the whole server. What is late or too large ends as the server's own limits end it: the same
/// status and text, the same [`CloseReason`](crate::CloseReason), the same record for an observer.
///
/// - Where one such layer is inside of another, the innermost layer that sets a time or a rate decides it. Of limits of bytes the smallest holds.
/// - [`Builder::body_limit`](crate::Builder::body_limit) is judged before it is known which route a request is for, so no route is above it.
/// - Times count from the moment at which the request reaches the layer. Until then, behind a middleware that waits, the server's times hold.
/// - The layer must be called in the task in which the server calls the app. It has no effect in a task that the app spawns, or on another
///   server.
///
/// # Example
/// ```
/// use std::time::Duration;
///
/// use axum::{Router, routing::{get, post}};
/// use baiwan::RouteLimits;
///
/// // Waits for news for up to two minutes.
/// let poll = get(|| async { "news" }).layer(RouteLimits::new().request_timeout(Some(Duration::from_secs(130))));
/// // A sensor sends a few bytes an hour, in one request that does not end; never more than 64 KiB.
/// let sensor = RouteLimits::new().body_min_rate(0).body_timeout(None).body_limit(64 * 1024);
/// let readings = post(|body: String| async move { body.len().to_string() }).layer(sensor);
///
/// let app = Router::new().route("/poll", poll).route("/readings", readings);
/// let server = baiwan::Server::builder().bind("127.0.0.1:0").request_timeout(Some(Duration::from_secs(10)));
/// # let running = server.start(app)?;
/// # drop(running);
/// # Ok::<(), baiwan::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct RouteLimits {
    /// None is the server's; within that, None is no timeout.
    pub(crate) request_timeout: Option<Option<Duration>>,
    pub(crate) body_timeout: Option<Option<Duration>>,
    /// Bytes a second; 0 is any.
    pub(crate) body_rate_min: Option<u32>,
    pub(crate) body_bytes_max: Option<u64>,
}

impl RouteLimits {
    /// Limits that are the server's.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long a handler may take until its response head, instead of [`Builder::request_timeout`](crate::Builder::request_timeout);
    /// `None` is as long as it likes. Then 503 with `Retry-After`.
    pub fn request_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.request_timeout = Some(timeout);
        self
    }

    /// How long a request's body may take in all, instead of [`Builder::body_timeout`](crate::Builder::body_timeout); `None` is as long
    /// as it likes. Then 408.
    pub fn body_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.body_timeout = Some(timeout);
        self
    }

    /// How many bytes a second a request's body must bring on average while a handler waits for it, instead of
    /// [`Builder::body_min_rate`](crate::Builder::body_min_rate); 0 is any. Then 408.
    pub fn body_min_rate(mut self, bytes_per_second: u32) -> Self {
        self.body_rate_min = Some(bytes_per_second);
        self
    }

    /// How many bytes a request's body may have, streams included. Then 413: before the handler is called and before another byte is
    /// read, if the `Content-Length` or what is there already says so; for a chunked body when it announces a chunk beyond the limit (with
    /// [`EventLoop::Portable`](crate::EventLoop::Portable), when such bytes have come).
    ///
    /// axum's extractors collect 2 MiB by default, whatever is allowed here: see
    /// [`Builder::buffered_body_limit`](crate::Builder::buffered_body_limit).
    pub fn body_limit(mut self, bytes: u64) -> Self {
        self.body_bytes_max = Some(bytes);
        self
    }

    /// Adds what a layer further inside says.
    pub(crate) fn add(&mut self, inner: &Self) {
        self.request_timeout = inner.request_timeout.or(self.request_timeout);
        self.body_timeout = inner.body_timeout.or(self.body_timeout);
        self.body_rate_min = inner.body_rate_min.or(self.body_rate_min);
        self.body_bytes_max = [self.body_bytes_max, inner.body_bytes_max].into_iter().flatten().min();
    }
}

impl<S> Layer<S> for RouteLimits {
    type Service = RouteLimitsService<S>;

    fn layer(&self, inner: S) -> RouteLimitsService<S> {
        RouteLimitsService { inner, limits: *self }
    }
}

/// What [`RouteLimits`] makes of a service.
#[derive(Clone, Debug)]
pub struct RouteLimitsService<S> {
    inner: S,
    limits: RouteLimits,
}

impl<S, B> Service<Request<B>> for RouteLimitsService<S>
where
    S: Service<Request<B>>,
    B: HttpBody,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = RouteLimitsFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let limits = self.limits;
        let is_too_large = limits.body_bytes_max.is_some_and(|max| request.body().size_hint().lower() > max);
        let may_be_late = limits.request_timeout.flatten().is_some();
        let for_events = may_be_late && is_event_source(request.method(), request.headers());
        let is_heard = tell(Told { limits, is_too_large, for_events });
        // Whoever has heard that it is too large polls this no further.
        let future = (!(is_too_large && is_heard)).then(|| self.inner.call(request));
        RouteLimitsFuture { future }
    }
}

pin_project! {
    /// The call of a [`RouteLimitsService`]. One that the server refuses by itself is never ready.
    #[derive(Debug)]
    pub struct RouteLimitsFuture<F> {
        #[pin]
        future: Option<F>,
    }
}

impl<F: Future> Future for RouteLimitsFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project().future.as_pin_mut() {
            Some(future) => future.poll(cx),
            None => Poll::Pending,
        }
    }
}

/// What the layers said that one poll of a call has reached.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    pub(crate) limits: RouteLimits,
    /// The body is beyond the limit by what is known of it, and nobody was called.
    pub(crate) is_too_large: bool,
    /// The request is one of an `EventSource`, and its handler may be late.
    pub(crate) for_events: bool,
}

impl Told {
    /// Adds what was said later.
    pub(crate) fn add(&mut self, later: &Self) {
        self.limits.add(&later.limits);
        self.is_too_large |= later.is_too_large;
        self.for_events |= later.for_events;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// No call is being polled.
    Closed,
    /// One is, and no layer has said anything.
    Open,
    /// What was said is in `TOLD`.
    Told,
}

thread_local! {
    static SCOPE: Cell<Scope> = const { Cell::new(Scope::Closed) };
    static TOLD: Cell<Told> = const {
        let limits =
            RouteLimits { request_timeout: None, body_timeout: None, body_rate_min: None, body_bytes_max: None };
        Cell::new(Told { limits, is_too_large: false, for_events: false })
    };
}

/// Closes the scope, in a panic, too.
struct Close;

impl Drop for Close {
    fn drop(&mut self) {
        SCOPE.set(Scope::Closed);
    }
}

/// Polls a call. Returns what the layers said that it reached, too.
#[inline]
pub(crate) fn listen<T>(poll: impl FnOnce() -> T) -> (T, Option<Told>) {
    SCOPE.set(Scope::Open);
    let close = Close;
    let polled = poll();
    let told = heard();
    drop(close);
    (polled, told)
}

/// What was said so far in the poll that goes on.
#[inline]
pub(crate) fn heard() -> Option<Told> {
    (SCOPE.get() == Scope::Told).then(|| TOLD.get())
}

/// Returns whether somebody listens.
fn tell(told: Told) -> bool {
    let told = match SCOPE.get() {
        Scope::Closed => return false,
        Scope::Open => told,
        Scope::Told => {
            let mut all = TOLD.get();
            all.add(&told);
            all
        }
    };
    TOLD.set(told);
    SCOPE.set(Scope::Told);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(limits: RouteLimits) -> bool {
        tell(Told { limits, ..Told::default() })
    }

    #[test]
    fn what_is_said_reaches_the_poll_in_which_it_is_said_and_no_other() {
        assert!(!say(RouteLimits::new().body_min_rate(1)), "nobody listens");
        assert!(listen(|| ()).1.is_none());
        let (said, told) = listen(|| say(RouteLimits::new().body_min_rate(2)));
        assert!(said);
        assert_eq!(told.unwrap().limits.body_rate_min, Some(2));
        let panicked = std::panic::catch_unwind(|| listen(|| panic!("after {}", say(RouteLimits::new()))));
        assert!(panicked.is_err());
        assert!(!say(RouteLimits::new()));
        assert!(listen(|| ()).1.is_none());
    }

    #[test]
    fn the_innermost_time_and_the_smallest_number_of_bytes_hold() {
        let second = Some(Duration::from_secs(1));
        let outer = RouteLimits::new().request_timeout(second).body_timeout(second).body_limit(10);
        let inner = RouteLimits::new().request_timeout(None).body_limit(20);
        let (_, told) = listen(|| (say(outer), say(inner)));
        let limits = told.unwrap().limits;
        assert_eq!((limits.request_timeout, limits.body_timeout), (Some(None), Some(second)));
        assert_eq!((limits.body_rate_min, limits.body_bytes_max), (None, Some(10)));
    }
}
