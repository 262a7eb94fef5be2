//! What `axum::serve` takes, but for makers of the user's own, as an app of this server.
//!
//! | axum's | as an app |
//! |---|---|
//! | a service over `axum::extract::Request` | `AxumApp`: the request's body becomes axum's |
//! | `IntoMakeService` | `AxumApp` of the service that it makes |
//! | `IntoMakeServiceWithConnectInfo` of `SocketAddr` | `ConnectInfoApp`, the same for all connections: a service for each request |
//! | the same, of a type of the user's | `ConnectInfoApp`, one for each connection |
//!
//! Which of the three it is, the compiler infers: `IntoApp` has a parameter that stands for the kind.

use std::any::{Any, TypeId};
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use axum::Router;
use axum::body::Body as AxumBody;
use axum::extract::ConnectInfo;
use axum::extract::connect_info::{Connected, IntoMakeServiceWithConnectInfo};
use axum::middleware::AddExtension;
use axum::routing::IntoMakeService;
use baiwan_driver::Peer;
use http::{Request, Response};
use tower_service::Service;

use crate::app::{App, Sealed};
use crate::incoming::IncomingStream;
use crate::{Body, BoxError};

/// What `axum::serve` takes, but for makers of your own: implemented for every service over [`axum::extract::Request`] (a `Router`, a `MethodRouter`, layers
/// around them, a `tower::service_fn`), and for what `into_make_service` and `into_make_service_with_connect_info` make.
///
/// `Kind` says which of these it is; it is inferred. You never implement this trait yourself.
///
/// # Example
/// ```
/// use axum::handler::HandlerWithoutStateExt;
///
/// async fn handler() -> &'static str {
///     "hello"
/// }
///
/// let server = baiwan::serve("127.0.0.1:0", handler.into_make_service());
/// # drop(server);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be served: it is no service from `axum::extract::Request` to a response",
    label = "not an app",
    note = "a `Router` that still lacks its state becomes an app with `.with_state(..)`",
    note = "other services are apps if they are `Clone + 'static` and their errors become a `BoxError`; of makers, what axum's \
            `into_make_service()` and `into_make_service_with_connect_info::<C>()` return is served, and no other: give the \
            service itself instead"
)]
pub trait IntoApp<Kind>: sealed::Sealed<Kind> {
    /// The app that it becomes.
    type App;
    /// What it makes of each connection: the `C` of `into_make_service_with_connect_info::<C>()`.
    type ConnectInfo;

    #[doc(hidden)]
    fn into_app(self) -> Self::App;

    /// Gives the app away. It is a method, so that what keeps an app from being served is said once, where it is handed over, and
    /// not of the server that is made of it too.
    #[doc(hidden)]
    fn give_to<T: sealed::Taker>(self, taker: T) -> T::Taken
    where
        Self::ConnectInfo: FromIncomingStream,
        Self::App: Send;
}

pub(crate) mod sealed {
    use super::App;

    pub trait Sealed<Kind> {}

    /// Takes an app of any type.
    pub trait Taker {
        /// What it makes of the app.
        type Taken;

        fn take<A: App + Send>(self, app: A) -> Self::Taken;
    }
}

/// The kinds of what an app is made of.
mod kind {
    #[derive(Debug)]
    pub struct OfService;
    #[derive(Debug)]
    pub struct OfMaker;
    #[derive(Debug)]
    pub struct OfMakerWithConnectInfo;
}

/// Makes an app of what `axum::serve` takes, but for makers of your own, for [`Builder::serve`](crate::Builder::serve) and its siblings. [`serve`](crate::serve())
/// does so by itself.
///
/// The builder takes services whose requests have a [`baiwan::Body`](Body). A `Router` is one; a layer that is written for axum's
/// own body, such as `axum::middleware::from_fn` around the whole router, is not.
///
/// # Example
/// ```
/// use axum::{Router, ServiceExt, extract::Request, middleware::Next, response::Response, routing::get};
/// use tower::Layer;
///
/// async fn in_lower_case(mut request: Request, next: Next) -> Response {
///     if let Ok(uri) = request.uri().to_string().to_lowercase().parse() {
///         *request.uri_mut() = uri;
///     }
///     next.run(request).await
/// }
///
/// // Around the router, because routes are chosen by the URI.
/// let router = Router::new().route("/hello", get(|| async { "hello" }));
/// let app = axum::middleware::from_fn(in_lower_case).layer(router);
/// let server = baiwan::Server::builder().bind("127.0.0.1:0").start(baiwan::axum_app(app))?;
/// # drop(server);
/// # Ok::<(), baiwan::Error>(())
/// ```
pub fn axum_app<A, Kind>(app: A) -> A::App
where
    A: IntoApp<Kind>,
    A::ConnectInfo: FromIncomingStream,
{
    app.into_app()
}

