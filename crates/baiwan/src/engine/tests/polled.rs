//! Which route is being polled, as others see it; how it reaches the record when it is known late; and whether a core counts as alive
//! meanwhile.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::response::Response;
use axum::routing::get as route_get;
use http::Request;
use tower_layer::Layer;
use tower_service::Service;

use super::rig::{Rig, get, statuses};
use crate::observe::{Exchange, Observer};
use crate::route_table::RouteNumber;
use crate::settings::Settings;
use crate::status::Status;
use crate::{Body, Health, RouteLayer, RouteLimits};

/// Calls a router when it was polled once already, as a middleware does that asks somebody first.
#[derive(Clone)]
struct Delayed(Router);

impl Service<Request<Body>> for Delayed {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut router = self.0.clone();
        Box::pin(async move {
            tokio::task::yield_now().await;
            router.call(request).await
        })
    }
}

/// What handlers see of themselves, and the routes of records.
#[derive(Clone, Default)]
struct Seen {
    status: Arc<OnceLock<Arc<Status>>>,
    polled: Arc<Mutex<Vec<Option<String>>>>,
    routes: Arc<Mutex<Vec<String>>>,
}

impl Seen {
    /// The route that is being polled, as another thread would see it.
    fn look(&self) -> Option<String> {
        let status = self.status.get()?;
        let number = RouteNumber::from_polling(status.cores[0].polling.load(Relaxed))?;
        Some(status.routes.template(number).to_owned())
    }

    fn note(&self) {
        let polled = self.look();
        self.polled.lock().unwrap().push(polled);
    }

    fn router(&self) -> Router {
        let (one, two, three) = (self.clone(), self.clone(), self.clone());
        let at_once = move || async move {
            one.note();
            "at once"
        };
        let later = move || async move {
            two.note();
            tokio::task::yield_now().await;
            two.note();
            "later"
        };
        // Two frames, one of which is there at once; and how often it waits before it answers.
        let body = move |Path(waits): Path<usize>| async move {
            for _ in 0..waits {
                tokio::task::yield_now().await;
            }
            axum::body::Body::from_stream(futures_util::stream::unfold(0, move |count| {
                let seen = three.clone();
                async move {
                    seen.note();
                    if count > 0 {
                        tokio::task::yield_now().await;
                        seen.note();
                    }
                    (count < 2).then_some((Ok::<_, Infallible>("frame"), count + 1))
                }
            }))
        };
        let panics = || async {
            if true {
                std::panic::resume_unwind(Box::new("on purpose"))
            }
        };
        Router::new()
            .route("/now/{id}", route_get(at_once))
            .route("/later/{id}", route_get(later))
            .route("/body/{waits}", route_get(body))
            .route("/panics", route_get(panics))
    }

    fn settings(&self) -> Settings {
        let routes = Arc::clone(&self.routes);
        let tell = move |exchange: &Exchange<'_>| routes.lock().unwrap().push(exchange.route.to_owned());
        Settings { observer: Some(Observer::new(tell)), ..Settings::default() }
    }

