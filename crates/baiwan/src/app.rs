//! What is served: any tower service from requests to responses.

use std::error::Error as StdError;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use tower_service::Service;

use crate::Body;
use crate::incoming::IncomingStream;

/// An error of an app, as tower's layers use it.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// A call in progress that waits.
pub(crate) type Call<B> = Pin<Box<dyn Future<Output = Result<Response<B>, BoxError>>>>;

/// An app: implemented for every tower [`Service`] from [`Request<Body>`] to [`Response`] that can be cloned.
///
/// An axum `Router` is one; so is a `Router` with layers, a tower stack of your own, or a `tower::service_fn`. The app need not
/// be `Send`: each core has its own. You never implement this trait yourself.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an app: it is no service from `http::Request<baiwan::Body>` to a response",
    label = "not an app"
)]
#[cfg_attr(
    feature = "axum",
    diagnostic::on_unimplemented(
        note = "a `Router` that still lacks its state becomes an app with `.with_state(..)`",
        note = "a service over `axum::extract::Request`, and whatever else `axum::serve` takes but for makers of your own, becomes \
                an app with `baiwan::axum_app(..)`"
    )
)]
pub trait App: Clone + 'static + Sealed {
    /// The body of its responses.
    type ResponseBody: http_body::Body<Data: bytes::Buf, Error: Into<BoxError>> + 'static;

    /// The body of its requests.
    #[doc(hidden)]
    type RequestBody: 'static;

    /// Why it has no answer.
    #[doc(hidden)]
    type Error: Into<BoxError>;

    /// A call of it.
    #[doc(hidden)]
    type Future: Future<Output = Result<Response<Self::ResponseBody>, Self::Error>> + 'static;

    #[doc(hidden)]
    fn request_body(body: Body) -> Self::RequestBody;

    #[doc(hidden)]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>>;

    #[doc(hidden)]
    fn call(&mut self, request: Request<Self::RequestBody>) -> Self::Future;

    /// Whether each connection has an app of its own, which [`connect`](Self::connect) makes before its first request.
    #[doc(hidden)]
    fn is_per_connection(&self) -> bool {
        false
    }

    /// The app of one connection.
    #[doc(hidden)]
    fn connect(&self, _stream: IncomingStream<'_>) -> Self {
        self.clone()
    }
}

mod sealed {
    pub trait Sealed {}
}

pub(crate) use self::sealed::Sealed;

#[diagnostic::do_not_recommend]
impl<S, B> Sealed for S where S: Service<Request<Body>, Response = Response<B>> {}

#[diagnostic::do_not_recommend]
impl<S, B> App for S
where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>, Future: 'static> + Clone + 'static,
    B: http_body::Body<Data: bytes::Buf, Error: Into<BoxError>> + 'static,
{
    type ResponseBody = B;
    type RequestBody = Body;
    type Error = S::Error;
    type Future = S::Future;

    #[inline]
    fn request_body(body: Body) -> Body {
        body
    }

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Service::poll_ready(self, cx).map_err(Into::into)
    }

    #[inline]
    fn call(&mut self, request: Request<Body>) -> S::Future {
        Service::call(self, request)
    }
}

/// Calls an app that was not ready: waits for it on a clone, as tower demands.
pub(crate) fn call_when_ready<A: App>(mut app: A, request: Request<A::RequestBody>) -> Call<A::ResponseBody> {
    Box::pin(async move {
        std::future::poll_fn(|cx| app.poll_ready(cx)).await?;
        app.call(request).await.map_err(Into::into)
    })
}

/// Whether an answer with these fields is one of Server-Sent Events.
#[inline]
pub(crate) fn is_of_events(headers: &HeaderMap) -> bool {
    let is_of_events = |value: &HeaderValue| value.as_bytes().starts_with(b"text/event-stream");
    headers.get(CONTENT_TYPE).is_some_and(is_of_events)
}

/// Whether a request asks about the server as a whole: `OPTIONS *` (RFC 9110, section 9.3.7). No other target is an asterisk.
pub(crate) fn is_for_server<T>(request: &Request<T>) -> bool {
    request.method() == Method::OPTIONS && request.uri().path() == "*"
}

/// The most that axum's extractors collect of a body where nobody tells them, in bytes.
pub(crate) const BUFFERED_BODY_BYTES_UNTOLD: usize = 2_097_152;

/// Tells axum's extractors how much of a body they may collect, if that is not what they do by themselves; a route's own `DefaultBodyLimit`
/// comes later and wins.
pub(crate) fn limit_buffered_body<T>(request: &mut Request<T>, bytes_max: usize) {
    #[cfg(feature = "axum")]
    if bytes_max != BUFFERED_BODY_BYTES_UNTOLD {
        axum::extract::DefaultBodyLimit::max(bytes_max).apply(request);
    }
    #[cfg(not(feature = "axum"))]
    let _ = (request, bytes_max);
}

/// Tells the app who asks: as axum's `ConnectInfo`, or without axum as the bare address.
pub(crate) fn add_peer<T>(request: &mut Request<T>, peer: SocketAddr) {
    #[cfg(feature = "axum")]
    let peer = axum::extract::ConnectInfo(peer);
    request.extensions_mut().insert(peer);
}

#[cfg(all(test, feature = "axum"))]
mod tests {
    use axum::extract::FromRequest;

    use super::*;

    #[tokio::test]
    async fn axum_collects_by_itself_what_we_take_for_granted() {
        for (bytes, is_collected) in [(BUFFERED_BODY_BYTES_UNTOLD, true), (BUFFERED_BODY_BYTES_UNTOLD + 1, false)] {
            let mut request = Request::new(axum::body::Body::from(vec![b'x'; bytes]));
            limit_buffered_body(&mut request, BUFFERED_BODY_BYTES_UNTOLD);
            assert_eq!(bytes::Bytes::from_request(request, &()).await.is_ok(), is_collected, "{bytes}");
        }
    }
}
