//! The router with a store behind it, as a test asks it, and the answers it gives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use baiwan_service::clock::Uptime;
use baiwan_service::routes::{HandlerState, Policy, Probe, router};
use baiwan_service::store::Store;
use bytes::Bytes;
use http::header::{AsHeaderName, CONTENT_TYPE, ETAG};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::stores::{Place, options, settings};

/// Looks at whether a store has its connections, and the time between two.
const LOOKS_MAX: usize = 1_000;
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// What the engine would say, under the test's control.
pub(crate) struct Switches {
    pub(crate) live: AtomicBool,
    pub(crate) ready: AtomicBool,
}

impl Probe for Switches {
    fn is_live(&self) -> bool {
        self.live.load(Ordering::Relaxed)
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}

pub(crate) struct Service {
    pub(crate) place: Place,
    pub(crate) switches: Arc<Switches>,
    pub(crate) router: Router,
    store: Option<Store>,
}

impl Service {
    pub(crate) async fn at(place: Place) -> Self {
        Self::with(place, &[]).await
    }

    /// For what no store matters to.
    pub(crate) async fn anywhere(flags: &[&str]) -> Self {
        Self::with(Place::sqlite(), flags).await
    }

    /// With these flags of `baiwan serve`.
    pub(crate) async fn with(place: Place, flags: &[&str]) -> Self {
        let store = Store::open(&place.location(), &options(1)).await.unwrap();
        let switches = Arc::new(Switches { live: true.into(), ready: true.into() });
        let core = HandlerState {
            store: Arc::new(store.for_core(0)),
            probe: Arc::<Switches>::clone(&switches),
            uptime: Uptime::start(),
            policy: Arc::new(Policy::from(&settings(flags))),
        };
        core.store.open();
        let service = Self { place, switches, router: router(core), store: Some(store) };
        service.wait_for_the_store().await;
        service
    }

    /// A connection to a server takes a moment.
    async fn wait_for_the_store(&self) {
        for _ in 0..LOOKS_MAX {
            if self.get("/health").await.status == StatusCode::OK {
                return;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        panic!("the store does not answer");
    }

    /// From now on it has no store.
    pub(crate) async fn close_the_store(&mut self) {
        let store = self.store.take().unwrap();
        tokio::task::spawn_blocking(move || store.close()).await.unwrap();
    }

    pub(crate) async fn ask(&self, request: Request<Body>) -> Answer {
        Answer::read(self.router.clone().oneshot(request).await.unwrap()).await
    }

    /// Asks with fields and without a body.
    pub(crate) async fn ask_with(&self, method: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.ask(request(method, path, fields, Body::empty())).await
    }

    pub(crate) async fn method(&self, method: &str, path: &str) -> Answer {
        self.ask_with(method, path, &[]).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.method("GET", path).await
    }

    /// Sends a user, or what should be one, with more fields.
    pub(crate) async fn send(&self, method: &str, path: &str, fields: &[(&str, &str)], user: &Value) -> Answer {
        let fields: Vec<_> = fields.iter().copied().chain([("content-type", "application/json")]).collect();
        self.ask(request(method, path, &fields, user.to_string().into())).await
    }

    pub(crate) async fn post(&self, media_type: &str, body: impl Into<Body>) -> Answer {
        self.ask(request("POST", "/api/users", &[("content-type", media_type)], body.into())).await
    }

    pub(crate) async fn post_user(&self, user: &Value) -> Answer {
        self.send("POST", "/api/users", &[], user).await
    }

    /// Stores a user of that name; its path.
    pub(crate) async fn create(&self, name: &str) -> String {
        let created = self.post_user(&json!({"name": name})).await;
        assert_eq!(created.status, StatusCode::CREATED, "{:?}", created.body);
        created.header("location").to_owned()
    }

    /// The names on the first page.
    pub(crate) async fn names(&self) -> Vec<String> {
        let page = self.get("/api/users?limit=100").await.json();
        page["users"].as_array().unwrap().iter().map(|user| user["name"].as_str().unwrap().to_owned()).collect()
    }
}

pub(crate) fn request(method: &str, path: &str, fields: &[(&str, &str)], body: Body) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(body).unwrap()
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) async fn read(response: Response) -> Self {
        let (head, body) = response.into_parts();
        Self { status: head.status, headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// The value of a field, or nothing.
    pub(crate) fn header(&self, name: impl AsHeaderName) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn etag(&self) -> &str {
        let etag = self.header(ETAG);
        assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 2, "a strong tag: {etag}");
        etag
    }

    /// Checks that this is a problem document of the status, and returns the fields at fault.
    pub(crate) fn problem(&self, status: StatusCode) -> Vec<String> {
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

/// A body that is fed by the test.
pub(crate) struct Channel(pub(crate) tokio::sync::mpsc::Receiver<Bytes>);

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
