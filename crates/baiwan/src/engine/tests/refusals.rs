//! What the server answers by itself: who may read it, and what an `EventSource` is told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::{get as route_get, post};
use http::HeaderValue;

use super::rig::{Rig, statuses};
use crate::cors::RefusalCors;
use crate::observe::{Exchange, Observer};
use crate::settings::Settings;
use crate::status::CloseReason;

const LISTED: &str = "https://app.example.org";

fn app() -> Router {
    Router::new()
        .route("/", route_get(|| async { "hello" }))
        .route("/never", route_get(std::future::pending::<&str>))
        .route("/body", post(|body: Bytes| async move { format!("{} bytes", body.len()) }))
        .route(
            "/panic",
            route_get(|| async {
                if true {
                    std::panic::resume_unwind(Box::new("on purpose"))
                }
            }),
        )
}

fn list(origins: &[&'static str]) -> RefusalCors {
    RefusalCors::Origins(origins.iter().map(|origin| HeaderValue::from_static(origin)).collect())
}

fn settings(refusal_cors: RefusalCors) -> Settings {
    let mut settings = Settings { refusal_cors, request_timeout: Some(Duration::from_secs(8)), ..Settings::default() };
    settings.http.body_bytes_max = 100;
    settings
}

/// The value of a field of an answer, or an empty text.
fn field<'a>(answer: &'a str, name: &str) -> &'a str {
    let head = answer.split("\r\n\r\n").next().unwrap();
    head.lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(known, _)| *known == name)
        .map_or("", |(_, value)| value)
}

/// Requests whose head is read, and the status of the answer that the server gives by itself.
const READ: [(&str, u16); 5] = [
    ("GET /never HTTP/1.1\r\nHost: a\r\n%\r\n", 503),
    ("GET /panic HTTP/1.1\r\nHost: a\r\n%\r\n", 500),
    ("POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n%\r\nxyz\r\n", 400),
    ("POST /body HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n%\r\nfff\r\n", 413),
    ("POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n%\r\nhalf", 408),
];

/// And such whose head is not.
const UNREAD: [(&str, u16); 3] = [
    ("GET / HTTP/1.1\r\nOrigin: https://app.example.org\r\n\r\n", 400),
    ("GET / HTTP/1.1\r\nHost: a\r\nOrigin: https://app.exam", 408),
    ("BAD\r\n\r\n", 400),
];

