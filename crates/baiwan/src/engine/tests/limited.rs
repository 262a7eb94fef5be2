//! The rate limit: what a client is told that asks too often, and what its connection goes through.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::{any, post};

use super::rig::{Rig, get, statuses};
use crate::RateLimitMode;
use crate::cors::RefusalCors;
use crate::observe::{Exchange, Observer, Outcome};
use crate::settings::Settings;
use crate::status::CloseReason;

/// A server of 4 requests a minute, and how often its app was called.
fn rig(change: impl FnOnce(&mut Settings)) -> (Rig, Arc<AtomicU64>) {
    let calls = Arc::new(AtomicU64::new(0));
    let called = Arc::clone(&calls);
    let count = move || {
        called.fetch_add(1, Relaxed);
    };
    let counted = count.clone();
    let app = Router::new()
        .route(
            "/later",
            any(|| async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                "later"
            }),
        )
        .route("/body", post(|body: Bytes| async move { format!("{} bytes", body.len()) }))
        .route("/health", any(|| async { "healthy" }))
        .fallback(move || {
            counted();
            async { "hello" }
        });
    let mut settings = Settings::default();
    settings.rate_limit.quota = "4/min".parse().ok();
    change(&mut settings);
    (Rig::with(app, settings, 1000, 1 << 20), calls)
}

/// Spends all that the one client of the rig has.
async fn spend(rig: &Rig) {
    let mut peer = rig.connect();
    peer.send(get("/").repeat(4));
    rig.settle().await;
    assert_eq!(statuses(&peer.receive()), [200; 4]);
}

