//! A rate limit that two instances of an app share in a real Redis.

#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use baiwan_limits::{LimitedBody, RateLimit, RedisStore};
use http::{Request, Response, StatusCode};
use tower::{Layer, Service, ServiceExt, service_fn};

#[allow(dead_code, reason = "each test uses a part of it")]
#[path = "redis/server.rs"]
mod redis;

/// Nothing that works takes this long.
const PATIENCE: Duration = Duration::from_secs(30);

type Answers = tower::util::BoxCloneService<Request<Body>, Response<LimitedBody<Body>>, Infallible>;

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "it did not come to pass that {what}");
}

/// An instance of an app that allows 20 an hour.
async fn instance(url: &str) -> (Answers, RedisStore) {
    let store = RedisStore::open(url.parse().unwrap(), None);
    until("the store is there", || store.is_there()).await;
    let limit = RateLimit::new("20/h").by(|_: &http::request::Parts| Some("everybody")).store(store.clone());
    let app = limit.layer(service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::empty()))));
    (Answers::new(app), store)
}

async fn ask(app: &mut Answers) -> Response<LimitedBody<Body>> {
    app.ready().await.unwrap().call(Request::new(Body::empty())).await.unwrap()
}

#[tokio::test]
async fn a_budget_is_shared_and_parted_while_the_store_is_away() {
    if !redis::is_installed() {
        return;
    }
    let server = redis::Server::start();
    let (mut one, one_store) = instance(&server.url()).await;
    let (mut other, other_store) = instance(&server.url()).await;
    until("they know of each other", || one_store.instances() == 2 && other_store.instances() == 2).await;
    let mut allowed = 0;
    for _ in 0..15 {
        for app in [&mut one, &mut other] {
            allowed += u32::from(ask(app).await.status() == StatusCode::OK);
        }
    }
    // A check that the server answered too late was charged there, and let through by the instance's own table.
    let undecided = one_store.statistics().undecided + other_store.statistics().undecided;
    assert!((20 - undecided..=20 + undecided).contains(&u64::from(allowed)), "{allowed}, {undecided} undecided");
    if undecided == 0 {
        let refused = ask(&mut one).await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refused.headers()["ratelimit-policy"], "\"default\";q=20;w=3600");
        let seconds: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((170..=230).contains(&seconds), "{seconds}: a twentieth of an hour, and up to a quarter more");
    }

    drop(server);
    until("it is known to be away", || !one_store.is_there()).await;
    let mut allowed = 0;
    for _ in 0..30 {
        let answer = ask(&mut one).await;
        assert!([StatusCode::OK, StatusCode::TOO_MANY_REQUESTS].contains(&answer.status()), "never an error");
        allowed += u64::from(answer.status() == StatusCode::OK);
    }
    assert!((10 - undecided.min(10)..=10).contains(&allowed), "{allowed} of the half that is this instance's part");
}
