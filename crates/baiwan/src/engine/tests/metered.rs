//! What is counted of exchanges that end in every way, against what peers have received.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::routing::{get as route_get, post};
use baiwan_limits::{MemoryLevel, MemoryPressure};

use super::rig::{Rig, get, statuses};
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::status::CloseReason;

fn app() -> Router {
    Router::new()
        .route("/now", route_get(|| async { "now" }))
        .route(
            "/later",
            route_get(|| async {
                tokio::time::sleep(Duration::from_secs(2)).await;
                "later"
            }),
        )
        .route("/never", route_get(std::future::pending::<&str>))
        .route("/echo", post(|body: Bytes| async { body }))
}

fn rig(settings: Settings) -> (Rig, Metrics) {
    let metrics = Metrics::default();
    let settings = Settings { metrics: Some(metrics.clone()), ..settings };
    (Rig::with(app(), settings, 1000, 1 << 20), metrics)
}

/// The exchanges by status.
fn by_status(metrics: &Metrics) -> BTreeMap<u16, u64> {
    metrics.snapshot().statuses.into_iter().collect()
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn failures_of_each_kind_are_counted_once() {
    let settings = Settings { request_timeout: Some(Duration::from_secs(5)), ..Settings::default() };
    let (rig, metrics) = rig(settings);
    let mut expected: BTreeMap<u16, u64> = BTreeMap::new();
    for _ in 0..20 {
        for (request, status) in [
            (get("/now"), 200),
            (get("/later"), 200),
            (get("/never"), 503),
            (get("/nowhere"), 404),
            ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".to_owned(), 200),
            ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhell".to_owned(), 408),
            ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\nHost:".to_owned(), 408),
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ] {
            let mut peer = rig.connect();
            peer.send(&request);
            rig.pass(Duration::from_secs(15)).await;
            assert_eq!(statuses(&peer.receive()), [status], "{request}");
            *expected.entry(status).or_default() += 1;
        }
        // Whoever leaves is answered nothing.
        let mut peer = rig.connect();
        peer.send(get("/never"));
        rig.settle().await;
        drop(peer);
        rig.settle().await;
        *expected.entry(0).or_default() += 1;
    }
    assert_eq!(by_status(&metrics), expected);
    let snapshot = metrics.snapshot();
    assert_eq!(snapshot.durations.count(), expected.values().sum::<u64>());
    let later = snapshot.routes.iter().find(|route| route.route == "/later").unwrap();
    let seconds = later.durations.sum_seconds / later.requests as f64;
    assert!((2.0..2.1).contains(&seconds) && later.durations.buckets[10] == 20, "{later:?}");
    assert_eq!(snapshot.failures.len(), 20, "each 503 is more than 10 ms after the one before");
    assert!(snapshot.failures.iter().all(|failure| failure.status == 503 && failure.route == "/never"));
    assert_eq!(snapshot.counts.closed_by(CloseReason::Refused), 40);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn an_answer_of_which_a_later_piece_was_waited_for_is_a_stream() {
    /// Waits before some of two pieces and the end, which the path says.
    async fn pieces(Path((kind, waits)): Path<(String, String)>) -> ([(&'static str, String); 1], Body) {
        let pieces = futures_util::stream::unfold(0, move |count| {
            let waits = waits.as_bytes()[count] == b'1';
            async move {
                if waits {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                (count < 2).then_some((Ok::<_, std::convert::Infallible>("piece"), count + 1))
            }
        });
        ([("content-type", format!("text/{kind}"))], Body::from_stream(pieces))
    }
    let metrics = Metrics::default();
    let app = Router::new().route("/{kind}/{waits}", route_get(pieces));
    let settings = Settings { metrics: Some(metrics.clone()), ..Settings::default() };
    let rig = Rig::with(app, settings, 1000, 1 << 20);
    let mut expected = [0, 0];
    for (path, is_stream) in [
        ("/plain/000", false),
        ("/plain/100", false),
        ("/plain/101", false),
        ("/plain/001", false),
        ("/plain/010", true),
        ("/plain/011", true),
        ("/plain/110", true),
        ("/event-stream/000", true),
        ("/event-stream/100", true),
        ("/event-stream/001", true),
    ] {
        let mut peer = rig.connect();
        peer.send(get(path));
        rig.pass(Duration::from_secs(4)).await;
        assert_eq!(statuses(&peer.receive()), [200], "{path}");
        expected[usize::from(is_stream)] += 1;
        let snapshot = metrics.snapshot();
        assert_eq!([snapshot.durations.count(), snapshot.streams.count()], expected, "{path}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn connections_are_counted_by_state_and_leave_nothing_behind() {
    let (rig, metrics) = rig(Settings::default());
    let states = || metrics.snapshot().connections.into_iter().map(|(_, count)| count).collect::<Vec<_>>();
    let (idle, mut receiving, mut handling, mut closing) = (rig.connect(), rig.connect(), rig.connect(), rig.connect());
    receiving.send("GET / HTTP/1.1\r\n");
    handling.send(get("/never"));
    closing.send("GE(T / HTTP/1.1\r\n\r\n");
    rig.settle().await;
    assert_eq!(states(), [1, 1, 1, 0, 0, 1]);
    assert_eq!(metrics.snapshot().in_flight, 1);
    drop((idle, receiving, handling, closing));
    rig.settle().await;
    assert_eq!(states(), [0; 6]);
    rig.assert_empty();
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_memory_refuses_is_counted_by_its_name() {
    let (rig, metrics) = rig(Settings::default());
    rig.status.set_memory_pressure(MemoryPressure { level: MemoryLevel::Refusing, percent: 97 });
    rig.settle().await;
    for request in [get("/now"), "GET / HTTP/1.1\r\nHost:".to_owned()] {
        assert_eq!(statuses(&rig.exchange(&request).await), [503], "{request}");
        rig.pass(Duration::from_secs(2)).await;
    }
    let denied: Vec<_> = metrics.snapshot().denied.into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(denied, [("memory-pressure", 2)]);
    let text = metrics.render();
    assert!(text.contains("http_requests_total{method=\"GET\",route=\"unmatched\",status=\"503\"} 1\n"), "{text}");
    assert!(text.contains("http_requests_total{method=\"_OTHER\",route=\"unmatched\",status=\"503\"} 1\n"), "{text}");
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_turn_that_did_not_sleep_before_has_a_lag() {
    let (rig, metrics) = rig(Settings::default());
    let mut peer = rig.connect();
    peer.send(get("/now"));
    rig.settle().await;
    let core = &metrics.snapshot().cores[0];
    assert!(core.turns.count() > 0 && core.turns.count() == core.lag.count());
    assert_eq!((core.turns.sum_seconds, core.lag.sum_seconds), (0.0, 0.0), "the clock is held");
}

#[test]
fn a_scrape_of_a_thousand_routes_has_them_all_and_no_more() {
    let metrics = Metrics::default();
    let settings = Settings { metrics: Some(metrics.clone()), ..Settings::default() };
    let status = crate::status::Status::new(2, 1, 1);
    let recorders = [0, 1].map(|core| settings.recorder(&status, core).unwrap());
    for number in 0..1100 {
        for recorder in &recorders {
            let request = http::Request::new(());
            let now = crate::recorder::now();
            let client = "192.0.2.1:80".parse().unwrap();
            let mut draft = crate::recorder::Draft::of_request(recorder, &request, client, None, now, 0);
            draft.route = recorder.routes().intern(&format!("/routes/{number}/{{id}}"));
            draft.handle_head(http::StatusCode::OK, now);
            draft.finish(recorder, None, now + Duration::from_millis(7));
        }
    }
    let text = metrics.render();
    let samples: Vec<&str> = text.lines().filter(|line| line.starts_with("http_requests_total{")).collect();
    assert_eq!(samples.len(), 1001);
    assert!(samples.contains(&"http_requests_total{method=\"GET\",route=\"/routes/999/{id}\",status=\"200\"} 2"));
    assert!(samples.contains(&"http_requests_total{method=\"GET\",route=\"other\",status=\"200\"} 200"));
}