    /// The routes that were seen by handlers, then those of records, since the last call.
    fn take(&self) -> (Vec<String>, Vec<String>) {
        let polled = std::mem::take(&mut *self.polled.lock().unwrap());
        let polled = polled.into_iter().map(|route| route.unwrap_or_else(|| "nobody".to_owned())).collect();
        (polled, std::mem::take(&mut *self.routes.lock().unwrap()))
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_handler_is_seen_by_its_route_at_its_first_poll_and_at_every_other() {
    let seen = Seen::default();
    let rig = Rig::with(seen.router(), seen.settings(), 1000, 1 << 16);
    seen.status.set(Arc::clone(&rig.status)).unwrap();
    for (path, polled, route) in [
        ("/now/1", &["/now/{id}"][..], "/now/{id}"),
        ("/later/1", &["/later/{id}"; 2], "/later/{id}"),
        ("/panics", &[], "/panics"),
        ("/nowhere", &[], "unmatched"),
    ] {
        rig.exchange(&get(path)).await;
        assert_eq!(seen.take(), (polled.iter().map(ToString::to_string).collect(), vec![route.to_owned()]), "{path}");
        assert_eq!(seen.look(), None, "nobody is polled between turns");
    }
    assert_eq!(
        rig.status.cores[0].polls.load(Relaxed),
        8,
        "five polls of handlers, and of the bodies of three answers"
    );
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_body_is_seen_by_the_route_of_its_handler_at_each_of_its_polls() {
    let seen = Seen::default();
    let rig = Rig::with(seen.router(), seen.settings(), 1000, 1 << 16);
    seen.status.set(Arc::clone(&rig.status)).unwrap();
    for path in ["/body/0", "/body/1"] {
        rig.exchange(&get(path)).await;
        assert_eq!(seen.take().0, ["/body/{waits}"; 5], "{path}");
        assert_eq!(seen.look(), None, "nobody is polled between turns");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_layer_that_is_reached_late_tells_its_route_all_the_same() {
    let seen = Seen::default();
    let app = Delayed(seen.router().layer(RouteLayer));
    let rig = Rig::with(app, seen.settings(), 1000, 1 << 16);
    seen.status.set(Arc::clone(&rig.status)).unwrap();
    for (path, polled, route) in [
        ("/now/1", &["/now/{id}"][..], "/now/{id}"),
        ("/later/1", &["/later/{id}"; 2], "/later/{id}"),
        ("/panics", &[], "/panics"),
    ] {
        rig.exchange(&get(path)).await;
        assert_eq!(seen.take(), (polled.iter().map(ToString::to_string).collect(), vec![route.to_owned()]), "{path}");
    }
}

/// Does its work when it is called, not when that is polled.
#[derive(Clone)]
struct Eager(Seen);

impl Service<Request<Body>> for Eager {
    type Response = Response;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        self.0.note();
        std::future::ready(Ok(Response::default()))
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_app_that_works_when_it_is_called_is_seen_and_its_layers_are_heard() {
    let seen = Seen::default();
    let app = RouteLimits::new().body_limit(3).layer(Eager(seen.clone()));
    let rig = Rig::with(app, seen.settings(), 1000, 1 << 16);
    seen.status.set(Arc::clone(&rig.status)).unwrap();
    for (body, status, polled) in [("123", 200, &["unmatched"][..]), ("1234", 413, &[])] {
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        assert_eq!(statuses(&rig.exchange(&request).await), [status]);
        assert_eq!(seen.take().0, polled);
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn nobody_posts_what_is_polled_where_nobody_wants_records() {
    let seen = Seen::default();
    let rig = Rig::new(seen.router());
    seen.status.set(Arc::clone(&rig.status)).unwrap();
    rig.exchange(&get("/later/1")).await;
    assert_eq!(seen.take().0, ["nobody", "nobody"]);
    assert_eq!(rig.status.cores[0].polls.load(Relaxed), 0);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_path_that_was_asked_for_before_has_the_route_that_it_had() {
    let seen = Seen::default();
    let rig = Rig::with(seen.router(), seen.settings(), 1000, 1 << 16);
    seen.status.set(Arc::clone(&rig.status)).unwrap();
    let long = format!("/now/{}", "x".repeat(100));
    for path in ["/now/1", "/now/1", "/later/1", "/nowhere", "/later/1", "/now/2", "/now/1", &long, &long, "/nowhere"] {
        rig.exchange(&get(path)).await;
        let (polled, routes) = seen.take();
        let expected = match path.split_at(4).0 {
            "/now" if path != "/nowhere" => (vec!["/now/{id}"], "/now/{id}"),
            "/lat" => (vec!["/later/{id}"; 2], "/later/{id}"),
            _ => (vec![], "unmatched"),
        };
        assert_eq!((polled.iter().map(String::as_str).collect(), routes[0].as_str()), expected, "{path}");
    }
    // Two paths of one place: neither has the other's route.
    for number in 0..2000 {
        let (path, route) = match number % 3 {
            0 => (format!("/now/{number}"), "/now/{id}"),
            1 => (format!("/later/{number}"), "/later/{id}"),
            _ => (format!("/none/{number}"), "unmatched"),
        };
        rig.exchange(&(get(&path) + &get(&path))).await;
        assert_eq!(seen.take().1, [route, route], "{path}");
    }
}

/// Serves with the router that a field names.
#[derive(Clone)]
struct ByField(Router, Router);

impl Service<Request<axum::body::Body>> for ByField {
    type Response = Response;
    type Error = Infallible;
    type Future = axum::routing::future::RouteFuture<Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<axum::body::Body>) -> Self::Future {
        match request.headers().contains_key("other") {
            false => self.0.call(request),
            true => self.1.call(request),
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_route_that_not_the_path_alone_decides_is_told_by_each_request() {
    let seen = Seen::default();
    let inner = |template: &str| Router::new().route(template, route_get(|| async { "inner" })).layer(RouteLayer);
    let app = seen.router().fallback_service(ByField(inner("/{one}"), inner("/{two}")));
    let rig = Rig::with(app, seen.settings(), 1000, 1 << 16);
    for (fields, route) in [("", "/{one}"), ("Other: 1\r\n", "/{two}"), ("", "/{one}"), ("Other: 1\r\n", "/{two}")] {
        rig.exchange(&format!("GET /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).await;
        assert_eq!(seen.take().1, [route]);
    }
}

/// Half a second, by which handlers hold their core.
const STEP: Duration = Duration::from_millis(500);

/// The seconds at which another thread would have seen that the server does not live.
#[derive(Clone, Default)]
struct Looks {
    health: Arc<OnceLock<Health>>,
    dead_at: Arc<Mutex<Vec<f64>>>,
}

impl Looks {
    /// Holds the core for some steps of the clock, and looks after each.
    fn hold_core(&self, begun: tokio::time::Instant, steps: u32) -> &'static str {
        for _ in 0..steps {
            // It moves the clock when it is polled, and only then waits.
            let _ = pin!(tokio::time::advance(STEP)).poll(&mut Context::from_waker(Waker::noop()));
            if !self.health.get().is_some_and(Health::is_live) {
                self.dead_at.lock().unwrap().push(begun.elapsed().as_secs_f64());
            }
        }
        "held"
    }

    /// An app each of whose handlers holds the core for some steps: `/now` when it is called, `/later` when it is polled again.
    fn router(&self, begun: tokio::time::Instant, steps: u32) -> Router {
        let (one, two) = (self.clone(), self.clone());
        let now = move || {
            let held = one.hold_core(begun, steps);
            async move { held }
        };
        let later = move || async move {
            tokio::task::yield_now().await;
            two.hold_core(begun, steps)
        };
        Router::new().route("/now", route_get(now)).route("/later", route_get(later))
    }

    /// Has as many clients ask for a path at once.
    async fn ask(&self, settings: Settings, steps: u32, clients: usize, path: &str) -> Vec<f64> {
        let rig = Rig::with_settings(self.router(tokio::time::Instant::now(), steps), settings);
        self.health.set(rig.health.clone()).expect("set once");
        assert!(rig.health.is_live());
        let mut peers: Vec<_> = (0..clients).map(|_| rig.connect()).collect();
        peers.iter_mut().for_each(|peer| peer.send(get(path)));
        rig.settle().await;
        for peer in &mut peers {
            assert!(peer.receive().ends_with("held"));
        }
        std::mem::take(&mut *self.dead_at.lock().unwrap())
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_99_a_core_that_serves_slow_handlers_one_after_the_other_lives() {
    let observed = || Settings { observer: Some(Observer::new(|_| {})), ..Settings::default() };
    // Each holds the core for half a second, all of them for 32.
    for (settings, path) in [(Settings::default(), "/now"), (observed(), "/now"), (observed(), "/later")] {
        let dead_at = Looks::default().ask(settings, 1, 64, path).await;
        assert_eq!(dead_at, [0.0; 0], "{path}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_99_a_core_that_one_handler_holds_for_the_live_timeout_does_not_live() {
    let observed = || Settings { observer: Some(Observer::new(|_| {})), ..Settings::default() };
    for (settings, path) in [(Settings::default(), "/now"), (observed(), "/now"), (observed(), "/later")] {
        let dead_at = Looks::default().ask(settings, 64, 1, path).await;
        // A look that sees that the request has begun counts from then.
        assert_eq!(dead_at, [30.5, 31.0, 31.5, 32.0], "{path}");
    }
}
