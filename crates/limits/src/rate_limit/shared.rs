//! The rate limit whose budgets several instances share. A request waits for the store, at most as long as a check may take; everything
//! else is as without one.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::RateLimit;
use super::limit::{Limit, Verdict};
use super::service::refusal;
use crate::RedisStore;
use crate::event_source::is_event_source;
use crate::limited_body::LimitedBody;

/// A [`RateLimit`] whose budgets are in a store; see [`RateLimit::store`].
#[derive(Clone, Debug)]
pub struct SharedRateLimit {
    limit: RateLimit,
    store: RedisStore,
}

impl SharedRateLimit {
    pub(super) fn new(limit: RateLimit, store: RedisStore) -> Self {
        Self { limit, store }
    }

    /// How many requests this instance has refused, or would have.
    pub fn refusals(&self) -> u64 {
        self.limit.refusals()
    }
}

impl<S> Layer<S> for SharedRateLimit {
    type Service = SharedRateLimitService<S>;

    fn layer(&self, inner: S) -> SharedRateLimitService<S> {
        SharedRateLimitService { inner, limit: self.limit.in_use(), store: self.store.clone() }
    }
}

/// A service behind a [`SharedRateLimit`].
#[derive(Clone)]
pub struct SharedRateLimitService<S> {
    inner: S,
    limit: Arc<Limit>,
    store: RedisStore,
}

/// The answer of a service behind a [`SharedRateLimit`], or the refusal.
pub type SharedRateLimitFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl<S: fmt::Debug> fmt::Debug for SharedRateLimitService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRateLimitService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, B, C> Service<Request<B>> for SharedRateLimitService<S>
where
    S: Service<Request<B>, Response = Response<C>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    C: Body<Data = Bytes>,
{
    type Response = Response<LimitedBody<C>>;
    type Error = S::Error;
    type Future = SharedRateLimitFuture<Response<LimitedBody<C>>, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that was polled until it was ready is the one that is called.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        let (parts, body) = request.into_parts();
        let Some(asked) = self.limit.decide_shared(&self.store, &parts) else {
            let call = inner.call(Request::from_parts(parts, body));
            return Box::pin(async { call.await.map(|response| response.map(|body| LimitedBody::new(body, None))) });
        };
        let limit = Arc::clone(&self.limit);
        Box::pin(async move {
            let verdict = asked.await;
            if let Verdict::Refuse(decision) = &verdict {
                return Ok(
                    refusal(&limit, decision, is_event_source(&parts.method, &parts.headers)).map(LimitedBody::refusal)
                );
            }
            let mut response = inner.call(Request::from_parts(parts, body)).await?;
            if let Verdict::Tell(decision) = &verdict {
                limit.fields().insert(response.headers_mut(), decision, 0);
            }
            Ok(response.map(|body| LimitedBody::new(body, None)))
        })
    }
}
