//! What a server counts, against what its clients have counted.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::routing::{any, get, post};
use baiwan::metrics::prometheus_client::metrics::counter::Counter;
use baiwan::metrics::{Kind, METRICS};
use baiwan::{Builder, CloseReason, EventLoop, Metrics, RouteLayer};

use crate::rig::{Rig, eventually, server};

/// An offer of another protocol, without its request line and the empty line.
const OFFER: &str = "Host: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
/// Clients at once, and what each does again and again.
const CLIENTS: u64 = 4;
const ROUNDS: u64 = 60;
/// What other parts of a server say, which are not here.
const OF_OTHER_PARTS: [&str; 12] = [
    "baiwan_log_lines_dropped_total",
    "baiwan_access_log_writer_cpu_seconds_total",
    "baiwan_live",
    "baiwan_ready",
    "baiwan_health_check_up",
    "baiwan_config_last_reload_successful",
    "baiwan_config_last_reload_success_timestamp_seconds",
    "baiwan_store_up",
    "baiwan_store_queue_length",
    "baiwan_store_wait_seconds",
    "baiwan_store_errors_total",
    // Only where a cgroup limits the memory.
    "baiwan_memory_used_ratio",
];

/// The samples of a scrape, by name and labels as they stand there.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

/// The value of a sample, 0 if there is none.
fn sample(metrics: &Metrics, name: &str) -> u64 {
    samples(&metrics.render()).get(name).map_or(0, |value| *value as u64)
}

/// The exchanges that a server has counted, by method, route and status.
fn requests(metrics: &Metrics) -> BTreeMap<String, u64> {
    let samples = samples(&metrics.render());
    let requests = samples.into_iter().filter_map(|(name, value)| {
        let labels = name.strip_prefix("http_requests_total{")?;
        let values: Vec<&str> = labels.split('"').skip(1).step_by(2).collect();
        Some((values.join(" "), value as u64))
    });
    requests.collect()
}

fn counted(builder: Builder) -> (Builder, Metrics) {
    let mut builder = builder;
    let metrics = builder.metrics();
    (builder, metrics)
}

fn app() -> Router {
    let later = || async {
        tokio::task::yield_now().await;
        "later"
    };
    let events = || async {
        Body::from_stream(futures_util::stream::unfold(0, |count| async move {
            tokio::task::yield_now().await;
            (count < 3).then(|| (Ok::<_, std::io::Error>(Bytes::from_static(b"event")), count + 1))
        }))
    };
    let users = Router::new().route("/{id}", get(|| async { "a user" })).route("/{id}/later", get(later));
    Router::new()
        .nest("/users", users)
        .route("/echo", post(|body: Bytes| async { body }))
        .route("/events", get(events))
        .route("/panic", get(panics))
        .route("/never", get(std::future::pending::<&str>))
        .route("/any", any(|| async { "any" }))
        .route("/hold", get(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(hold) }))
        .route("/ws", get(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(|_| async {}) }))
}

/// Holds a connection that has switched protocols until its peer leaves.
async fn hold(mut socket: WebSocket) {
    while let Some(Ok(_)) = socket.recv().await {}
}

async fn panics() -> &'static str {
    panic!("in the handler, as the test wants it")
}

/// What clients have counted.
#[derive(Default)]
struct Tally {
    requests: BTreeMap<String, u64>,
    connections: u64,
    sent: u64,
    received: u64,
}

impl Tally {
    /// Sends a request on a connection of its own, and reads until its end. What is refused unread is not counted as sent.
    fn converse(&mut self, address: &str, request: &str, labels: &str) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        self.connections += 1;
        self.received += answer.len() as u64;
        self.sent += if labels.starts_with("_OTHER unmatched") { 0 } else { request.len() as u64 };
        let status = std::str::from_utf8(&answer).ok().and_then(|text| text.get(9..12)).unwrap_or("none");
        assert!(labels.ends_with(status), "{request} {labels} {status}");
        *self.requests.entry(labels.to_owned()).or_default() += 1;
    }

    fn add(&mut self, other: Self) {
        for (labels, count) in other.requests {
            *self.requests.entry(labels).or_default() += count;
        }
        self.connections += other.connections;
        self.sent += other.sent;
        self.received += other.received;
    }
}

