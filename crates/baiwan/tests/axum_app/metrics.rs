//! What a server counts, and by what; `exact` compares it with what clients have counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::middleware::Next;
use axum::routing::{any, get, post};
use baiwan::metrics::prometheus_client::metrics::counter::Counter;
use baiwan::metrics::{Kind, METRICS};
use baiwan::{Builder, CloseReason, EventLoop, Exchange, Metrics, Outcome, RouteLayer};
use baiwan_limits::{RateLimit, Table};

use crate::rig::{Rig, eventually, server};

/// An offer of another protocol, without its request line and the empty line.
pub(crate) const OFFER: &str = "Host: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
/// Paths of which none makes a series.
const PATHS: usize = 100_000;
/// With the portable loop, which is for development.
const PATHS_PORTABLE: usize = 20_000;
/// What other parts of a server say, which are not here.
const OF_OTHER_PARTS: [&str; 14] = [
    "baiwan_log_lines_dropped_total",
    "baiwan_access_log_writer_cpu_seconds_total",
    "baiwan_live",
    "baiwan_ready",
    "baiwan_health_check_up",
    "baiwan_config_last_reload_successful",
    "baiwan_config_last_reload_success_timestamp_seconds",
    "baiwan_rate_limit_store_up",
    "baiwan_rate_limit_store_undecided_total",
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
pub(crate) fn sample(metrics: &Metrics, name: &str) -> u64 {
    samples(&metrics.render()).get(name).map_or(0, |value| *value as u64)
}

/// The exchanges that a server has counted, by method, route and status.
pub(crate) fn requests(metrics: &Metrics) -> BTreeMap<String, u64> {
    let samples = samples(&metrics.render());
    let requests = samples.into_iter().filter_map(|(name, value)| {
        let labels = name.strip_prefix("http_requests_total{")?;
        let values: Vec<&str> = labels.split('"').skip(1).step_by(2).collect();
        Some((values.join(" "), value as u64))
    });
    requests.collect()
}

pub(crate) fn counted(builder: Builder) -> (Builder, Metrics) {
    let mut builder = builder;
    let metrics = builder.metrics();
    (builder, metrics)
}

pub(crate) fn app() -> Router {
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

/// Without the words of a panic, of which a test may want thousands.
async fn panics() -> &'static str {
    std::panic::resume_unwind(Box::new("in the handler, as the test wants it"))
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
    assert_eq!(rig.connect().get("/users/7").status, 503);
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

pub(crate) fn what_limits_among_the_layers_decide_is_counted_as_the_servers(event_loop: EventLoop) {
    let layer = || RateLimit::new("1/h").table(Arc::new(Table::new()));
    // The app is asked later: the limit is reached in a poll that is not the first.
    let later = axum::middleware::from_fn(async |request: Request, next: Next| {
        tokio::task::yield_now().await;
        next.run(request).await
    });
    let app = Router::new()
        .route("/now", get(|| async { "now" }).layer(layer()))
        .route("/later", get(|| async { "later" }).layer(layer()).layer(later))
        .route("/reported", get(|| async { "reported" }).layer(layer().report_only()))
        .route("/free", get(|| async { "free" }));
    let records = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&records);
    let (builder, metrics) = counted(server(event_loop).observe(move |exchange: &Exchange<'_>| {
        let status = exchange.status.map_or(0, |status| status.as_u16());
        seen.lock().unwrap().push((exchange.route.to_owned(), status, exchange.outcome, exchange.denied));
    }));
    let rig = Rig::start(builder, app);
    let mut client = rig.connect();
    let mut statuses = |path: &str| [client.get(path).status, client.get(path).status];
    assert_eq!((statuses("/now"), statuses("/later")), ([200, 429], [200, 429]));
    assert_eq!((statuses("/reported"), statuses("/free")), ([200; 2], [200; 2]));
    let told = client.ask("GET", "/now", "Accept: text/event-stream\r\n", "");
    assert_eq!((told.status, told.field("content-type")), (200, Some("text/event-stream")));
    eventually("every exchange has a record", || records.lock().unwrap().len() == 9);
    let answered = |route: &str| (route.to_owned(), 200, Outcome::Answered, None);
    let denied = |route: &str| (route.to_owned(), 429, Outcome::Denied, Some("rate-limited"));
    assert_eq!(records.lock().unwrap()[..4], [answered("/now"), denied("/now"), answered("/later"), denied("/later")]);
    assert_eq!(records.lock().unwrap()[8], denied("/now"), "what it stands for");
    for (name, expected) in [
        ("baiwan_requests_denied_total{reason=\"rate-limited\"}", 3),
        ("baiwan_rate_limit_decisions_total{decision=\"allowed\"}", 3),
        ("baiwan_rate_limit_decisions_total{decision=\"refused\"}", 3),
        ("baiwan_rate_limit_decisions_total{decision=\"reported\"}", 1),
    ] {
        assert_eq!(sample(&metrics, name), expected, "{name}");
    }
    assert_eq!(metrics.clients().iter().map(|client| client.refusals).sum::<u64>(), 3);
    let counts = rig.health.counts();
    assert_eq!((counts.rate_limited, counts.rate_limit_reported), (3, 1));
    drop(client);
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
    let paths = if event_loop == EventLoop::Epoll { PATHS } else { PATHS_PORTABLE };
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
    // Every path is another one, of each router in turn, and there are a thousand methods.
    let numbers: Vec<usize> = (0..paths).collect();
    for batch in numbers.chunks(200) {
        let request = |number: &usize| {
            let base = ["/users", "/inner", "/nowhere"][number % 3];
            let method = if number.is_multiple_of(4) { "GET".to_owned() } else { format!("BREW{}", number / 3 % 1000) };
            format!("{method} {base}/{number} HTTP/1.1\r\nHost: test\r\n\r\n")
        };
        client.send(batch.iter().map(request).collect::<String>());
        batch.iter().for_each(|_| drop(client.answer(false)));
    }
    eventually("all are counted", || requests(&metrics).values().sum::<u64>() == 6 + paths as u64);
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