/// A service over axum's request, as an app: what [`axum_app`] makes of a service, or of `into_make_service`.
#[derive(Clone, Debug)]
pub struct AxumApp<S> {
    pub(crate) service: S,
}

/// The app that [`axum_app`] makes of `into_make_service_with_connect_info`.
///
/// Where `C` is a [`SocketAddr`], all connections share it. For any other `C`, `C::connect_info` is called once for each connection:
/// at its first request, and never for a connection that sends none; with [`EventLoop::Portable`](crate::EventLoop::Portable) when it
/// is accepted. It runs on the thread of the core, between requests, so it must not block. A panic in it costs that connection alone.
///
/// The record of an exchange ([`Builder::observe`](crate::Builder::observe)) has the route of the request only if a `RouteLayer` was
/// added to the router inside.
pub struct ConnectInfoApp<S, C> {
    stage: Stage<S, C>,
}

enum Stage<S, C> {
    /// For all connections: it makes a service for each of them, or for each request.
    Maker(IntoMakeServiceWithConnectInfo<S, C>),
    /// The service of one connection.
    Connected(AddExtension<S, ConnectInfo<C>>),
}

impl<S: Clone, C: Clone> Clone for ConnectInfoApp<S, C> {
    fn clone(&self) -> Self {
        let stage = match &self.stage {
            Stage::Maker(make) => Stage::Maker(make.clone()),
            Stage::Connected(service) => Stage::Connected(service.clone()),
        };
        Self { stage }
    }
}

impl<S, C> fmt::Debug for ConnectInfoApp<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectInfoApp").finish_non_exhaustive()
    }
}

impl<S> sealed::Sealed<kind::OfService> for S {}

#[diagnostic::do_not_recommend]
impl<S, B> IntoApp<kind::OfService> for S
where
    S: Service<Request<AxumBody>, Response = Response<B>, Error: Into<BoxError>, Future: 'static> + Clone + 'static,
    B: http_body::Body<Data: bytes::Buf, Error: Into<BoxError>> + 'static,
{
    type App = AxumApp<S>;
    type ConnectInfo = SocketAddr;

    fn into_app(self) -> AxumApp<S> {
        AxumApp { service: self }
    }

    fn give_to<T: sealed::Taker>(self, taker: T) -> T::Taken
    where
        AxumApp<S>: Send,
    {
        taker.take(self.into_app())
    }
}

impl<S> sealed::Sealed<kind::OfMaker> for IntoMakeService<S> {}

#[diagnostic::do_not_recommend]
impl<S, B> IntoApp<kind::OfMaker> for IntoMakeService<S>
where
    S: Service<Request<AxumBody>, Response = Response<B>, Error: Into<BoxError>, Future: 'static> + Clone + 'static,
    B: http_body::Body<Data: bytes::Buf, Error: Into<BoxError>> + 'static,
{
    type App = AxumApp<S>;
    type ConnectInfo = SocketAddr;

    fn into_app(mut self) -> AxumApp<S> {
        AxumApp { service: made(self.call(())) }
    }

    fn give_to<T: sealed::Taker>(self, taker: T) -> T::Taken
    where
        AxumApp<S>: Send,
    {
        taker.take(self.into_app())
    }
}

impl<S, C> sealed::Sealed<kind::OfMakerWithConnectInfo> for IntoMakeServiceWithConnectInfo<S, C> {}

// Any `C`, so that what is wrong with one is said of it, and not of the maker.
#[diagnostic::do_not_recommend]
impl<S, B, C> IntoApp<kind::OfMakerWithConnectInfo> for IntoMakeServiceWithConnectInfo<S, C>
where
    S: Service<Request<AxumBody>, Response = Response<B>, Error: Into<BoxError>, Future: 'static> + Clone + 'static,
    B: http_body::Body<Data: bytes::Buf, Error: Into<BoxError>> + 'static,
{
    type App = ConnectInfoApp<S, C>;
    type ConnectInfo = C;

    fn into_app(self) -> ConnectInfoApp<S, C> {
        ConnectInfoApp { stage: Stage::Maker(self) }
    }

    fn give_to<T: sealed::Taker>(self, taker: T) -> T::Taken
    where
        C: FromIncomingStream,
        ConnectInfoApp<S, C>: Send,
    {
        taker.take(self.into_app())
    }
}