/// Requests of each kind, with the method, route and status of each.
fn kinds() -> Vec<(String, &'static str)> {
    let last = "Host: test\r\nConnection: close\r\n";
    let upload = format!("POST /echo HTTP/1.1\r\n{last}");
    vec![
        (format!("GET /users/7 HTTP/1.1\r\n{last}\r\n"), "GET /users/{id} 200"),
        (format!("GET /users/8/later HTTP/1.1\r\n{last}\r\n"), "GET /users/{id}/later 200"),
        (format!("HEAD /users/7 HTTP/1.1\r\n{last}\r\n"), "HEAD /users/{id} 200"),
        (format!("GET /events HTTP/1.1\r\n{last}\r\n"), "GET /events 200"),
        (format!("GET /nowhere HTTP/1.1\r\n{last}\r\n"), "GET unmatched 404"),
        (format!("DELETE /users/7 HTTP/1.1\r\n{last}\r\n"), "DELETE /users/{id} 405"),
        (format!("OPTIONS * HTTP/1.1\r\n{last}\r\n"), "OPTIONS unmatched 204"),
        (format!("BREW /any HTTP/1.1\r\n{last}\r\n"), "_OTHER /any 200"),
        (format!("{upload}Content-Length: 5\r\n\r\nhello"), "POST /echo 200"),
        (format!("{upload}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "POST /echo 200"),
        (format!("GET /panic HTTP/1.1\r\n{last}\r\n"), "GET /panic 500"),
        (format!("GET /ws HTTP/1.1\r\n{OFFER}\r\n"), "GET /ws 101"),
        ("GET /users/7 HTTP/1.1\r\nHo st: test\r\n\r\n".to_owned(), "_OTHER unmatched 400"),
        (format!("CONNECT test:80 HTTP/1.1\r\n{last}\r\n"), "_OTHER unmatched 501"),
    ]
}

pub(crate) fn every_counter_equals_what_the_clients_counted(event_loop: EventLoop) {
    let (builder, metrics) = counted(server(event_loop).workers(2));
    let rig = Rig::start(builder, app());
    let address = rig.address();
    let clients = (0..CLIENTS).map(|_| {
        let address = address.clone();
        std::thread::spawn(move || {
            let mut tally = Tally::default();
            for _ in 0..ROUNDS {
                for (request, labels) in kinds() {
                    tally.converse(&address, &request, labels);
                }
            }
            tally
        })
    });
    let mut tally = Tally::default();
    clients.collect::<Vec<_>>().into_iter().for_each(|client| tally.add(client.join().unwrap()));
    let all = CLIENTS * ROUNDS * kinds().len() as u64;
    eventually("every exchange is counted", || requests(&metrics).values().sum::<u64>() == all);
    assert_eq!(requests(&metrics), tally.requests);
    let rounds = CLIENTS * ROUNDS;
    eventually("every connection has ended", || sample(&metrics, "baiwan_connections{state=\"closing\"}") == 0);
    eventually("each has its reason", || metrics.snapshot().closed.iter().map(|(_, count)| count).sum::<u64>() == all);
    for (name, expected) in [
        ("baiwan_connections_opened_total", tally.connections),
        ("baiwan_connections_closed_total{reason=\"refused\"}", 2 * rounds),
        ("baiwan_connections_closed_total{reason=\"handler-failed\"}", rounds),
        ("baiwan_requests_refused_total{rule=\"connect-unsupported\"}", rounds),
        ("baiwan_handler_panics_total", rounds),
        ("baiwan_sent_bytes_total", tally.received),
        ("baiwan_received_bytes_total", tally.sent),
        ("baiwan_requests_in_flight", 0),
        ("baiwan_stream_duration_seconds_count{route=\"/events\"}", rounds),
        ("baiwan_stream_duration_seconds_count{route=\"/ws\"}", rounds),
        ("http_request_duration_seconds_count{method=\"GET\",route=\"/users/{id}\",status=\"200\"}", rounds),
        ("http_request_duration_seconds_count{method=\"GET\",route=\"/events\",status=\"200\"}", 0),
        ("http_request_duration_seconds_count{method=\"GET\",route=\"/ws\",status=\"101\"}", 0),
    ] {
        assert_eq!(sample(&metrics, name), expected, "{name}");
    }
    let snapshot = metrics.snapshot();
    assert_eq!(snapshot.statuses.iter().map(|(_, count)| count).sum::<u64>(), all);
    let failures: u64 = snapshot.routes.iter().map(|route| route.failures).sum();
    assert_eq!(failures, 2 * rounds, "500 and 501");
    assert!(
        (1..=50).contains(&snapshot.failures.len()) && snapshot.failures.iter().all(|failure| failure.status >= 500)
    );
    assert_eq!(metrics.clients().iter().map(|client| client.address.to_string()).collect::<Vec<_>>(), ["127.0.0.1"]);
    rig.stop();
}

pub(crate) fn what_limits_refuse_is_counted_by_name(event_loop: EventLoop) {
    let quota = "1/h".parse().unwrap();
    let (builder, metrics) = counted(server(event_loop).rate_limit(Some(quota)).max_connections(2));
    let rig = Rig::start(builder, app());
    let mut client = rig.connect();
    let statuses: Vec<u16> = (0..4).map(|_| client.get("/users/7").status).collect();
    assert_eq!(statuses, [200, 429, 429, 429]);
    let held = rig.connect();
    eventually("both are open", || rig.health.connections() == 2);
    let mut tally = Tally::default();
    let request = "GET /users/7 HTTP/1.1\r\nHost: test\r\n\r\n";
    tally.converse(&rig.address(), request, "GET unmatched 503");
    let expected = BTreeMap::from(
        [("GET /users/{id} 200", 1), ("GET unmatched 429", 3), ("GET unmatched 503", 1)]
            .map(|(labels, count)| (labels.to_owned(), count)),
    );
    eventually("every exchange is counted", || requests(&metrics) == expected);
    for (name, expected) in [
        ("baiwan_requests_denied_total{reason=\"rate-limited\"}", 3),
        ("baiwan_requests_denied_total{reason=\"too-many-connections\"}", 1),
        ("baiwan_requests_denied_total{reason=\"memory-pressure\"}", 0),
        ("baiwan_rate_limit_decisions_total{decision=\"allowed\"}", 1),
        ("baiwan_rate_limit_decisions_total{decision=\"refused\"}", 3),
        ("baiwan_connections_max", 2),
    ] {
        assert_eq!(sample(&metrics, name), expected, "{name}");
    }
    let refusals: u64 = metrics.clients().iter().map(|client| client.refusals).sum();
    assert_eq!(refusals, 4);
    drop((client, held));
    rig.stop();
}

pub(crate) fn a_connection_is_counted_by_what_it_waits_for(event_loop: EventLoop) {
    let (builder, metrics) = counted(server(event_loop));
    let rig = Rig::start(builder, app());
    let (mut idle, mut handled, mut switched) = (rig.connect(), rig.connect(), rig.connect());
    idle.get("/users/7");
    handled.send("GET /never HTTP/1.1\r\nHost: test\r\n\r\n");
    switched.send(format!("GET /hold HTTP/1.1\r\n{OFFER}\r\n"));
    assert_eq!(switched.head().status, 101);
    let state = |name: &str| sample(&metrics, &format!("baiwan_connections{{state=\"{name}\"}}"));
    eventually("each has its state", || ["idle", "handling", "upgraded"].map(state) == [1; 3]);
    assert_eq!(sample(&metrics, "baiwan_requests_in_flight"), 1);
    drop((idle, handled, switched));
    eventually("none is left", || ["idle", "handling", "upgraded", "closing"].map(state) == [0; 4]);
    rig.stop();
}

pub(crate) fn neither_paths_nor_methods_make_series(event_loop: EventLoop) {
    let (builder, metrics) = counted(server(event_loop));
    let inner = Router::new().route("/{name}", any(|| async { "inner" })).layer(RouteLayer);
    let rig = Rig::start(builder, app().nest_service("/inner", inner));
    let ask = |method: &str, path: &str| {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n");
        let mut client = rig.connect();
        client.send(&request);
        client.answer(method == "HEAD").status
    };
    for path in ["/users/0", "/inner/0", "/nowhere"] {
        ask("GET", path);
        ask("BREW", path);
    }
    let names = || samples(&metrics.render()).into_keys().filter(|name| name.starts_with("http_")).collect::<Vec<_>>();
    eventually("all are counted", || requests(&metrics).values().sum::<u64>() == 6);
    let before = names();
    let mut client = rig.connect();
    let mut sent = 6;
    for batch in 0..200_u64 {
        let of_batch = (0..10).map(|number| batch * 10 + number);
        let request = |path: String, method: &str| format!("{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n");
        let requests: Vec<String> = of_batch
            .flat_map(|number| {
                let method = format!("BREW{}", number % 1000);
                ["/users", "/inner", "/nowhere"]
                    .map(|base| request(format!("{base}/{number}"), &method))
                    .into_iter()
                    .chain([request(format!("/users/{number}"), "GET")])
            })
            .collect();
        sent += requests.len() as u64;
        client.send(requests.concat());
        requests.iter().for_each(|_| drop(client.answer(false)));
    }
    eventually("all are counted", || requests(&metrics).values().sum::<u64>() == sent);
    assert_eq!(names(), before);
    drop(client);
    rig.stop();
}

pub(crate) fn a_scrape_says_what_the_table_has(event_loop: EventLoop) {
    let (builder, metrics) = counted(server(event_loop).rate_limit(Some("100/s".parse().unwrap())));
    let orders = Counter::<u64>::default();
    metrics.registry(|registry| registry.register("shop_orders", "Orders", orders.clone()));
    let rig = Rig::start(builder, app());
    let mut client = rig.connect();
    client.get("/events");
    eventually("it is counted", || requests(&metrics).len() == 1);
    orders.inc();
    let (text, open) = (metrics.render(), metrics.render_openmetrics());
    assert!(open.ends_with("shop_orders_total 1\n# EOF\n") && text.ends_with("shop_orders_total 1\n"), "{text}");
    let types = |text: &str| -> BTreeMap<String, String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        lines.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
    };
    let mut expected: BTreeMap<String, String> = METRICS
        .iter()
        .filter(|metric| !OF_OTHER_PARTS.contains(&metric.name))
        .map(|metric| {
            (metric.name.to_owned(), if metric.kind == Kind::Info { "gauge" } else { metric.kind.name() }.to_owned())
        })
        .collect();
    expected.insert("shop_orders_total".to_owned(), "counter".to_owned());
    let mut found = types(&text);
    found.remove("baiwan_memory_used_ratio");
    assert_eq!(found, expected);
    // The same in OpenMetrics, whose families have no suffix of their kind.
    let bare = |name: &str| name.trim_end_matches("_total").trim_end_matches("_info").to_owned();
    let mut families: Vec<String> = types(&open).into_keys().collect();
    families.retain(|name| name != "baiwan_memory_used_ratio");
    assert_eq!(
        families,
        expected
            .keys()
            .map(|name| bare(name))
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
    );
    assert!(!text.contains("_total_total") && !text.contains("# EOF") && !text.contains("# UNIT"));
    // No handler has held its core.
    let has_samples = |name: &str| !["baiwan_slow_polls_total", "baiwan_core_stuck_total"].contains(&name);
    for metric in METRICS.iter().filter(|metric| expected.contains_key(metric.name) && has_samples(metric.name)) {
        for label in metric.labels {
            let sample = text.lines().find(|line| line.starts_with(metric.name) && line.contains('{'));
            assert!(sample.is_some_and(|line| line.contains(&format!("{label}=\""))), "{} {label}", metric.name);
        }
    }
    drop(client);
    rig.stop();
}

pub(crate) fn a_scrape_beside_full_load_disturbs_nobody(event_loop: EventLoop) {
    let (builder, metrics) = counted(server(event_loop));
    let rig = Rig::start(builder, app());
    let scrapes = Arc::new(AtomicU64::new(0));
    let (counter, scraped) = (Arc::clone(&scrapes), metrics.clone());
    let scraper = std::thread::spawn(move || {
        let mut last = 0;
        while counter.fetch_add(1, Relaxed) < 50 {
            let sum = requests(&scraped).values().sum();
            assert!(last <= sum, "a counter never goes back");
            last = sum;
        }
    });
    let mut client = rig.connect();
    let mut asked = 0;
    while scrapes.load(Relaxed) < 50 {
        assert_eq!(client.get("/users/7").status, 200);
        asked += 1;
    }
    scraper.join().unwrap();
    eventually("all are counted", || requests(&metrics).values().sum::<u64>() == asked);
    drop(client);
    rig.stop();
}

pub(crate) fn a_peer_that_left_is_counted_without_a_status(event_loop: EventLoop) {
    let (builder, metrics) = counted(server(event_loop).keep_alive_timeout(Some(Duration::from_secs(60))));
    let rig = Rig::start(builder, app());
    let mut client = rig.connect();
    client.send("GET /never HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("it is taken in", || rig.health.counts().requests == 1);
    drop(client);
    eventually("it is counted", || requests(&metrics) == BTreeMap::from([("GET /never none".to_owned(), 1)]));
    assert_eq!(rig.health.counts().closed_by(CloseReason::PeerClosed), 1);
    rig.stop();
}
