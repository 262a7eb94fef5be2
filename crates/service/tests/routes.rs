//! Every route and every status of the API, asked through the router, with a real database behind it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use baiwan_service::clock::Uptime;
use baiwan_service::routes::{Core, ENDPOINTS, JSON_BODY_MAX, Probe, router};
use baiwan_service::store::Store;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

/// What the engine would say, under the test's control.
struct Switches {
    live: AtomicBool,
    ready: AtomicBool,
}

impl Probe for Switches {
    fn is_live(&self) -> bool {
        self.live.load(Ordering::Relaxed)
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}

struct Service {
    directory: TempDir,
    store: Option<Store>,
    switches: Arc<Switches>,
    router: Router,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    async fn read(response: Response) -> Self {
        let (head, body) = response.into_parts();
        Self { status: head.status, headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    fn header(&self, name: impl http::header::AsHeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Checks that this is a problem document of the status, and returns the fields at fault.
    fn problem(&self, status: StatusCode) -> Vec<String> {
        assert_eq!(self.status, status, "{:?}", self.body);
        assert_eq!(self.header(CONTENT_TYPE), "application/problem+json");
        let document = self.json();
        assert_eq!(document["type"], "about:blank");
        assert_eq!(document["status"], status.as_u16());
        assert_eq!(document["title"], status.canonical_reason().unwrap());
        assert!(document["detail"].as_str().is_some_and(|detail| detail.ends_with('.')), "{document}");
        let errors = document.get("errors").and_then(Value::as_array).cloned().unwrap_or_default();
        errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
    }
}

impl Service {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("a.db")).unwrap();
        let switches = Arc::new(Switches { live: true.into(), ready: true.into() });
        let core = Core { store: store.for_core(), probe: Arc::<Switches>::clone(&switches), uptime: Uptime::start() };
        Self { directory, store: Some(store), switches, router: router(core) }
    }

    async fn ask(&self, request: Request<Body>) -> Answer {
        Answer::read(self.router.clone().oneshot(request).await.unwrap()).await
    }

    async fn method(&self, method: &str, path: &str) -> Answer {
        self.ask(Request::builder().method(method).uri(path).body(Body::empty()).unwrap()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.method("GET", path).await
    }

    async fn post(&self, media_type: &str, body: impl Into<Body>) -> Answer {
        let request = Request::post("/api/users").header(CONTENT_TYPE, media_type).body(body.into()).unwrap();
        self.ask(request).await
    }

    async fn post_user(&self, user: &Value) -> Answer {
        self.post("application/json", user.to_string()).await
    }
}

#[tokio::test]
async fn a_created_user_is_where_location_says() {
    let service = Service::start();
    let created = service.post_user(&json!({"name": "Ada Lovelace 百万", "email": "ada@example.org"})).await;
    assert_eq!(created.status, StatusCode::CREATED);
    assert_eq!(created.header(CONTENT_TYPE), "application/json");
    let user = created.json();
    assert_eq!(user["name"], "Ada Lovelace 百万");
    assert_eq!(user["email"], "ada@example.org");
    assert!(user["created_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(created.header(LOCATION), format!("/api/users/{}", user["id"]));
    let shown = service.get(created.header(LOCATION)).await;
    assert_eq!((shown.status, shown.json()), (StatusCode::OK, user.clone()));
    let listed = service.get("/api/users").await;
    assert_eq!((listed.status, listed.json()), (StatusCode::OK, json!({"users": [user], "next": null})));
}

#[tokio::test]
async fn right_users_are_stored() {
    let service = Service::start();
    for (n, (media_type, user)) in [
        ("application/json", json!({"name": "a", "email": null})),
        ("application/json; charset=utf-8", json!({"name": "é".repeat(200)})),
        ("application/vnd.user+json", json!({"name": " spaces stay "})),
        ("application/json", json!({"name": "b", "email": "x@y"})),
    ]
    .into_iter()
    .enumerate()
    {
        let created = service.post(media_type, user.to_string()).await;
        assert_eq!(created.status, StatusCode::CREATED, "{n}: {:?}", created.body);
        assert_eq!(created.json()["name"], user["name"]);
        assert_eq!(created.json()["email"], user.get("email").cloned().unwrap_or_default());
    }
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_repetition() {
    let service = Service::start();
    for n in 0..25 {
        assert_eq!(service.post_user(&json!({"name": format!("user {n}")})).await.status, StatusCode::CREATED);
    }
    let page = service.get("/api/users").await.json();
    assert_eq!(page["users"].as_array().unwrap().len(), 20, "the default");
    let (mut names, mut path) = (Vec::new(), "/api/users?limit=10".to_owned());
    for length in [10, 10, 5] {
        let page = service.get(&path).await.json();
        let users = page["users"].as_array().unwrap().clone();
        assert_eq!(users.len(), length);
        names.extend(users.iter().map(|user| user["name"].as_str().unwrap().to_owned()));
        let next = page["next"].as_str().map(str::to_owned);
        assert_eq!(next.is_some(), length == 10);
        path = format!("/api/users?limit=10&after={}", next.unwrap_or_default());
    }
    assert_eq!(names, (0..25).map(|n| format!("user {n}")).collect::<Vec<_>>());
    // A page that ends with the last user is the last page.
    assert_eq!(service.get("/api/users?limit=25").await.json()["next"], Value::Null);
}

#[tokio::test]
async fn a_wrong_query_is_400_and_names_the_parameter() {
    let service = Service::start();
    for (query, field) in
        [("limit=0", "limit"), ("limit=101", "limit"), ("after=x", "after"), ("limit=1&limit=2", "limit")]
    {
        let answer = service.get(&format!("/api/users?{query}")).await;
        assert_eq!(answer.problem(StatusCode::BAD_REQUEST), [field], "{query}");
    }
}

#[tokio::test]
async fn malformed_json_is_400() {
    let service = Service::start();
    let deep = "[".repeat(100_000);
    let deep_member = format!("{{\"name\":{}", "[".repeat(100_000));
    for body in
        ["", "{", "nope", "{\"name\":\"a\"} trailing", "{\"name\":\"\\ud800\"}", "{\"name\":1e999}", &*deep_member]
    {
        let answer = service.post("application/json", body.to_owned()).await;
        assert!(answer.problem(StatusCode::BAD_REQUEST).is_empty(), "{:.40}", body);
    }
    let invalid_utf8 = service.post("application/json", &b"{\"name\":\"\xff\"}"[..]).await;
    assert!(invalid_utf8.problem(StatusCode::BAD_REQUEST).is_empty());
    // No object, whatever its depth: refused at its first byte.
    service.post("application/json", deep).await.problem(StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn another_content_type_is_415() {
    let service = Service::start();
    let body = json!({"name": "a"}).to_string();
    for media_type in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16"] {
        service.post(media_type, body.clone()).await.problem(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let none = Request::post("/api/users").body(Body::from(body.clone())).unwrap();
    service.ask(none).await.problem(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let packed =
        Request::post("/api/users").header(CONTENT_TYPE, "application/json").header("content-encoding", "gzip");
    service.ask(packed.body(Body::from(body)).unwrap()).await.problem(StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn wrong_fields_are_422_and_named() {
    let service = Service::start();
    let cases = [
        (json!({}), vec!["name"]),
        (json!({"name": null}), vec!["name"]),
        (json!({"name": 5}), vec!["name"]),
        (json!({"name": ""}), vec!["name"]),
        (json!({"name": "x".repeat(201)}), vec!["name"]),
        (json!({"name": "a\nb"}), vec!["name"]),
        (json!({"name": "a\u{0}"}), vec!["name"]),
        (json!({"name": "a", "email": 5}), vec!["email"]),
        (json!({"name": "a", "email": "none"}), vec!["email"]),
        (json!({"name": "a", "email": "a@b@c"}), vec!["email"]),
        (json!({"name": "a", "email": "@b"}), vec!["email"]),
        (json!({"name": "a", "email": "a b@c"}), vec!["email"]),
        (json!({"name": "a", "email": format!("{}@b", "x".repeat(253))}), vec!["email"]),
        (json!({"name": "a", "admin": true}), vec!["admin"]),
        (json!({"email": 1, "id": 2}), vec!["email", "id", "name"]),
    ];
    for (user, fields) in cases {
        let mut named = service.post_user(&user).await.problem(StatusCode::UNPROCESSABLE_ENTITY);
        named.sort();
        assert_eq!(named, fields, "{user}");
    }
    let twice = service.post("application/json", r#"{"name":"a","name":"b"}"#).await;
    assert_eq!(twice.problem(StatusCode::UNPROCESSABLE_ENTITY), ["name"]);
    for no_object in ["[]", "null", "\"name\"", "7"] {
        let answer = service.post("application/json", no_object).await;
        assert!(answer.problem(StatusCode::UNPROCESSABLE_ENTITY).is_empty());
    }
    assert_eq!(service.get("/api/users").await.json()["users"], json!([]), "nothing of this was stored");
}

#[tokio::test]
async fn a_long_wrong_body_gets_a_short_answer() {
    let service = Service::start();
    let members: serde_json::Map<String, Value> =
        (0..10_000).map(|n| (format!("{n}{}", "x".repeat(80)), 1.into())).collect();
    let answer = service.post_user(&members.into()).await;
    assert_eq!(answer.problem(StatusCode::UNPROCESSABLE_ENTITY).len(), 8);
    assert!(answer.body.len() < 4096, "{} bytes", answer.body.len());
}

#[tokio::test]
async fn over_one_mebibyte_is_413_announced_or_not() {
    let service = Service::start();
    let text = "x".repeat(JSON_BODY_MAX);
    service.post("application/json", text.clone() + "x").await.problem(StatusCode::PAYLOAD_TOO_LARGE);
    let (sender, receiver) = tokio::sync::mpsc::channel(JSON_BODY_MAX / 1024 + 1);
    for _ in 0..=JSON_BODY_MAX / 1024 {
        sender.try_send(Bytes::from(vec![b'x'; 1024])).unwrap();
    }
    let chunked = Body::new(Channel(receiver));
    service.post("application/json", chunked).await.problem(StatusCode::PAYLOAD_TOO_LARGE);
    // Exactly the limit is read, and then found to be no JSON.
    service.post("application/json", text).await.problem(StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_taken_name_is_409() {
    let service = Service::start();
    assert_eq!(service.post_user(&json!({"name": "Ada"})).await.status, StatusCode::CREATED);
    assert_eq!(service.post_user(&json!({"name": "Ada"})).await.problem(StatusCode::CONFLICT), ["name"]);
    assert_eq!(service.post_user(&json!({"name": "ada"})).await.status, StatusCode::CREATED, "case counts");
}

#[tokio::test]
async fn a_store_that_cannot_write_is_503_with_retry_after_and_recovers() {
    let service = Service::start();
    let other = Connection::open(service.directory.path().join("a.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let answer = service.post_user(&json!({"name": "Ada"})).await;
    assert!(answer.problem(StatusCode::SERVICE_UNAVAILABLE).is_empty());
    assert_eq!(answer.header(RETRY_AFTER), "1");
    assert_eq!(service.get("/api/users").await.status, StatusCode::OK, "reads go on");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(service.post_user(&json!({"name": "Ada"})).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn unknown_paths_are_404() {
    let service = Service::start();
    for path in
        ["/nope", "/api", "/api/users/", "/api/users/7", "/api/users/x", "/api/users/%ff", "/api/users/+1", "/health/"]
    {
        assert!(service.get(path).await.problem(StatusCode::NOT_FOUND).is_empty(), "{path}");
    }
    service.method("POST", "/nope").await.problem(StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn other_methods_are_405_with_allow() {
    let service = Service::start();
    for (method, path, allowed) in [
        ("DELETE", "/", "GET,HEAD"),
        ("PUT", "/api/users", "GET,HEAD,POST"),
        ("GET", "/echo", "POST"),
        ("HEAD", "/echo", "POST"),
        ("POST", "/health", "GET,HEAD"),
        ("DELETE", "/api/users/1", "GET,HEAD"),
    ] {
        let answer = service.method(method, path).await;
        assert_eq!(answer.header(ALLOW), allowed, "{method} {path}");
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
        if method != "HEAD" {
            answer.problem(StatusCode::METHOD_NOT_ALLOWED);
        }
    }
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let service = Service::start();
    for path in ["/", "/health/live", "/health/ready", "/api/users"] {
        let (get, head) = (service.get(path).await, service.method("HEAD", path).await);
        assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0), "{path}");
        assert_eq!(head.header(CONTENT_TYPE), get.header(CONTENT_TYPE));
        assert_eq!(head.header(CONTENT_LENGTH), get.body.len().to_string());
    }
    assert_eq!(service.method("HEAD", "/health").await.status, StatusCode::OK);
}

#[tokio::test]
async fn health_names_the_check_that_fails() {
    let mut service = Service::start();
    let answer = service.get("/health").await;
    assert_eq!(answer.status, StatusCode::OK);
    let body = answer.json();
    assert_eq!(body["status"], "healthy");
    assert_eq!(body["checks"], json!({"server": "ok", "store": "ok"}));
    assert!(body["uptime_seconds"].is_u64());
    assert!(body["timestamp"].as_str().unwrap().ends_with('Z'));
    service.switches.live.store(false, Ordering::Relaxed);
    let answer = service.get("/health").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.json()["checks"], json!({"server": "failed", "store": "ok"}));
    service.switches.live.store(true, Ordering::Relaxed);
    let store = service.store.take().unwrap();
    tokio::task::spawn_blocking(move || store.close()).await.unwrap();
    let answer = service.get("/health").await;
    assert_eq!((answer.status, &answer.json()["status"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("unhealthy")));
    assert_eq!(answer.json()["checks"], json!({"server": "ok", "store": "failed"}));
}

#[tokio::test]
async fn live_and_ready_follow_the_engine() {
    let service = Service::start();
    assert_eq!(service.get("/health/live").await.json(), json!({"status": "live"}));
    assert_eq!(service.get("/health/ready").await.json(), json!({"status": "ready"}));
    service.switches.ready.store(false, Ordering::Relaxed);
    assert_eq!(service.get("/health/live").await.status, StatusCode::OK);
    assert_eq!(service.get("/health/ready").await.status, StatusCode::SERVICE_UNAVAILABLE);
    service.switches.live.store(false, Ordering::Relaxed);
    assert_eq!(service.get("/health/live").await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn the_front_page_lists_only_what_exists() {
    let service = Service::start();
    let page = service.get("/").await;
    assert_eq!(page.header(CONTENT_TYPE), "text/html; charset=utf-8");
    let html = std::str::from_utf8(&page.body).unwrap();
    assert!(html.contains("prefers-color-scheme: dark") && html.contains("width=device-width"));
    assert!(!html.contains("{{"), "every placeholder is filled in");
    assert!(!html.contains("src=") && !html.contains("<script"), "self-contained");
    assert_eq!(html.matches("<li>").count(), ENDPOINTS.len());
    assert_eq!(service.post_user(&json!({"name": "Ada"})).await.status, StatusCode::CREATED);
    for endpoint in ENDPOINTS {
        assert!(html.contains(endpoint.path), "{endpoint:?}");
        let answer = service.method(endpoint.method, &endpoint.path.replace("{id}", "1")).await;
        let status = answer.status;
        assert!(status != StatusCode::NOT_FOUND && status != StatusCode::METHOD_NOT_ALLOWED, "{endpoint:?}: {status}");
    }
}

#[tokio::test]
async fn echo_answers_with_the_text() {
    let service = Service::start();
    for text in ["", "hello", "百万\r\n\0"] {
        let answer = service.ask(Request::post("/echo").body(Body::from(text)).unwrap()).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header(CONTENT_TYPE), "text/plain; charset=utf-8");
        assert_eq!(answer.header(CONTENT_LENGTH), (text.len() + 6).to_string());
        assert_eq!(answer.body, format!("Echo: {text}"));
    }
}

#[tokio::test]
async fn echo_answers_before_the_text_has_ended() {
    let service = Service::start();
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    let request = Request::post("/echo").body(Body::new(Channel(receiver))).unwrap();
    sender.send(Bytes::from("one")).await.unwrap();
    let mut body = service.router.clone().oneshot(request).await.unwrap().into_body();
    for (sent, expected) in [("", "Echo: "), ("", "one"), ("two", "two")] {
        if !sent.is_empty() {
            sender.send(Bytes::from(sent)).await.unwrap();
        }
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(frame, expected);
    }
    // Nothing is asked for ahead: one text fits into the channel, the next has to wait for a reader.
    sender.send(Bytes::from("three")).await.unwrap();
    assert!(sender.try_send(Bytes::from("four")).is_err());
    drop(sender);
    assert_eq!(body.collect().await.unwrap().to_bytes(), "three");
}

/// A body that is fed by the test.
struct Channel(tokio::sync::mpsc::Receiver<Bytes>);

impl http_body::Body for Channel {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        self.0.poll_recv(cx).map(|data| data.map(|data| Ok(http_body::Frame::data(data))))
    }
}