/// What can be made of a connection: implemented for every type that is `Connected<IncomingStream<'_>>`, `SocketAddr` among them.
/// [`IncomingStream`] has an example.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be made of a connection of Baiwan's",
    label = "`impl Connected<baiwan::IncomingStream<'_>>` is missing",
    note = "add `impl Connected<baiwan::IncomingStream<'_>> for {Self}`; the `impl` for `axum::serve::IncomingStream<'_, _>` may stay \
            beside it"
)]
pub trait FromIncomingStream: for<'a> Connected<IncomingStream<'a>> {}

#[diagnostic::do_not_recommend]
impl<C> FromIncomingStream for C where C: for<'a> Connected<IncomingStream<'a>> {}

impl Connected<IncomingStream<'_>> for SocketAddr {
    fn connect_info(stream: IncomingStream<'_>) -> Self {
        *stream.remote_addr()
    }
}

impl<S> Sealed for AxumApp<S> {}

#[diagnostic::do_not_recommend]
impl<S, B> App for AxumApp<S>
where
    S: Service<Request<AxumBody>, Response = Response<B>, Error: Into<BoxError>, Future: 'static> + Clone + 'static,
    B: http_body::Body<Data: bytes::Buf, Error: Into<BoxError>> + 'static,
{
    type ResponseBody = B;
    type RequestBody = AxumBody;
    type Error = S::Error;
    type Future = S::Future;

    #[inline]
    fn request_body(body: Body) -> AxumBody {
        into_axum(body)
    }

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.service.poll_ready(cx).map_err(Into::into)
    }

    #[inline]
    fn call(&mut self, request: Request<AxumBody>) -> S::Future {
        self.service.call(request)
    }
}

impl<S, C> Sealed for ConnectInfoApp<S, C> {}

#[diagnostic::do_not_recommend]
impl<S, C, B> App for ConnectInfoApp<S, C>
where
    S: Service<Request<AxumBody>, Response = Response<B>, Error: Into<BoxError>, Future: 'static> + Clone + 'static,
    C: FromIncomingStream,
    B: http_body::Body<Data: bytes::Buf, Error: Into<BoxError>> + 'static,
{
    type ResponseBody = B;
    type RequestBody = AxumBody;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, S::Error>>>>;

    fn request_body(body: Body) -> AxumBody {
        into_axum(body)
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match &mut self.stage {
            Stage::Connected(service) => service.poll_ready(cx).map_err(Into::into),
            // The service that is made for a request waits by itself.
            Stage::Maker(_) => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: Request<AxumBody>) -> Self::Future {
        let make = match &mut self.stage {
            Stage::Connected(service) => return Box::pin(service.call(request)),
            Stage::Maker(make) => make,
        };
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map_or(Peer::Unix, |peer| Peer::Ip(peer.0));
        let mut service = made(make.call(IncomingStream::new(None, peer)));
        Box::pin(async move {
            poll_fn(|cx| service.poll_ready(cx)).await?;
            service.call(request).await
        })
    }

    fn is_per_connection(&self) -> bool {
        TypeId::of::<C>() != TypeId::of::<SocketAddr>()
    }

    fn connect(&self, stream: IncomingStream<'_>) -> Self {
        match &self.stage {
            Stage::Maker(make) => Self { stage: Stage::Connected(made(make.clone().call(stream))) },
            Stage::Connected(_) => self.clone(),
        }
    }
}

/// Changes an app that is a `Router`, as itself or as what `axum::serve` takes; any other is given back as the error.
pub(crate) fn change_router<A: App>(mut app: A, change: impl FnOnce(Router) -> Router) -> Result<A, A> {
    let any: &mut dyn Any = &mut app;
    let router = match any.downcast_mut::<Router>() {
        Some(router) => router,
        None => match any.downcast_mut::<AxumApp<Router>>() {
            Some(AxumApp { service: router }) => router,
            None => return Err(app),
        },
    };
    *router = change(std::mem::take(router));
    Ok(app)
}

/// Has a `Router` make its handlers into services once, and not for each request, as `Router::into_make_service` has it for `axum::serve`.
pub(crate) fn make_ready<A: App>(app: A) -> A {
    change_router(app, |router| router.with_state(())).unwrap_or_else(|app| app)
}

/// What one of axum's makers makes: they are ready at once.
fn made<S>(making: impl Future<Output = Result<S, Infallible>>) -> S {
    match pin!(making).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(service)) => service,
        Poll::Pending => unreachable!("axum's makers wait for nothing"),
    }
}

/// The body of a request as axum's own: a router boxes any other, even where there is nothing in it.
fn into_axum(body: Body) -> AxumBody {
    if body.is_empty() { AxumBody::empty() } else { AxumBody::new(body) }
}
