//! What the layer promises, over axum and on a clock that the test holds.

#![cfg(all(feature = "axum", not(baiwan_shuttle)))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::routing::{any, get};
use baiwan_limits::{ClientIp, ConcurrencyLimit, Quota, RateLimit, Table};
use http::request::{Builder, Parts};
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode};
use tower::{Layer, Service, ServiceExt};

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn field(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// With a table of its own: the tests of this program have each a clock, and a table counts by the newest time that it has seen.
fn limit_of(quota: &str) -> RateLimit {
    RateLimit::new(quota).table(Arc::new(Table::with_entries(1024)))
}

fn app(limit: RateLimit) -> Router {
    Router::new().route("/", any("hello")).layer(limit)
}

fn from(peer: &str) -> Builder {
    let peer: SocketAddr = peer.parse().unwrap();
    Request::builder().extension(ConnectInfo(peer))
}

async fn send(app: &Router, request: Builder) -> Answer {
    let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = String::from_utf8(to_bytes(body, 4096).await.unwrap().to_vec()).unwrap();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

async fn statuses<const N: usize>(app: &Router, requests: [Builder; N]) -> [u16; N] {
    let mut statuses = [0; N];
    for (status, request) in statuses.iter_mut().zip(requests) {
        *status = send(app, request).await.status;
    }
    statuses
}

#[tokio::test(start_paused = true)]
async fn one_that_asks_too_often_is_told_when_to_come_back_and_others_are_served() {
    let app = app(limit_of("2/min").name("login"));
    let [first, second, third] = [0; 3].map(|_| from("192.0.2.1:1"));
    assert_eq!(statuses(&app, [first, second]).await, [200, 200]);

    let refused = send(&app, third).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.field("ratelimit-policy"), "\"login\";q=2;w=60");
    assert_eq!(refused.field("ratelimit"), "\"login\";r=0;t=30");
    let retry_after: u64 = refused.field("retry-after").parse().unwrap();
    assert!((30..=37).contains(&retry_after), "{retry_after}");
    assert_eq!(refused.field("content-type"), "application/problem+json");
    assert_eq!(refused.field("cache-control"), "no-store");
    let problem: serde_json::Value = serde_json::from_str(&refused.body).unwrap();
    assert_eq!(problem["violated-policies"], serde_json::json!(["login"]));
    assert!(!refused.body.contains("192.0.2"), "nothing of the client is in it");

    assert_eq!(send(&app, from("192.0.2.2:1")).await.status, 200);
    tokio::time::advance(Duration::from_secs(retry_after)).await;
    assert_eq!(statuses(&app, [from("192.0.2.1:2"), from("192.0.2.1:3")]).await, [200, 429]);
}

#[tokio::test(start_paused = true)]
async fn answers_have_fields_when_less_than_a_quarter_is_left() {
    let app = app(limit_of("8/s"));
    for left in (0..8).rev() {
        let answer = send(&app, from("192.0.2.1:1")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "hello"));
        let expected = if left < 2 { format!("\"default\";r={left};t=1") } else { String::new() };
        assert_eq!(answer.field("ratelimit"), expected);
        assert_eq!(answer.headers.contains_key("ratelimit-policy"), left < 2);
        assert!(!answer.headers.contains_key("retry-after"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_is_an_address_or_a_prefix_of_ipv6_and_known_by_the_extension_first() {
    let limit = limit_of("1/s");
    let by_default = app(limit.clone());
    let [v4, v4_mapped] = ["192.0.2.1:1", "[::ffff:192.0.2.1]:1"].map(from);
    assert_eq!(statuses(&by_default, [v4, v4_mapped]).await, [200, 429]);
    let [one, same, other] = ["[2001:db8::1]:1", "[2001:db8::2:1]:1", "[2001:db8:0:1::1]:1"].map(from);
    assert_eq!(statuses(&by_default, [one, same, other]).await, [200, 429, 200]);
    let behind = || from("192.0.2.1:1").extension(ClientIp("198.51.100.1".parse().unwrap()));
    assert_eq!(statuses(&by_default, [behind(), behind()]).await, [200, 429]);

    let by_56 = app(limit.clone().by(ClientIp).ipv6_prefix(56));
    let [one, same, other] = ["[2001:db8::1]:1", "[2001:db8:0:1::1]:1", "[2001:db8:0:100::1]:1"].map(from);
    assert_eq!(statuses(&by_56, [one, same, other]).await, [200, 429, 200]);

    let unknown = app(limit.by(ClientIp));
    assert_eq!(
        statuses(&unknown, [Request::builder(), Request::builder(), from("192.0.2.1:1")]).await,
        [200, 429, 200]
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_may_be_a_field_and_those_without_count_by_address() {
    let app = app(limit_of("1/s").by(HeaderName::from_static("x-api-key")));
    let with = |peer, key| from(peer).header("x-api-key", key);
    let keys = [with("192.0.2.1:1", "a"), with("192.0.2.2:1", "a"), with("192.0.2.1:1", "b")];
    assert_eq!(statuses(&app, keys).await, [200, 429, 200]);
    assert_eq!(statuses(&app, [from("192.0.2.1:1"), from("192.0.2.1:1"), from("192.0.2.2:1")]).await, [200, 429, 200]);
}

#[tokio::test(start_paused = true)]
async fn a_key_may_be_a_function_and_those_it_names_no_key_for_are_not_limited() {
    #[derive(Clone, Hash)]
    struct User(u32);
    let app = app(limit_of("1/s").by(|parts: &Parts| parts.extensions.get::<User>().cloned()));
    let user = |id| Request::builder().extension(User(id));
    assert_eq!(statuses(&app, [user(1), user(1), user(2)]).await, [200, 429, 200]);
    let nobody = Request::builder;
    assert_eq!(statuses(&app, [nobody(), nobody(), nobody()]).await, [200; 3]);

    let global = Router::new().route("/", get("hello")).layer(limit_of("1/s").by(|_: &Parts| Some(())));
    assert_eq!(statuses(&global, [from("192.0.2.1:1"), from("192.0.2.2:1")]).await, [200, 429]);
}

#[tokio::test(start_paused = true)]
async fn requests_cost_what_they_are_said_to() {
    let limit = limit_of("5/s");
    let request = || from("192.0.2.1:1");
    assert_eq!(statuses(&app(limit.clone().cost(2)), [request(), request(), request()]).await, [200, 200, 429]);
    assert_eq!(send(&app(limit.clone().cost(6)), request()).await.status, 429);

    let by_method = app(limit.cost_by(|parts| if parts.method == Method::POST { 5 } else { 0 }));
    let post = || request().method(Method::POST);
    assert_eq!(statuses(&by_method, [post(), post(), request()]).await, [200, 429, 200]);
}

#[tokio::test(start_paused = true)]
async fn preflights_never_count_and_are_never_refused() {
    let app = app(limit_of("1/s"));
    let options = || from("192.0.2.1:1").method(Method::OPTIONS).header("origin", "https://example.com");
    let preflight = || options().header("access-control-request-method", "POST");
    assert_eq!(statuses(&app, [preflight(), from("192.0.2.1:1"), preflight(), options()]).await, [200, 200, 200, 429]);
}

#[tokio::test(start_paused = true)]
async fn exempt_networks_are_not_limited() {
    let app = app(limit_of("1/s").exempt("127.0.0.0/8, ::1"));
    for peer in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        assert_eq!(statuses(&app, [from(peer), from(peer)]).await, [200, 200], "{peer}");
    }
    assert_eq!(statuses(&app, [from("128.0.0.1:1"), from("128.0.0.1:1")]).await, [200, 429]);
}

#[tokio::test(start_paused = true)]
async fn a_report_refuses_nothing_and_counts_what_it_would_refuse() {
    let limit = limit_of("1/s").report_only();
    let app = app(limit.clone());
    assert_eq!(limit.refusals(), 0);
    for _ in 0..3 {
        let answer = send(&app, from("192.0.2.1:1")).await;
        assert_eq!((answer.status, answer.field("ratelimit")), (200, ""));
    }
    assert_eq!(limit.refusals(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_event_source_is_refused_in_a_way_that_lets_it_come_back() {
    let app = app(limit_of("1/min"));
    let request = || from("192.0.2.1:1").header("accept", "text/event-stream");
    assert_eq!(send(&app, request()).await.body, "hello");
    let refused = send(&app, request()).await;
    assert_eq!((refused.status, refused.field("content-type")), (200, "text/event-stream"));
    let retry_ms: u64 = refused.body.strip_prefix("retry: ").unwrap().strip_suffix("\n\n").unwrap().parse().unwrap();
    assert!((60_000..75_000).contains(&retry_ms), "{retry_ms}");
    assert_eq!(refused.field("ratelimit"), "\"default\";r=0;t=60");
}

#[tokio::test(start_paused = true)]
async fn a_limit_and_its_clones_count_together_and_a_changed_one_apart() {
    let limit = limit_of("2/s");
    let routes = Router::new().route("/a", get("a")).route("/b", get("b")).layer(limit.clone());
    let request = |path| from("192.0.2.1:1").uri(path);
    assert_eq!(statuses(&routes, [request("/a"), request("/b"), request("/a")]).await, [200, 200, 429]);
    assert_eq!(send(&app(limit.clone()), request("/")).await.status, 429);
    assert_eq!(limit.refusals(), 2);
    assert_eq!(send(&app(limit.clone().name("other")), request("/")).await.status, 200);
    assert_eq!(send(&app(limit_of("2/s")), request("/")).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn two_limits_on_a_route_both_say_what_is_left() {
    let app = Router::new()
        .route("/", get("hello").layer(limit_of("1/h").name("hourly")))
        .layer(limit_of("2/s").name("fast"));
    assert_eq!(send(&app, from("192.0.2.1:1")).await.status, 200);
    let refused = send(&app, from("192.0.2.1:1")).await;
    assert_eq!(refused.status, 429);
    let limits: Vec<_> = refused.headers.get_all("ratelimit").iter().map(|value| value.to_str().unwrap()).collect();
    assert_eq!(limits, ["\"hourly\";r=0;t=3600", "\"fast\";r=0;t=1"]);
}

#[tokio::test(start_paused = true)]
async fn a_limit_may_have_a_table_of_its_own_and_a_burst() {
    let table = Arc::new(Table::with_entries(8));
    let quota: Quota = "1/s".parse().unwrap();
    let app = app(RateLimit::from(quota).burst(3).table(Arc::clone(&table)));
    let request = || from("192.0.2.1:1");
    assert_eq!(statuses(&app, [request(), request(), request(), request()]).await, [200, 200, 200, 429]);
    for host in 1..=9 {
        send(&app, from(&format!("198.51.100.{host}:1"))).await;
    }
    assert!(table.evictions() > 0);
}

#[tokio::test]
async fn it_works_on_plain_axum_over_a_socket() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = app(limit_of("1/h")).into_make_service_with_connect_info::<SocketAddr>();
    let server = tokio::spawn(async move { axum::serve(listener, service).await });
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let close = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    stream.write_all(format!("{request}{close}").as_bytes()).await.unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    assert!(answers.starts_with("HTTP/1.1 200"), "{answers}");
    let (_, second) = answers.split_once("hello").unwrap();
    assert!(second.starts_with(&format!("HTTP/1.1 {}", StatusCode::TOO_MANY_REQUESTS)), "{answers}");
    server.abort();
}

fn panic_of(make: impl FnOnce() -> RateLimit + std::panic::UnwindSafe) -> String {
    *std::panic::catch_unwind(|| drop(make())).unwrap_err().downcast::<String>().unwrap()
}

#[test]
fn a_malformed_limit_says_what_is_allowed() {
    assert!(panic_of(|| RateLimit::new("10/day")).contains("`100/s`, or `1000/min`, or `10000/h`"));
    assert!(panic_of(|| RateLimit::new("0")).contains("at least 1 request"));
    assert!(panic_of(|| RateLimit::new("1/min").burst(61)).contains("at most 60"));
    assert!(panic_of(|| RateLimit::new("1/min").exempt("localhost")).contains("such as 10.0.0.0/8"));
}

#[tokio::test]
async fn limits_stack_in_any_order_and_a_refused_post_is_told_its_status() {
    let inner = tower::service_fn(async |_: Request<Body>| Ok::<_, Infallible>(Response::new(Body::empty())));
    let outer = limit_of("1/h").layer(ConcurrencyLimit::new(3).layer(inner));
    let mut app = ConcurrencyLimit::new(3).layer(limit_of("1000/h").layer(outer));
    let request = |method: &str| {
        let request = Request::builder().method(method).header("accept", "application/json, text/event-stream");
        let mut request = request.body(Body::empty()).unwrap();
        request.extensions_mut().insert(ClientIp("192.0.2.9".parse().unwrap()));
        request
    };
    let mut statuses = Vec::new();
    for method in ["POST", "POST", "GET"] {
        statuses.push(app.ready().await.unwrap().call(request(method)).await.unwrap().status().as_u16());
    }
    assert_eq!(statuses, [200, 429, 200], "an EventSource is told when to come back");
}
