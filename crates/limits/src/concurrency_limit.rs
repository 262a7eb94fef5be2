//! A layer that bounds how many requests are in a service at the same time, with a short queue in front of it.
//!
//! It is for handlers that *wait*: for a pool of connections to a store, or another server. What such a handler holds is not the CPU, so
//! a server's own measures see nothing of it, and its queue grows until every client has given up. The law: a queue that cannot be
//! worked off in time is a list of answers that nobody waits for any more.
//!
//! The invariant: a request holds its place until its response's *body* has ended or was dropped, and whatever ends a request frees it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::admission::{Admission, Bounds, Place, Places, Waiting};
use crate::event_source::is_event_source;
use crate::limited_body::LimitedBody;
use crate::reduced_capacity::refuse;

/// How long a request waits for its place, unless [`ConcurrencyLimit::wait`] says otherwise.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// At most `max` requests at the same time in the service behind this layer; a few more wait, and the others are refused.
///
/// A request that finds no place waits in a queue: first come, first served. It is refused at once if the queue is full
/// ([`queue`](Self::queue)), or if, by how long requests have taken lately, it would wait longer than it may ([`wait`](Self::wait)); and
/// when it has waited that long. The refusal is 503 with `Retry-After` and a problem document (`temporary-reduced-capacity`, as in
/// draft-ietf-httpapi-ratelimit-headers), or for an `EventSource`, which would end for ever at a 503, 200 and a `retry:`.
///
/// A place is held until the response's body has ended or was dropped; a connection that switches protocols, as to a WebSocket, holds none
/// from its 101 on. Clones share the places, so one limit may stand before several
/// routes:
///
/// ```
/// use std::time::Duration;
/// use axum::{Router, routing::get};
/// use baiwan_limits::ConcurrencyLimit;
///
/// // Half of a pool of 20 connections is for reports, and a report that would wait for more than 50 ms is refused.
/// let reports = ConcurrencyLimit::share(50, 20).queue(10).wait(Duration::from_millis(50));
/// let app: Router = Router::new()
///     .route("/reports", get(|| async { "a report" }))
///     .layer(reports.clone())
///     .route("/", get(|| async { "hello" }));
/// assert_eq!(reports.statistics().in_service, 0);
/// ```
///
/// Needs a Tokio runtime with time.
#[derive(Clone, Debug)]
pub struct ConcurrencyLimit {
    bounds: Bounds,
    places: Arc<Places>,
}

/// What a [`ConcurrencyLimit`] has done, over all its clones. Each number is exact, but they are not taken at one instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ConcurrencyStatistics {
    /// Requests that hold a place.
    pub in_service: usize,
    /// Requests that wait for one.
    pub waiting: usize,
    /// Requests that were given a place since the start.
    pub admitted: u64,
    /// Requests that were refused since the start because the queue was full.
    pub refused_full: u64,
    /// Requests that were refused since the start because they would have waited too long, or had.
    pub refused_late: u64,
}

impl ConcurrencyLimit {
    /// A limit of `max` requests; as many may wait, each for up to 100 ms.
    ///
    /// # Panics
    /// If `max` is 0.
    pub fn new(max: usize) -> Self {
        assert!(max > 0, "a limit of 0 would serve nothing");
        Self { bounds: Bounds { queue_max: max, wait_max: WAIT_MAX }, places: Places::new(max) }
    }

    /// A limit of `percent` of what there is `of` something, such as the connections of a pool: rounded down, and at least 1.
    ///
    /// # Panics
    /// If `percent` is 0.
    pub fn share(percent: u32, of: usize) -> Self {
        assert!(percent > 0, "a share of 0 % would serve nothing");
        let max = of as u128 * u128::from(percent) / 100;
        Self::new(usize::try_from(max).unwrap_or(usize::MAX).max(1))
    }

    /// Sets how many requests may wait; 0 lets none wait. The default is the limit itself.
    pub fn queue(mut self, max: usize) -> Self {
        self.bounds.queue_max = max;
        self
    }

    /// Sets how long a request may wait. The default is 100 ms.
    pub fn wait(mut self, max: Duration) -> Self {
        self.bounds.wait_max = max;
        self
    }

    /// What this limit and its clones have done.
    pub fn statistics(&self) -> ConcurrencyStatistics {
        let places = &self.places;
        ConcurrencyStatistics {
            in_service: places.held(),
            waiting: places.waiting(),
            admitted: places.admitted.load(Relaxed),
            refused_full: places.refused_full.load(Relaxed),
            refused_late: places.refused_late.load(Relaxed),
        }
    }
}

impl<S> Layer<S> for ConcurrencyLimit {
    type Service = ConcurrencyLimited<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ConcurrencyLimited { inner, limit: self.clone() }
    }
}

/// A service behind a [`ConcurrencyLimit`].
#[derive(Clone, Debug)]
pub struct ConcurrencyLimited<S> {
    inner: S,
    limit: ConcurrencyLimit,
}

impl<S, B, R> Service<Request<B>> for ConcurrencyLimited<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    R: Body<Data = Bytes>,
{
    type Response = Response<LimitedBody<R>>;
    type Error = S::Error;
    type Future = ConcurrencyLimitedFuture<S, Request<B>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let event_source = is_event_source(request.method(), request.headers());
        let state = match self.limit.places.admit(self.limit.bounds) {
            Admission::Admitted(place) => State::Serving { future: self.inner.call(request), place: Some(place) },
            Admission::Waits(waiting) => {
                // The one that was polled is the one that is ready.
                let fresh = self.inner.clone();
                let inner = std::mem::replace(&mut self.inner, fresh);
                State::Waiting { waiting, held_back: Some((inner, request)), event_source }
            }
            Admission::Refused => State::Refused { event_source },
        };
        ConcurrencyLimitedFuture { state }
    }
}

pin_project! {
    /// The response of a [`ConcurrencyLimited`] service.
    pub struct ConcurrencyLimitedFuture<S, Q>
    where
        S: Service<Q>,
    {
        #[pin]
        state: State<S, Q>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, Q>
    where
        S: Service<Q>,
    {
        Waiting { waiting: Waiting, held_back: Option<(S, Q)>, event_source: bool },
        Serving { #[pin] future: S::Future, place: Option<Place> },
        Refused { event_source: bool },
    }
}

impl<S, Q, R> Future for ConcurrencyLimitedFuture<S, Q>
where
    S: Service<Q, Response = Response<R>>,
    R: Body<Data = Bytes>,
{
    type Output = Result<Response<LimitedBody<R>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Waiting { waiting, held_back, event_source } => {
                    match ready!(waiting.as_mut().poll(cx)) {
                        Ok(place) => {
                            let (mut inner, request) = held_back.take().expect("a request waits once");
                            State::Serving { future: inner.call(request), place: Some(place) }
                        }
                        Err(_) => State::Refused { event_source: *event_source },
                    }
                }
                StateProjection::Serving { future, place } => {
                    let response = ready!(future.poll(cx));
                    let place = place.take();
                    return Poll::Ready(response.map(|response| response.map(|body| LimitedBody::new(body, place))));
                }
                StateProjection::Refused { event_source } => {
                    return Poll::Ready(Ok(refuse(*event_source).map(LimitedBody::refusal)));
                }
            };
            state.set(next);
        }
    }
}