async fn answer(rig: &Rig, request: &str) -> String {
    let mut peer = rig.connect();
    peer.send(request);
    rig.pass(Duration::from_secs(12)).await;
    peer.receive()
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_page_of_a_listed_origin_may_read_what_the_server_answers_by_itself_and_no_other() {
    let rig = Rig::with_settings(app(), settings(list(&[LISTED, "http://localhost:5173"])));
    for (request, status) in READ {
        let from = |origin: &str| request.replace('%', &format!("Origin: {origin}\r\n"));
        let read = answer(&rig, &from(LISTED)).await;
        assert_eq!(statuses(&read), [status], "{request}");
        assert_eq!(field(&read, "access-control-allow-origin"), LISTED, "{read}");
        assert_eq!(field(&read, "vary"), "Origin");
        assert_eq!(
            field(&read, "access-control-expose-headers"),
            "Retry-After, RateLimit, RateLimit-Policy, X-Request-Id"
        );
        for request in [from("https://other.example.org"), from("null"), request.replace('%', "")] {
            let unread = answer(&rig, &request).await;
            assert_eq!((statuses(&unread), field(&unread, "vary")), (vec![status], "Origin"));
            assert!(!unread.contains("access-control"), "{unread}");
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_a_request_came_from_is_forgotten_with_it() {
    let rig = Rig::with_settings(app(), settings(list(&[LISTED])));
    let two = format!("GET / HTTP/1.1\r\nHost: a\r\nOrigin: {LISTED}\r\n\r\nGET /panic HTTP/1.1\r\nHost: a\r\n\r\n");
    let answers = answer(&rig, &two).await;
    assert_eq!(statuses(&answers), [200, 500]);
    assert!(!answers.contains("access-control"), "{answers}");
    let mut peer = rig.connect();
    peer.send(format!("GET / HTTP/1.1\r\nHost: a\r\nOrigin: {LISTED}\r\n\r\n"));
    rig.settle().await;
    assert_eq!(statuses(&peer.receive()), [200]);
    peer.send("GET /panic HTTP/1.1\r\nHost: a\r\n\r\n");
    rig.settle().await;
    assert!(!peer.receive().contains("access-control"));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_answer_to_a_head_that_is_not_read_names_the_one_origin_or_all() {
    for (cors, allowed) in [
        (list(&[LISTED]), LISTED),
        (list(&["https://a.org", LISTED]), "*"),
        (RefusalCors::Any, "*"),
        (RefusalCors::Off, ""),
    ] {
        let rig = Rig::with_settings(app(), settings(cors));
        for (request, status) in UNREAD {
            let refused = answer(&rig, request).await;
            assert_eq!((statuses(&refused), field(&refused, "access-control-allow-origin")), (vec![status], allowed));
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn without_origins_nothing_is_added_and_with_any_all_may_read() {
    for (cors, allowed) in [(RefusalCors::Off, ""), (RefusalCors::Any, "*")] {
        let rig = Rig::with_settings(app(), settings(cors));
        for (request, status) in READ {
            for fields in ["", "Origin: https://app.example.org\r\n", "Origin: null\r\n"] {
                let refused = answer(&rig, &request.replace('%', fields)).await;
                assert_eq!(statuses(&refused), [status]);
                assert_eq!((field(&refused, "access-control-allow-origin"), field(&refused, "vary")), (allowed, ""));
            }
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn those_beyond_the_maximum_are_told_so_where_a_page_can_read_it() {
    let rig = Rig::with(app(), settings(list(&[LISTED])), 1, 1 << 20);
    let _held = rig.connect();
    rig.settle().await;
    let mut probes: Vec<_> = std::iter::repeat_with(|| rig.connect()).take(16).collect();
    rig.settle().await;
    let mut beyond = rig.connect();
    rig.settle().await;
    let refused = beyond.receive();
    assert_eq!((statuses(&refused), field(&refused, "access-control-allow-origin")), (vec![503], LISTED));
    assert!(refused.ends_with("503 Service Unavailable: too-many-connections\n"), "{refused}");
    for (probe, origin, allowed) in [(0, LISTED, LISTED), (1, "https://b.org", "")] {
        probes[probe].send(format!("GET / HTTP/1.1\r\nHost: a\r\nOrigin: {origin}\r\n\r\n"));
        rig.settle().await;
        let refused = probes[probe].receive();
        assert_eq!((statuses(&refused), field(&refused, "access-control-allow-origin")), (vec![503], allowed));
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_event_source_is_told_when_to_come_back_and_the_record_says_what_that_stands_for() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let records = Arc::clone(&seen);
    let observer =
        Observer::new(move |exchange: &Exchange<'_>| records.lock().unwrap().push(exchange.status.unwrap().as_u16()));
    let rig = Rig::with_settings(app(), Settings { observer: Some(observer), ..settings(RefusalCors::Any) });
    let told = answer(&rig, "GET /never HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n").await;
    assert_eq!((statuses(&told), field(&told, "content-type")), (vec![200], "text/event-stream"));
    assert_eq!((field(&told, "cache-control"), field(&told, "connection")), ("no-store", "close"));
    assert_eq!(field(&told, "access-control-allow-origin"), "*");
    let body = told.split("\r\n\r\n").nth(1).unwrap();
    let milliseconds: u64 = body.strip_prefix("retry: ").unwrap().trim_end().parse().unwrap();
    assert!((1000..=3000).contains(&milliseconds), "{told}");
    assert_eq!((rig.closed(CloseReason::RequestTimeout), &seen.lock().unwrap()[..]), (1, &[503][..]));
    let failed = answer(&rig, "GET /panic HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n").await;
    assert_eq!(statuses(&failed), [500], "what will not get better by waiting is said");
}
