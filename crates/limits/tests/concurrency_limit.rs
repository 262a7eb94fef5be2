//! What `ConcurrencyLimit` promises: never above the maximum, an exact queue, and places that come back whatever happens.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use baiwan_limits::{ConcurrencyLimit, ConcurrencyLimited};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use tower::{Layer, Service, ServiceExt};

const WAIT: Duration = Duration::from_millis(100);

/// Answers once it is given leave, and counts who is inside.
#[derive(Clone)]
struct Gated {
    leave: Arc<Semaphore>,
    inside: Arc<AtomicUsize>,
    order: Arc<std::sync::Mutex<Vec<String>>>,
}

impl Gated {
    fn new() -> Self {
        Self { leave: Arc::new(Semaphore::new(0)), inside: Arc::default(), order: Arc::default() }
    }
}

impl Service<Request<()>> for Gated {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let Self { leave, inside, order } = self.clone();
        order.lock().unwrap().push(request.uri().path().to_owned());
        Box::pin(async move {
            inside.fetch_add(1, SeqCst);
            leave.acquire().await.unwrap().forget();
            inside.fetch_sub(1, SeqCst);
            Ok(Response::new("done".to_owned()))
        })
    }
}

fn request(path: &str) -> Request<()> {
    Request::builder().uri(path).body(()).unwrap()
}

