//! What a rate limit makes of a service.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_service::Service;

use super::limit::{Limit, Verdict};
use crate::decision::Decision;
use crate::event_source::{EVENT_STREAM, is_event_source, retry_event};
use crate::fields::PROBLEM_MEDIA_TYPE;
use crate::limited_body::LimitedBody;

/// A service behind a [`RateLimit`](crate::RateLimit).
#[derive(Clone)]
pub struct RateLimitService<S> {
    inner: S,
    limit: Arc<Limit>,
}

impl<S> RateLimitService<S> {
    pub(super) fn new(inner: S, limit: Arc<Limit>) -> Self {
        Self { inner, limit }
    }
}

impl<S: fmt::Debug> fmt::Debug for RateLimitService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitService").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl<S, B, C> Service<Request<B>> for RateLimitService<S>
where
    S: Service<Request<B>, Response = Response<C>>,
    C: Body<Data = Bytes>,
{
    type Response = Response<LimitedBody<C>>;
    type Error = S::Error;
    type Future = RateLimitFuture<S::Future, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (parts, body) = request.into_parts();
        match self.limit.decide(&parts, Instant::now().into_std()) {
            Verdict::Refuse(decision) => {
                let response = refusal(&self.limit, &decision, is_event_source(&parts.method, &parts.headers));
                RateLimitFuture { state: State::Refused { response: Some(response.map(LimitedBody::refusal)) } }
            }
            verdict => {
                let told = if let Verdict::Tell(decision) = verdict {
                    Some((Arc::clone(&self.limit), decision))
                } else {
                    None
                };
                RateLimitFuture {
                    state: State::Inner { future: self.inner.call(Request::from_parts(parts, body)), told },
                }
            }
        }
    }
}

/// The answer to a request that was refused.
pub(super) fn refusal(limit: &Limit, decision: &Decision, to_event_source: bool) -> Response<Bytes> {
    let random = RandomState::new().hash_one(());
    let (status, media_type, body) = match to_event_source {
        true => (StatusCode::OK, EVENT_STREAM, retry_event(decision.retry_after, random).into()),
        false => (StatusCode::TOO_MANY_REQUESTS, PROBLEM_MEDIA_TYPE, limit.fields().problem()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    limit.fields().insert(response.headers_mut(), decision, random);
    response
}

pin_project! {
    /// The answer of a service behind a rate limit, or the refusal.
    pub struct RateLimitFuture<F, C> {
        #[pin]
        state: State<F, C>,
    }
}

pin_project! {
    #[project = StateProjected]
    enum State<F, C> {
        Inner {
            #[pin]
            future: F,
            // What the answer will say of the limit.
            told: Option<(Arc<Limit>, Decision)>,
        },
        Refused {
            // Taken by the first poll.
            response: Option<Response<LimitedBody<C>>>,
        },
    }
}

impl<F: Future<Output = Result<Response<C>, E>>, C: Body, E> Future for RateLimitFuture<F, C> {
    type Output = Result<Response<LimitedBody<C>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjected::Inner { future, told } => {
                let mut response = ready!(future.poll(cx))?;
                if let Some((limit, decision)) = told {
                    limit.fields().insert(response.headers_mut(), decision, 0);
                }
                Poll::Ready(Ok(response.map(|body| LimitedBody::new(body, None))))
            }
            StateProjected::Refused { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(response)),
                None => panic!("polled after it was ready"),
            },
        }
    }
}

impl<F, C> fmt::Debug for RateLimitFuture<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitFuture").finish_non_exhaustive()
    }
}