fn field<'a>(answer: &'a str, name: &str) -> &'a str {
    let head = answer.split("\r\n\r\n").next().unwrap();
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn requests_that_are_too_many_are_refused_one_by_one_and_their_connection_goes_on() {
    let (rig, calls) = rig(|_| {});
    let mut peer = rig.connect();
    peer.send(get("/").repeat(40));
    rig.settle().await;
    let expected: Vec<_> = std::iter::repeat_n(200, 4).chain(std::iter::repeat_n(429, 36)).collect();
    let answers = peer.receive();
    assert_eq!((statuses(&answers), calls.load(Relaxed)), (expected, 4));
    assert!(!answers.contains("connection:") && !peer.is_at_end(), "{answers}");
    let counts = rig.counts();
    assert_eq!((counts.requests, counts.rate_limited, counts.rate_limit_reported), (40, 36, 0));
    rig.pass(Duration::from_secs(15)).await;
    peer.send(get("/").repeat(2));
    rig.settle().await;
    assert_eq!(statuses(&peer.receive()), [200, 429]);
    drop(peer);
    rig.settle().await;
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_client_is_told_what_is_left_and_when_to_come_back() {
    let (rig, _) = rig(|_| {});
    for left in [3, 2, 1] {
        let answer = rig.exchange(&get("/")).await;
        assert!(!answer.to_lowercase().contains("ratelimit"), "{left} are left: {answer}");
    }
    let last = rig.exchange(&get("/")).await;
    assert_eq!((statuses(&last), field(&last, "ratelimit-policy")), (vec![200], "\"default\";q=4;w=60"));
    assert_eq!((field(&last, "ratelimit"), field(&last, "retry-after")), ("\"default\";r=0;t=60", ""));
    let refused = rig.exchange(&get("/")).await;
    assert_eq!(
        (field(&refused, "ratelimit"), field(&refused, "content-type")),
        ("\"default\";r=0;t=15", "application/problem+json")
    );
    let seconds: u64 = field(&refused, "retry-after").parse().unwrap();
    assert!((15..=18).contains(&seconds), "{refused}");
    let body = refused.split("\r\n\r\n").nth(1).unwrap();
    let problem: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!((&problem["status"], &problem["violated-policies"][0]), (&429.into(), &"default".into()));
    assert_eq!(field(&refused, "content-length"), body.len().to_string());
    let head = rig.exchange("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(statuses(&head), [429]);
    assert!(head.ends_with("\r\n\r\n") && field(&head, "content-length") == body.len().to_string(), "{head}");
    let old = rig.exchange("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    assert_eq!(field(&old, "connection"), "keep-alive");
    let last = rig.exchange("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert_eq!((statuses(&last), field(&last, "connection")), (vec![429], "close"));
    rig.settle().await;
    assert_eq!(rig.closed(CloseReason::Complete), 1);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_answer_that_is_waited_for_says_what_is_left_as_well() {
    let (rig, _) = rig(|_| {});
    let mut peer = rig.connect();
    peer.send(get("/later").repeat(4));
    rig.pass(Duration::from_secs(1)).await;
    let answers = peer.receive();
    assert_eq!(statuses(&answers), [200; 4]);
    assert_eq!(answers.matches("ratelimit: \"default\";r=0;t=").count(), 1, "{answers}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn the_body_of_a_request_that_is_refused_is_not_taken_for_the_next_request() {
    let (rig, _) = rig(|_| {});
    spend(&rig).await;
    for (head, pieces) in [
        ("Content-Length: 20", &["GET /body HTTP/1.1\r\n"][..]),
        ("Content-Length: 20", &["GET /body ", "HTTP/1.1\r\n"]),
        ("Content-Length: 40000", &["", &"x".repeat(20_000), &"x".repeat(20_000)]),
        ("Transfer-Encoding: chunked", &["5\r\nhello\r\n0\r\n\r\n"]),
        ("Transfer-Encoding: chunked", &["", "5\r\nhel", "lo\r\n0\r\n\r\n"]),
    ] {
        let mut peer = rig.connect();
        peer.send(format!("POST /body HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n{}", pieces[0]));
        for piece in &pieces[1..] {
            rig.settle().await;
            peer.send(piece);
        }
        rig.settle().await;
        peer.send(get("/health"));
        rig.settle().await;
        let answers = peer.receive();
        assert_eq!(statuses(&answers), [429, 200], "{head} {}", pieces.len());
        assert!(answers.ends_with("healthy") && !answers.contains("connection:"), "{answers}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_connection_ends_after_a_refusal_whose_request_has_more_than_can_be_borne() {
    let (rig, _) = rig(|_| {});
    spend(&rig).await;
    for head in ["Content-Length: 70000", "Content-Length: 5\r\nExpect: 100-continue"] {
        let refused = rig.exchange(&format!("POST /body HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n")).await;
        assert_eq!((statuses(&refused), field(&refused, "connection")), (vec![429], "close"), "{head}");
    }
    let wrong = rig.exchange("POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n").await;
    assert_eq!(statuses(&wrong), [400], "what breaks a rule is refused for that");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn health_and_preflights_are_answered_whoever_asks_too_often() {
    let (rig, calls) = rig(|_| {});
    spend(&rig).await;
    let preflight =
        "OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: https://b.org\r\nAccess-Control-Request-Method: PUT\r\n\r\n";
    for request in [get("/health"), get("/health/live"), preflight.to_owned()] {
        assert_eq!(statuses(&rig.exchange(&request).await), [200], "{request}");
    }
    assert_eq!(statuses(&rig.exchange(&get("/")).await), [429]);
    assert_eq!(calls.load(Relaxed), 6);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn report_mode_counts_what_it_would_refuse_and_lets_it_through() {
    let (rig, calls) = rig(|settings| settings.rate_limit.mode = RateLimitMode::Report);
    let mut peer = rig.connect();
    peer.send(get("/").repeat(10));
    rig.settle().await;
    let answers = peer.receive();
    assert_eq!((statuses(&answers), calls.load(Relaxed)), (vec![200; 10], 10));
    assert!(!answers.to_lowercase().contains("ratelimit"), "{answers}");
    let counts = rig.counts();
    assert_eq!((counts.requests, counts.rate_limited, counts.rate_limit_reported), (10, 0, 6));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_event_source_that_comes_too_often_is_told_when_to_come_back() {
    let (rig, _) = rig(|settings| settings.refusal_cors = RefusalCors::Any);
    spend(&rig).await;
    let mut peer = rig.connect();
    peer.send("GET / HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n");
    rig.settle().await;
    let told = peer.receive();
    assert_eq!((statuses(&told), field(&told, "content-type")), (vec![200], "text/event-stream"));
    assert_eq!((field(&told, "access-control-allow-origin"), field(&told, "connection")), ("*", ""));
    let body = told.split("\r\n\r\n").nth(1).unwrap();
    let milliseconds: u64 = body.strip_prefix("retry: ").unwrap().trim_end().parse().unwrap();
    assert!((15_000..20_000).contains(&milliseconds), "{told}");
    assert_eq!(rig.counts().rate_limited, 1);
    let refused = rig.exchange(&get("/")).await;
    assert_eq!((field(&refused, "access-control-allow-origin"), statuses(&refused)), ("*", vec![429]));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_refusal_has_its_record() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&lines);
    let observer = Observer::new(move |exchange: &Exchange<'_>| {
        let status = exchange.status.unwrap().as_u16();
        let method = exchange.method.map(ToString::to_string);
        seen.lock().unwrap().push((method, status, [exchange.bytes_in, exchange.bytes_out], exchange.outcome));
    });
    let (rig, _) = rig(|settings| settings.observer = Some(observer));
    spend(&rig).await;
    lines.lock().unwrap().clear();
    let request = "POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let refused = rig.exchange(request).await;
    let bytes = [request.len() as u64, refused.len() as u64];
    assert_eq!(lines.lock().unwrap()[..], [(Some("POST".to_owned()), 429, bytes, Outcome::Denied)]);
    lines.lock().unwrap().clear();
    rig.exchange("GET / HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n").await;
    let line = lines.lock().unwrap()[0].clone();
    assert_eq!((line.1, line.3), (429, Outcome::Denied), "what it stands for");
}
