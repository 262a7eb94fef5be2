//! `CORS_ORIGINS` and `SERVER_HEADER`: what answers say to browsers of other sites, and of themselves.

use http::StatusCode;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, SERVER, VARY,
};
use serde_json::json;

use crate::service::{Answer, Service};

const PAGE: &str = "https://app.example.org";
const OTHER: &str = "https://other.example.org";

/// What a browser asks before a page may make that request.
async fn ask_before(service: &Service, origin: &str, method: &str, path: &str) -> Answer {
    let fields = [
        ("origin", origin),
        ("access-control-request-method", method),
        ("access-control-request-headers", "authorization,content-type,idempotency-key,if-match"),
    ];
    service.ask_with("OPTIONS", path, &fields).await
}

async fn ask_from(service: &Service, origin: &str, path: &str) -> Answer {
    service.ask_with("GET", path, &[("origin", origin)]).await
}

/// The words of a list, in lower case.
fn words(list: &str) -> Vec<String> {
    list.split(',').map(|word| word.trim().to_ascii_lowercase()).collect()
}

fn assert_allows_nothing(answer: &Answer) {
    let allowing: Vec<_> =
        answer.headers.keys().filter(|name| name.as_str().starts_with("access-control-allow-origin")).collect();
    assert!(allowing.is_empty(), "{:?}", answer.headers);
}

#[tokio::test]
async fn by_default_no_other_site_is_allowed_anything() {
    let service = Service::anywhere(&[]).await;
    let before = ask_before(&service, PAGE, "POST", "/api/users").await;
    assert_eq!(before.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_allows_nothing(&before);
    let answer = ask_from(&service, PAGE, "/api/users").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_allows_nothing(&answer);
    assert_eq!(answer.header(VARY), "");
}

#[tokio::test]
async fn pages_of_the_origins_that_are_listed_may_call_the_api() {
    let list = format!("{PAGE}, http://localhost:5173");
    let service = Service::anywhere(&["--cors-origins", &list]).await;
    for origin in [PAGE, "http://localhost:5173"] {
        for (method, path) in [("POST", "/api/users"), ("PUT", "/api/users/1"), ("DELETE", "/api/users/1")] {
            let before = ask_before(&service, origin, method, path).await;
            assert!(before.status.is_success(), "{}", before.status);
            assert_eq!(before.header(ACCESS_CONTROL_ALLOW_ORIGIN), origin);
            assert!(words(before.header(ACCESS_CONTROL_ALLOW_METHODS)).contains(&method.to_ascii_lowercase()));
            let allowed = words(before.header(ACCESS_CONTROL_ALLOW_HEADERS));
            for field in ["authorization", "content-type", "idempotency-key", "if-match"] {
                assert!(allowed.contains(&field.to_owned()), "{allowed:?}");
            }
            assert_eq!(before.header(ACCESS_CONTROL_ALLOW_CREDENTIALS), "", "cookies are never involved");
        }
        let answer = ask_from(&service, origin, "/api/users").await;
        assert_eq!((answer.status, answer.header(ACCESS_CONTROL_ALLOW_ORIGIN)), (StatusCode::OK, origin));
        let exposed = words(answer.header(ACCESS_CONTROL_EXPOSE_HEADERS));
        for field in ["etag", "location", "retry-after", "ratelimit", "ratelimit-policy"] {
            assert!(exposed.contains(&field.to_owned()), "{exposed:?}");
        }
        assert!(words(answer.header(VARY)).contains(&"origin".to_owned()), "caches keep origins apart");
    }
}

#[tokio::test]
async fn pages_of_other_origins_may_not() {
    let service = Service::anywhere(&["--cors-origins", PAGE]).await;
    for origin in
        [OTHER, "null", "https://app.example.org.evil.test", "http://app.example.org", "https://app.example.or"]
    {
        assert_allows_nothing(&ask_before(&service, origin, "POST", "/api/users").await);
        assert_allows_nothing(&ask_from(&service, origin, "/api/users").await);
    }
    // What is refused says who may read it as well: a page shows its reader what is wrong.
    let refused = ask_from(&service, PAGE, "/api/users/7").await;
    refused.problem(StatusCode::NOT_FOUND);
    assert_eq!(refused.header(ACCESS_CONTROL_ALLOW_ORIGIN), PAGE);
}

#[tokio::test]
async fn with_an_asterisk_every_page_may() {
    let service = Service::anywhere(&["--cors-origins", "*"]).await;
    for origin in [PAGE, OTHER, "null"] {
        let before = ask_before(&service, origin, "PUT", "/api/users/1").await;
        assert_eq!((before.status.is_success(), before.header(ACCESS_CONTROL_ALLOW_ORIGIN)), (true, "*"));
        assert_eq!(ask_from(&service, origin, "/api/users").await.header(ACCESS_CONTROL_ALLOW_ORIGIN), "*");
    }
}

#[tokio::test]
async fn the_token_is_demanded_of_pages_as_well_and_not_before_they_may_ask() {
    let service = Service::anywhere(&["--cors-origins", PAGE, "--api-token", "0123456789abcdef"]).await;
    assert!(ask_before(&service, PAGE, "POST", "/api/users").await.status.is_success());
    let refused = service.send("POST", "/api/users", &[("origin", PAGE)], &json!({"name": "a"})).await;
    refused.problem(StatusCode::UNAUTHORIZED);
    assert_eq!(refused.header(ACCESS_CONTROL_ALLOW_ORIGIN), PAGE);
}

/// One of each kind of answer.
const ASKED: [(&str, &str, u16); 9] = [
    ("GET", "/", 200),
    ("GET", "/docs", 200),
    ("GET", "/openapi.json", 200),
    ("GET", "/health", 200),
    ("GET", "/api/users", 200),
    ("HEAD", "/api/users", 200),
    ("GET", "/nope", 404),
    ("POST", "/api/users", 415),
    ("PUT", "/health", 405),
];

#[tokio::test]
async fn by_default_no_answer_says_what_serves_it() {
    let service = Service::anywhere(&[]).await;
    for (method, path, status) in ASKED {
        let answer = service.method(method, path).await;
        assert_eq!(answer.status, status, "{method} {path}");
        for name in ["server", "x-powered-by", "via"] {
            assert!(!answer.headers.contains_key(name), "{method} {path}: {:?}", answer.headers);
        }
    }
}

#[tokio::test]
async fn every_answer_says_what_it_is_told_to() {
    let service = Service::anywhere(&["--server-header", "our own"]).await;
    for (method, path, status) in ASKED {
        let answer = service.method(method, path).await;
        assert_eq!((answer.status.as_u16(), answer.header(SERVER)), (status, "our own"), "{method} {path}");
    }
}