/// Asks, and polls once.
fn ask<S>(
    service: &mut ConcurrencyLimited<S>,
    path: &str,
) -> Pin<Box<<ConcurrencyLimited<S> as Service<Request<()>>>::Future>>
where
    ConcurrencyLimited<S>: Service<Request<()>>,
{
    let mut call = Box::pin(service.call(request(path)));
    assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    call
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded_to_the_request_and_served_in_order() {
    let (limit, gated) = (ConcurrencyLimit::new(2).queue(3).wait(WAIT), Gated::new());
    let mut service = limit.layer(gated.clone());
    let inside = [ask(&mut service, "/0"), ask(&mut service, "/1")];
    let waiting = ["/2", "/3", "/4"].map(|path| ask(&mut service, path));
    assert_eq!((limit.statistics().in_service, limit.statistics().waiting), (2, 3));

    let refused = service.call(request("/5")).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    assert!(refused.headers().contains_key("retry-after"));
    let body = refused.into_body().collect().await.unwrap().to_bytes();
    assert!(str::from_utf8(&body).unwrap().contains("temporary-reduced-capacity"));
    assert_eq!((limit.statistics().refused_full, limit.statistics().refused_late), (1, 0));

    gated.leave.add_permits(5);
    for call in inside.into_iter().chain(waiting) {
        assert_eq!(call.await.unwrap().status(), StatusCode::OK);
    }
    assert_eq!(*gated.order.lock().unwrap(), ["/0", "/1", "/2", "/3", "/4"]);
    let statistics = limit.statistics();
    assert_eq!((statistics.in_service, statistics.waiting, statistics.admitted), (0, 0, 5));
}

#[tokio::test(start_paused = true)]
async fn who_has_waited_as_long_as_it_may_is_refused_and_leaves_the_queue() {
    let (limit, gated) = (ConcurrencyLimit::new(1).queue(1).wait(WAIT), Gated::new());
    let mut service = limit.layer(gated.clone());
    let inside = ask(&mut service, "/");
    let waiting = service.clone().oneshot(request("/late")).await.unwrap();
    assert_eq!(waiting.status(), StatusCode::SERVICE_UNAVAILABLE);
    let statistics = limit.statistics();
    assert_eq!((statistics.in_service, statistics.waiting, statistics.refused_late), (1, 0, 1));
    gated.leave.add_permits(1);
    assert_eq!(inside.await.unwrap().status(), StatusCode::OK);
    assert_eq!(*gated.order.lock().unwrap(), ["/"], "the service has not heard of the other");
}

#[tokio::test(start_paused = true)]
async fn who_would_wait_too_long_is_refused_at_once() {
    let (limit, gated) = (ConcurrencyLimit::new(1).queue(9).wait(WAIT), Gated::new());
    let mut service = limit.layer(gated.clone());
    // A request takes 80 ms.
    let first = ask(&mut service, "/");
    tokio::time::advance(Duration::from_millis(80)).await;
    gated.leave.add_permits(1);
    drop(first.await.unwrap());

    let _inside = ask(&mut service, "/");
    let _next = ask(&mut service, "/");
    let answer = service.call(request("/")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "it would wait for 120 ms");
    let statistics = limit.statistics();
    assert_eq!((statistics.waiting, statistics.refused_late, statistics.refused_full), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_gives_its_place_and_its_seat_back() {
    let (limit, gated) = (ConcurrencyLimit::new(1).queue(1), Gated::new());
    let mut service = limit.layer(gated.clone());
    let inside = ask(&mut service, "/inside");
    // One that was never polled, and one that was.
    drop(service.call(request("/unpolled")));
    assert_eq!(limit.statistics().waiting, 0);
    drop(ask(&mut service, "/gone"));
    let last = ask(&mut service, "/last");
    assert_eq!((limit.statistics().in_service, limit.statistics().waiting), (1, 1));
    drop(inside);
    gated.leave.add_permits(1);
    assert_eq!(last.await.unwrap().status(), StatusCode::OK);
    assert_eq!((limit.statistics().in_service, limit.statistics().waiting), (0, 0));
}

/// A body of two chunks, the second of which is never there.
struct Endless(Option<Bytes>);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.0.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => Poll::Pending,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_place_is_held_until_the_body_has_ended_or_was_dropped() {
    let limit = ConcurrencyLimit::new(9).queue(0);
    let service = limit.layer(tower::service_fn(|request: Request<()>| async move {
        let body = match request.uri().path() {
            "/empty" => Body::empty(),
            "/short" => Body::from("short"),
            _ => Body::new(Endless(Some(Bytes::from_static(b"begun")))),
        };
        Ok::<_, Infallible>(Response::new(body))
    }));
    let held = || limit.statistics().in_service;
    let respond = async |path: &str| service.clone().oneshot(request(path)).await.unwrap();

    let empty = respond("/empty").await;
    assert_eq!(held(), 0, "nothing is left to come");
    drop(empty);
    let mut short = respond("/short").await;
    assert_eq!((held(), short.body().size_hint().exact()), (1, Some(5)));
    assert!(short.body_mut().frame().await.is_some());
    assert_eq!(held(), 0, "its last chunk is out");
    let mut endless = respond("/endless").await;
    assert!(endless.body_mut().frame().await.is_some());
    assert_eq!(held(), 1);
    drop(endless);
    assert_eq!(held(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_panics_or_fails_gives_its_place_back() {
    let limit = ConcurrencyLimit::new(1).queue(0);
    let service = limit.layer(tower::service_fn(|request: Request<()>| async move {
        match request.uri().path() {
            "/panics" => panic!("on purpose"),
            "/fails" => Err("fails"),
            _ => Ok(Response::new(String::new())),
        }
    }));
    for _ in 0..3 {
        let panics = tokio::spawn(service.clone().oneshot(request("/panics")));
        assert!(panics.await.unwrap_err().is_panic());
        assert_eq!(limit.statistics().in_service, 0);
        assert_eq!(service.clone().oneshot(request("/fails")).await.unwrap_err(), "fails");
        assert_eq!(service.clone().oneshot(request("/")).await.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_source_is_told_when_to_come_back_and_does_not_end_for_ever() {
    let (limit, gated) = (ConcurrencyLimit::new(1).queue(0), Gated::new());
    let mut service = limit.layer(gated);
    let _inside = ask(&mut service, "/");
    let mut events = request("/");
    events.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
    let answer = service.call(events).await.unwrap();
    assert_eq!(
        (answer.status(), &answer.headers()["content-type"]),
        (StatusCode::OK, &"text/event-stream".parse().unwrap())
    );
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(body.starts_with(b"retry: ") && body.ends_with(b"\n\n"));
}

/// Is inside until it is dropped: some leave in the middle.
struct Inside(Arc<AtomicUsize>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn never_are_more_inside_than_the_maximum() {
    const MAX: usize = 3;
    let limit = ConcurrencyLimit::share(15, 20).queue(5).wait(Duration::from_secs(60));
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (seen, peak) = (Arc::clone(&inside), Arc::clone(&most));
    let handler = move || async move {
        peak.fetch_max(seen.fetch_add(1, SeqCst) + 1, SeqCst);
        let _inside = Inside(seen);
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        "done"
    };
    let app: Router = Router::new().route("/", get(handler)).layer(limit.clone());
    let clients = (0..16).map(|client| {
        let (app, limit) = (app.clone(), limit.clone());
        tokio::spawn(async move {
            let mut served = 0;
            for turn in 0..300 {
                let asked = app.clone().oneshot(Request::new(Body::empty()));
                // Some leave while they wait.
                let abandoned = (client + turn) % 7 == 0;
                if abandoned {
                    let mut asked = Box::pin(asked);
                    let _ = std::future::poll_fn(|cx| Poll::Ready(asked.as_mut().poll(cx))).await;
                    continue;
                }
                served += usize::from(asked.await.unwrap().status() == StatusCode::OK);
                let statistics = limit.statistics();
                assert!(statistics.in_service <= MAX && statistics.waiting <= 5, "{statistics:?}");
            }
            served
        })
    });
    let mut served = 0;
    for client in clients.collect::<Vec<_>>() {
        served += client.await.unwrap();
    }
    assert!(served > 0 && most.load(SeqCst) <= MAX);
    let statistics = limit.statistics();
    assert_eq!((statistics.in_service, statistics.waiting), (0, 0), "{statistics:?}");
}
