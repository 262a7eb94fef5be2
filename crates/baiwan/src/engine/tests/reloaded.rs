//! Settings that change while the server runs: what obeys them from when on, and what stays as it was.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Duration;

use axum::Router;
use axum::routing::get as route_get;
use tower::service_fn;

use super::rig::{Rig, get, statuses};
use crate::Body;
use crate::settings::Settings;
use crate::status::{CloseReason, Phase};

const SECOND: Duration = Duration::from_secs(1);

fn app() -> Router {
    Router::new()
        .route("/", route_get(|| async { "hello" }))
        .route("/never", route_get(std::future::pending::<&str>))
        .route("/large", route_get(|| async { vec![b'x'; 100_000] }))
}

async fn ask(rig: &Rig, peer: &mut super::rig::Peer, request: &str) -> Vec<u16> {
    peer.send(request);
    rig.settle().await;
    statuses(&peer.receive())
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_deadline_stays_and_the_next_one_is_of_the_new_setting() {
    let rig = Rig::new(app());
    let (mut idle, mut asks, mut head) = (rig.connect(), rig.connect(), rig.connect());
    assert_eq!(ask(&rig, &mut idle, &get("/")).await, [200]);
    head.send("GET / HTTP/1.1\r\n");
    rig.settle().await;
    rig.reload(false, |settings| {
        (settings.keep_alive_timeout, settings.header_timeout) = (Some(5 * SECOND), Some(2 * SECOND));
    })
    .await;
    assert_eq!(ask(&rig, &mut asks, &get("/")).await, [200]);
    rig.pass(6 * SECOND).await;
    assert!(asks.is_at_end(), "it became idle under the new timeout");
    assert!(!idle.is_at_end() && !head.is_at_end(), "these have the time that they were given");
    rig.pass(5 * SECOND).await;
    assert_eq!(statuses(&head.receive()), [408], "10 seconds from its first byte");
    let mut late = rig.connect();
    late.send("GET");
    rig.pass(3 * SECOND).await;
    assert_eq!(statuses(&late.receive()), [408], "2 seconds");
    rig.pass(65 * SECOND).await;
    assert!(idle.is_at_end(), "75 seconds after its answer");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_timeout_that_was_off_counts_for_the_requests_that_follow() {
    let rig = Rig::new(app());
    let (mut before, mut after) = (rig.connect(), rig.connect());
    before.send(get("/never"));
    rig.settle().await;
    rig.reload(false, |settings| settings.request_timeout = Some(SECOND)).await;
    after.send(get("/never"));
    rig.pass(2 * SECOND).await;
    assert_eq!((statuses(&before.receive()), statuses(&after.receive())), (vec![], vec![503]));
    rig.reload(false, |settings| settings.request_timeout = None).await;
    let mut unlimited = rig.connect();
    unlimited.send(get("/never"));
    rig.pass(60 * SECOND).await;
    assert_eq!(unlimited.receive(), "");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_rate_limit_begins_changes_and_ends_on_connections_that_are_open() {
    let rig = Rig::new(app());
    let mut peer = rig.connect();
    assert_eq!(ask(&rig, &mut peer, &get("/").repeat(9)).await, [200; 9]);
    let limit = |quota: &'static str| move |settings: &mut Settings| settings.rate_limit.quota = quota.parse().ok();
    rig.reload(false, limit("2/min")).await;
    assert_eq!(ask(&rig, &mut peer, &get("/").repeat(3)).await, [200, 200, 429]);
    // A minute is owed, which is all of this burst as well.
    rig.reload(false, limit("6/min")).await;
    assert_eq!(ask(&rig, &mut peer, &get("/")).await, [429]);
    rig.pass(21 * SECOND).await;
    assert_eq!(ask(&rig, &mut peer, &get("/").repeat(3)).await, [200, 200, 429], "one comes back in ten seconds");
    rig.reload(false, |settings| settings.rate_limit.mode = crate::RateLimitMode::Report).await;
    assert_eq!(ask(&rig, &mut peer, &get("/")).await, [200]);
    rig.reload(false, |settings| settings.rate_limit.mode = crate::RateLimitMode::Enforce).await;
    assert_eq!(ask(&rig, &mut peer, &get("/")).await, [429]);
    rig.reload(false, |settings| settings.rate_limit.scope.exempt = "127.0.0.0/8".parse().unwrap()).await;
    assert_eq!(ask(&rig, &mut peer, &get("/")).await, [200]);
    rig.reload(false, |settings| {
        settings.rate_limit.scope.exempt = Default::default();
        settings.rate_limit.quota = None;
    })
    .await;
    assert_eq!(ask(&rig, &mut peer, &get("/").repeat(9)).await, [200; 9]);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_head_that_has_begun_is_judged_by_the_limits_at_its_end() {
    let large = |settings: &mut Settings| settings.http.head_bytes_max = 64 * 1024;
    let rig = Rig::new(app());
    let line = format!("a: {}\r\n", "b".repeat(95));
    // So much of a head that less is allowed afterwards, in bytes and in fields.
    for (lines, refused, change) in [
        (30, 431, (|settings| settings.http.head_bytes_max = 1024) as fn(&mut Settings)),
        (300, 431, |settings| settings.http.head_bytes_max = 1024),
        (300, 431, |settings| settings.http.fields_max = 20),
        (10, 200, |settings| settings.http.fields_max = 20),
        (1, 414, |settings| settings.http.target_bytes_max = 4),
    ] {
        rig.reload(false, |settings| {
            settings.http = Settings::default().http;
            settings.http.fields_max = 255;
            large(settings);
        })
        .await;
        let mut peer = rig.connect();
        let path = if refused == 414 { "/long-target" } else { "/" };
        peer.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{}", line.repeat(lines.min(200))));
        rig.settle().await;
        rig.reload(false, change).await;
        peer.send("c: d\r\n\r\n");
        rig.settle().await;
        assert_eq!(statuses(&peer.receive()), [refused], "{lines}");
    }
    assert_eq!(rig.counts().core_panics, 0);
    rig.reload(false, large).await;
    let mut peer = rig.connect();
    assert_eq!(
        ask(&rig, &mut peer, &format!("GET / HTTP/1.1\r\nHost: a\r\na: {}\r\n\r\n", "b".repeat(40_000))).await,
        [200]
    );
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_one_client_may_have_begins_and_ends_without_a_miscount() {
    let rig = Rig::new(app());
    let max = |max| move |settings: &mut Settings| settings.max_connections_per_ip = NonZeroU32::new(max);
    let uncounted = rig.connect();
    rig.settle().await;
    rig.reload(false, max(1)).await;
    let (first, mut second) = (rig.connect(), rig.connect());
    rig.settle().await;
    assert_eq!(statuses(&second.receive()), [429], "the one before the limit does not count, the next does");
    rig.reload(false, max(0)).await;
    let (third, fourth) = (rig.connect(), rig.connect());
    rig.settle().await;
    drop(uncounted);
    rig.settle().await;
    rig.reload(false, max(2)).await;
    let fifth = rig.connect();
    rig.settle().await;
    let mut sixth = rig.connect();
    rig.settle().await;
    assert_eq!(statuses(&sixth.receive()), [429], "the first and the fifth are counted");
    drop((first, second, third, fourth, fifth, sixth));
    rig.pass(2 * SECOND).await;
    assert_eq!(rig.status.bounds.clients.holders(), 0);
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_age_is_that_of_the_setting_under_which_a_connection_began() {
    let rig = Rig::with_settings(app(), Settings { keep_alive_timeout: None, ..Settings::default() });
    let before = rig.connect();
    rig.settle().await;
    rig.reload(false, |settings| settings.max_connection_age = Some(60 * SECOND)).await;
    let aging = rig.connect();
    rig.settle().await;
    rig.reload(false, |settings| settings.max_connection_age = None).await;
    let after = rig.connect();
    rig.pass(100 * SECOND).await;
    assert_eq!([&before, &aging, &after].map(|peer| peer.is_at_end()), [false, true, false]);
    assert_eq!(rig.closed(CloseReason::Age), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_age_is_not_that_of_who_was_there_before_it() {
    let rig = Rig::new(app());
    let mut before = rig.connect();
    rig.settle().await;
    rig.reload(false, |settings| settings.max_connection_age = Some(60 * SECOND)).await;
    let _aging = rig.connect();
    rig.pass(70 * SECOND).await;
    before.send(get("/"));
    rig.settle().await;
    let answer = before.receive();
    assert!(answer.ends_with("hello") && !answer.contains("connection: close"), "{answer}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn neither_an_age_nor_a_number_of_requests_is_left_to_who_comes_after() {
    let rig = Rig::new(app());
    for limit in [(|settings| settings.max_connection_age = Some(60 * SECOND)) as fn(&mut Settings), |settings| {
        settings.max_connection_requests = NonZeroU32::new(1)
    }] {
        rig.reload(false, limit).await;
        let mut limited = rig.connect();
        assert_eq!(ask(&rig, &mut limited, &get("/")).await, [200]);
        drop(limited);
        rig.settle().await;
        rig.reload(false, |settings| {
            (settings.max_connection_age, settings.max_connection_requests) = (None, None);
        })
        .await;
        let mut waiting = rig.connect();
        rig.pass(61 * SECOND).await;
        waiting.send(get("/") + &get("/never"));
        rig.settle().await;
        let answer = waiting.receive();
        assert!(answer.ends_with("hello") && !answer.contains("connection: close"), "{answer}");
        rig.pass(40 * SECOND).await;
        assert_eq!((rig.counts().exchanges, waiting.is_at_end()), (1, false));
        drop(waiting);
        rig.settle().await;
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn who_is_believed_changes_for_the_next_request() {
    let rig = Rig::new(app());
    let mut peer = rig.connect();
    rig.reload(false, |settings| settings.rate_limit.quota = "1/min".parse().ok()).await;
    let from = |client: &str| format!("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {client}\r\n\r\n");
    assert_eq!(ask(&rig, &mut peer, &(from("192.0.2.1") + &from("192.0.2.2"))).await, [200, 429]);
    rig.reload(false, |settings| settings.proxies = "127.0.0.1".parse().unwrap()).await;
    assert_eq!(ask(&rig, &mut peer, &(from("192.0.2.1") + &from("192.0.2.2"))).await, [200, 200]);
    rig.reload(false, |settings| settings.proxies = Default::default()).await;
    assert_eq!(ask(&rig, &mut peer, &from("192.0.2.3")).await, [429]);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_stop_after_a_shorter_keep_alive_timeout_waits_no_longer_than_it_may() {
    let rig = Rig::new(app());
    let mut idle = rig.connect();
    assert_eq!(ask(&rig, &mut idle, &get("/")).await, [200]);
    rig.reload(false, |settings| settings.keep_alive_timeout = Some(SECOND)).await;
    rig.status.advance(Phase::Draining);
    rig.pass(5 * SECOND + 200 * Duration::from_millis(1)).await;
    assert!(idle.is_at_end() && rig.engine.is_finished());
    assert_eq!(rig.closed(CloseReason::Drained), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_stop_after_a_longer_keep_alive_timeout_still_serves_who_was_idle_for_a_moment() {
    let settings = Settings { keep_alive_timeout: Some(20 * SECOND), ..Settings::default() };
    let rig = Rig::with_settings(app(), settings);
    // No connection can have been idle since before the server began, so it has to be older than the timeouts.
    rig.pass(100 * SECOND).await;
    let (mut idle, mut lucky) = (rig.connect(), rig.connect());
    for peer in [&mut idle, &mut lucky] {
        assert_eq!(ask(&rig, peer, &get("/")).await, [200]);
    }
    // Once more, because the timeout just before is not the shortest that was in force.
    for timeout in [75 * SECOND, 90 * SECOND] {
        rig.reload(false, |settings| settings.keep_alive_timeout = Some(timeout)).await;
    }
    rig.pass(SECOND).await;
    rig.status.advance(Phase::Draining);
    rig.pass(3 * SECOND).await;
    assert!(!idle.is_at_end(), "it was idle for less than the stop grants");
    assert_eq!(ask(&rig, &mut lucky, &get("/")).await, [200], "a request that was on its way");
    rig.pass(SECOND + 200 * Duration::from_millis(1)).await;
    assert!(idle.is_at_end(), "five seconds after its answer");
    rig.pass(SECOND).await;
    assert!(rig.engine.is_finished());
    assert_eq!(rig.closed(CloseReason::Drained), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_core_makes_its_app_anew_where_that_is_asked_for_and_keeps_it_where_the_making_panics() {
    let made = Rc::new(Cell::new(0));
    let count = Rc::clone(&made);
    let make = move || {
        let number = count.get() + 1;
        assert_ne!(number, 3, "on purpose");
        count.set(number);
        service_fn(move |_: http::Request<Body>| async move {
            tokio::time::sleep(SECOND).await;
            Ok::<_, std::convert::Infallible>(http::Response::new(Body::from(bytes::Bytes::from(number.to_string()))))
        })
    };
    let rig = Rig::remaking(make, Settings::default());
    let mut peer = rig.connect();
    let mut number = async |rig: &Rig| {
        peer.send(get("/"));
        rig.pass(2 * SECOND).await;
        peer.receive().split("\r\n\r\n").nth(1).map(ToOwned::to_owned)
    };
    assert_eq!(number(&rig).await.as_deref(), Some("1"));
    rig.reload(false, |settings| settings.header_timeout = None).await;
    assert_eq!(number(&rig).await.as_deref(), Some("1"));
    let mut before = rig.connect();
    before.send(get("/"));
    rig.settle().await;
    rig.reload(true, |_| {}).await;
    assert_eq!(number(&rig).await.as_deref(), Some("2"));
    assert!(before.receive().ends_with('1'), "what is being answered is answered by the app before");
    rig.reload(true, |_| {}).await;
    assert_eq!((number(&rig).await.as_deref(), rig.counts().core_panics), (Some("2"), 0));
}
