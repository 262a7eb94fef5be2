//! How the template of a route reaches the record of its exchange.

use std::task::{Context, Poll};

use axum::extract::MatchedPath;
use http::Request;
use tower_layer::{Layer, layer_fn};
use tower_service::Service;

use crate::app::App;
use crate::axum_app::change_router;
use crate::call_scope::{tell_route, tell_route_of_path, wants_route};

/// Tells whoever makes use of the records of exchanges ([`Builder::observe`](crate::Builder::observe), metrics) which route of an axum
/// `Router` a request has matched.
///
/// An app that is a `Router` gets this layer by itself where records are made. Add it where the `Router` is inside of something
/// else, such as a layer around all of it, or a router that is nested as a service. It tells the template before the handler runs,
/// and does nothing where nobody wants records.
///
/// The layer must be called in the task in which the server calls the app. In a task that the app spawns it has no effect, and the route
/// is `unmatched` then.
///
/// # Example
/// ```
/// use axum::{Router, routing::get};
/// use tower::ServiceBuilder;
/// use tower_http::normalize_path::NormalizePathLayer;
///
/// let router = Router::new().route("/users/{id}", get(|| async { "a user" })).layer(baiwan::RouteLayer);
/// // No `Router` any more, so the layer was added to the one inside.
/// let app = ServiceBuilder::new().layer(NormalizePathLayer::trim_trailing_slash()).service(router);
/// let server = baiwan::Server::builder().bind("127.0.0.1:0").observe(|exchange| println!("{}", exchange.route));
/// # let running = server.start(app)?;
/// # drop(running);
/// # Ok::<(), baiwan::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct RouteLayer;

impl<S> Layer<S> for RouteLayer {
    type Service = RouteService<S>;

    fn layer(&self, inner: S) -> RouteService<S> {
        RouteService { inner, tell: tell_route }
    }
}

/// What [`RouteLayer`] makes of a service.
#[derive(Clone, Debug)]
pub struct RouteService<S> {
    inner: S,
    /// Takes the template.
    tell: fn(&str),
}

impl<S, B> Service<Request<B>> for RouteService<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> S::Future {
        if wants_route()
            && let Some(path) = request.extensions().get::<MatchedPath>()
        {
            (self.tell)(path.as_str());
        }
        self.inner.call(request)
    }
}

/// The app as it tells the route of each request, if it is a `Router`, as itself or as what `axum::serve` takes.
pub(crate) fn with_routes<A: App>(app: A) -> Option<A> {
    // Around all of the app, the path of a request decides alone what its route is.
    let layer = layer_fn(|inner| RouteService { inner, tell: tell_route_of_path });
    change_router(app, |router| router.layer(layer).with_state(())).ok()
}
