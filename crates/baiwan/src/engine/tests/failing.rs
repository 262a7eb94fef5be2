//! What fails around the engine: the system at accept, the app in the engine's hands; and what an operator sees of it.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get as route_get, post};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

use super::rig::{Rig, get, statuses};
use crate::settings::Settings;
use crate::status::CloseReason;

/// Bytes that panic when they are dropped.
pub(super) struct Bomb(pub(super) Vec<u8>);

impl AsRef<[u8]> for Bomb {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("dropped");
        }
    }
}

fn app() -> Router {
    Router::new()
        .route("/", route_get(|| async { "hello" }))
        .route("/lies", route_get(|| async { ([("content-length", "7")], "hello") }))
        .route("/never", route_get(std::future::pending::<&str>))
        .route("/panic", route_get(async || -> &str { panic!("as asked") }))
        .route("/bomb", route_get(|| async { Bytes::from_owner(Bomb(vec![b'x'; 100_000])) }))
        .route("/collect", post(|body: Bytes| async move { body.len().to_string() }))
        .route(
            "/collect-more",
            post(|body: Bytes| async move { body.len().to_string() }).layer(DefaultBodyLimit::max(3 << 20)),
        )
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_98_a_loop_that_panics_costs_its_connections_and_begins_anew() {
    let rig = Rig::with(app(), Settings::default(), 1000, 1 << 20);
    let mut busy = rig.connect();
    busy.send(get("/never"));
    let idle = rig.connect();
    let mut bomb = rig.connect();
    bomb.send(get("/bomb"));
    rig.settle().await;
    assert!(busy.0.is_reset() && idle.0.is_reset() && bomb.0.is_reset());
    assert_eq!(rig.counts().core_panics, 1);
    assert_eq!(rig.closed(CloseReason::CoreFailed), 3);
    assert_eq!(statuses(&rig.exchange(&get("/")).await), [200], "others are served");
    drop((busy, idle, bomb));
    rig.settle().await;
    rig.assert_empty();
    assert!(!rig.engine.is_finished());
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_98_a_core_that_panics_three_times_in_a_minute_ends_the_server() {
    let mut rig = Rig::with(app(), Settings::default(), 1000, 1 << 20);
    // Once in half a minute is survived for ever.
    for _ in 0..10 {
        rig.exchange(&get("/bomb")).await;
        rig.pass(Duration::from_secs(30)).await;
    }
    assert!(!rig.engine.is_finished());
    rig.exchange(&get("/bomb")).await;
    rig.exchange(&get("/bomb")).await;
    let outcome = (&mut rig.engine).await.unwrap();
    assert!(outcome.unwrap_err().to_string().contains("3 times within a minute"));
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_41_a_collected_body_is_limited_by_default_and_by_route() {
    let rig = Rig::with(app(), Settings::default(), 1000, 8 << 20);
    for (path, bytes, status) in [
        ("/collect", 2 << 20, 200),
        ("/collect", (2 << 20) + 1, 413),
        ("/collect-more", (2 << 20) + 1, 200),
        ("/collect-more", 3 << 20, 200),
        ("/collect-more", (3 << 20) + 1, 413),
    ] {
        let body = "x".repeat(bytes);
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n");
        let chunked = format!("POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{bytes:x}\r\n");
        for request in [head + &body, chunked + &body + "\r\n0\r\n\r\n"] {
            let mut peer = rig.connect();
            peer.send(request);
            rig.settle().await;
            rig.settle().await;
            assert_eq!(statuses(&peer.receive()), [status], "{path} {bytes}");
        }
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_41_a_limit_for_every_body_refuses_before_it_is_read() {
    let mut settings = Settings::default();
    settings.http.body_bytes_max = 1000;
    let rig = Rig::with_settings(app(), settings);
    let answer = rig.exchange("POST /collect HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n").await;
    assert!(statuses(&answer) == [413] && answer.contains("connection: close"), "{answer}");
    assert_eq!(rig.counts().refused_by("body-too-large"), 1);
}

/// Keeps the fields of log events as lines.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::DEBUG && metadata.target().starts_with("baiwan")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Line(String);
        impl Visit for Line {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                write!(self.0, " {field}={value:?}").unwrap();
            }
        }
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn a_refusal_is_counted_by_its_rule_and_shown_in_the_log_without_harm() {
    let log = Log::default();
    let guard = tracing::subscriber::set_default(log.clone());
    let rig = Rig::new(app());
    let answer = rig.exchange("GET / HTTP/1.1\r\nHost: a\r\nX-Odd\u{1b}[31m: \u{202e}\u{1b}]0;\r\n\r\n").await;
    assert_eq!(statuses(&answer), [400]);
    rig.exchange(&format!("GET / HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nHost: {}\r\n\r\n", "b".repeat(500))).await;
    rig.exchange("POST /collect HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n").await;
    drop(guard);
    let counts = rig.counts();
    for rule in ["control-byte", "host-repeated", "chunk-size-invalid"] {
        assert_eq!(counts.refused_by(rule), 1, "{rule}: {:?}", counts.refused);
    }
    assert_eq!(counts.refused.iter().map(|(_, count)| count).sum::<u64>(), 3);
    let lines = log.0.lock().unwrap();
    let line =
        |rule: &str| lines.iter().find(|line| line.contains(rule)).unwrap_or_else(|| panic!("{lines:?}")).clone();
    let odd = line("rule=\"control-byte\"");
    assert!(odd.starts_with("DEBUG") && odd.contains("peer=127.0.0.1:"), "{odd}");
    assert!(odd.contains(r"sample=X-Odd\x1b[31m: \xe2\x80\xae"), "{odd}");
    let repeated = line("rule=\"host-repeated\"");
    assert!(repeated.contains("sample=Host: bbb") && repeated.len() < 250, "the line that is wrong, cut: {repeated}");
    assert!(line("rule=\"chunk-size-invalid\"").contains("sample=xyz"));
    assert!(
        lines.iter().flat_map(|line| line.chars()).all(|c| c == '…' || c.is_ascii_graphic() || c == ' '),
        "{lines:?}"
    );
}

/// Takes every line, and panics at each, as a writer does whose standard error is gone.
struct Falling;

impl Subscriber for Falling {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &Event<'_>) {
        // Unlike `panic!`, it prints nothing.
        std::panic::resume_unwind(Box::new("the log is gone"))
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn row_111_a_log_that_panics_costs_its_lines_and_nothing_else() {
    let guard = tracing::subscriber::set_default(Falling);
    let rig = Rig::new(app());
    let mut bystander = rig.connect();
    bystander.send(get("/"));
    let answer = rig.exchange("GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(statuses(&answer), [400]);
    let answer = rig.exchange("\x16\x03\x01\x02\x00").await;
    assert_eq!(statuses(&answer), [400]);
    let answer = rig.exchange(&get("/lies")).await;
    assert_eq!(statuses(&answer), [500]);
    bystander.send(get("/"));
    rig.settle().await;
    assert_eq!(statuses(&bystander.receive()), [200, 200]);
    assert_eq!((rig.counts().core_panics, rig.counts().handler_panics), (0, 0));
    drop(guard);
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_an_app_s_failure_leaves_to_read_arrives_where_the_peer_has_said_close() {
    let rig = Rig::new(app());
    for (before, path) in [("", "/panic"), ("", "/lies"), (&*get("/"), "/panic")] {
        let mut peer = rig.connect();
        peer.send(format!("{before}GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        rig.settle().await;
        assert!(!peer.0.is_reset(), "{path}: a reset destroys what has not arrived yet");
        let expected: &[u16] = if before.is_empty() { &[500] } else { &[200, 500] };
        assert_eq!(statuses(&peer.receive()), expected, "{path}");
        assert!(peer.is_at_end(), "{path}");
    }
    assert_eq!(rig.closed(CloseReason::HandlerFailed), 3);
}
