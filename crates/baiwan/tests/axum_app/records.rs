//! What an observer is told of the exchanges of an axum app: above all, which route they were.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::routing::get;
use baiwan::{Builder, EventLoop, Exchange, Outcome, RouteLayer};
use tower::Layer;
use tower_http::normalize_path::NormalizePathLayer;

use crate::rig::{Rig, server};

/// Routes and statuses, in the order in which the exchanges ended.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(String, u16)>>>);

impl Seen {
    fn observed(&self) -> Builder {
        let seen = self.clone();
        server(EventLoop::Epoll).observe(move |exchange: &Exchange<'_>| {
            assert_eq!(exchange.outcome, Outcome::Answered);
            let status = exchange.status.map_or(0, |status| status.as_u16());
            seen.0.lock().unwrap().push((exchange.route.to_owned(), status));
        })
    }

    fn take(&self) -> Vec<(String, u16)> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

fn users() -> Router {
    let later = |later: &'static str| async move {
        tokio::task::yield_now().await;
        later
    };
    Router::new().route("/{id}", get(|| async { "a user" })).route("/{id}/later", get(move || later("later")))
}

/// Asks for paths on one connection, which stops with the server, and returns what the observer was told.
fn seen<A: baiwan::App + Send>(app: A, paths: &[&str]) -> Vec<(String, u16)> {
    let seen = Seen::default();
    let rig = Rig::start(seen.observed(), app);
    let mut client = rig.connect();
    for path in paths {
        client.get(path);
    }
    drop(client);
    rig.stop();
    seen.take()
}

#[test]
fn a_router_tells_the_whole_template_of_each_route() {
    let app = Router::new().route("/", get(|| async { "root" })).nest("/api", Router::new().nest("/users", users()));
    let told = seen(app, &["/", "/api/users/7", "/api/users/8/later", "/nowhere"]);
    let expected = [("/", 200), ("/api/users/{id}", 200), ("/api/users/{id}/later", 200), ("unmatched", 404)];
    assert_eq!(told, expected.map(|(route, status)| (route.to_owned(), status)));
}

#[test]
fn a_layer_tells_the_route_where_the_app_is_no_router() {
    let inside = || Router::new().nest("/users", users());
    let around = NormalizePathLayer::trim_trailing_slash();
    let told = seen(around.layer(inside().layer(RouteLayer)), &["/users/7/"]);
    assert_eq!(told, [("/users/{id}".to_owned(), 200)]);
    assert_eq!(seen(around.layer(inside()), &["/users/7/"]), [("unmatched".to_owned(), 200)], "nobody has looked");
}

#[test]
fn a_router_that_is_nested_as_a_service_tells_the_whole_template_by_a_layer_of_its_own() {
    let app = Router::new().nest_service("/api", users().layer(RouteLayer));
    assert_eq!(seen(app, &["/api/7"]), [("/api/{id}".to_owned(), 200)]);
}
