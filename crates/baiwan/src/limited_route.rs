//! The layer that [`RouteLimits`] are: how they reach whoever judges them.
//!
//! The server's loops judge time and bytes, not the layer: so nothing is wrapped, and what is late or too large ends as the server's own
//! limits end it. The layer says its limits in the scope that a loop opens around each poll of a call (`call_scope`).
//!
//! The invariant: limits reach the exchange whose call was being polled, or nobody.

use std::pin::Pin;
use std::task::{Context, Poll};

use baiwan_limits::is_event_source;
use http::Request;
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::call_scope::{Told, tell};
use crate::route_limits::RouteLimits;

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
        let is_heard = tell(Told { limits, is_too_large, for_events, ..Told::default() });
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
