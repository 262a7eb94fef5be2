//! `API_TOKEN`: who changes users must have it, and learns nothing from being refused.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http::StatusCode;
use http::header::WWW_AUTHENTICATE;
use http_body::Frame;
use serde_json::json;

use crate::service::{Answer, Service, request};

const TOKEN: &str = "correct-horse-battery-staple";
const SETTING: [&str; 2] = ["--api-token", TOKEN];

/// Everything that changes users. User 1 exists, 99 does not, and x is no id.
const CHANGES: [(&str, &str); 7] = [
    ("POST", "/api/users"),
    ("PUT", "/api/users/1"),
    ("PUT", "/api/users/99"),
    ("DELETE", "/api/users/1"),
    ("DELETE", "/api/users/99"),
    ("PUT", "/api/users/x"),
    ("DELETE", "/api/users/x"),
];

/// A body that must not be read.
struct Untouchable;

impl http_body::Body for Untouchable {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        panic!("the body of a request without the token was read")
    }
}

async fn with_a_user() -> Service {
    let service = Service::anywhere(&SETTING).await;
    let fields = [("authorization", &*format!("Bearer {TOKEN}"))];
    let created = service.send("POST", "/api/users", &fields, &json!({"name": "first"})).await;
    assert_eq!(created.status, StatusCode::CREATED, "{:?}", created.body);
    service
}

async fn refused(service: &Service, method: &str, path: &str, credentials: &[&str]) -> Answer {
    let mut fields = vec![("content-type", "application/json")];
    fields.extend(credentials.iter().map(|value| ("authorization", *value)));
    let answer = service.ask(request(method, path, &fields, Body::new(Untouchable))).await;
    assert!(answer.problem(StatusCode::UNAUTHORIZED).is_empty(), "{credentials:?}");
    assert!(answer.header(WWW_AUTHENTICATE).starts_with("Bearer "), "{:?}", answer.headers);
    answer
}

#[tokio::test]
async fn with_the_token_everything_works() {
    let service = with_a_user().await;
    for (n, scheme) in ["Bearer", "bearer", "BEARER"].into_iter().enumerate() {
        let credentials = format!("{scheme} {TOKEN}");
        let fields = [("authorization", &*credentials)];
        let created = service.send("POST", "/api/users", &fields, &json!({"name": format!("user {n}")})).await;
        assert_eq!(created.status, StatusCode::CREATED, "{:?}", created.body);
        let path = created.header("location").to_owned();
        assert_eq!(service.send("PUT", &path, &fields, &json!({"name": "new"})).await.status, StatusCode::OK);
        assert_eq!(service.ask_with("DELETE", &path, &fields).await.status, StatusCode::NO_CONTENT);
    }
}

#[tokio::test]
async fn without_the_token_no_change_is_made_and_no_body_is_read() {
    let service = with_a_user().await;
    for (method, path) in CHANGES {
        refused(&service, method, path, &[]).await;
    }
    assert_eq!(service.names().await, ["first"]);
}

#[tokio::test]
async fn reading_needs_no_token() {
    let service = with_a_user().await;
    for path in ["/", "/docs", "/openapi.json", "/health", "/health/live", "/api/users", "/api/users/1"] {
        assert_eq!(service.get(path).await.status, StatusCode::OK, "{path}");
        let wrong = [("authorization", "Bearer another-token-than-that")];
        assert_eq!(service.ask_with("GET", path, &wrong).await.status, StatusCode::OK, "{path}");
    }
    assert_eq!(service.ask(request("POST", "/echo", &[], "hello".into())).await.body, "Echo: hello");
}

#[tokio::test]
async fn row_64_every_wrong_token_is_refused_with_the_same_bytes() {
    let service = with_a_user().await;
    let right = format!("Bearer {TOKEN}");
    let flipped: String = TOKEN.chars().map(|letter| if letter == 'c' { 'C' } else { letter }).collect();
    let given: Vec<String> = (0..TOKEN.len())
        .map(|length| format!("Bearer {}", &TOKEN[..length]))
        .chain([
            format!("{right}="),
            format!("{right} {TOKEN}"),
            format!("{right},{TOKEN}"),
            format!("Bearer x{TOKEN}"),
            format!("Bearer \"{TOKEN}\""),
            format!("Bearer {flipped}"),
            format!("Bearer {}", TOKEN.to_uppercase()),
            format!("Bearer {}", "x".repeat(TOKEN.len())),
            format!("Bearer {}", "x".repeat(8_000)),
        ])
        .collect();
    let schemes = [
        "Basic Y29ycmVjdDpob3JzZQ==".to_owned(),
        format!("Token {TOKEN}"),
        TOKEN.to_owned(),
        format!("Bearer{TOKEN}"),
        String::new(),
    ];
    for (method, path) in CHANGES {
        let expected = refused(&service, method, path, &["Bearer another-token-than-that"]).await;
        for credentials in &given {
            assert_same(&refused(&service, method, path, &[credentials.as_str()]).await, &expected, credentials);
        }
        assert_same(&refused(&service, method, path, &[&*right, &*right]).await, &expected, "given twice");
        // Who brings nothing of the kind is told what is missing: the same, whatever else he brings.
        let nothing = refused(&service, method, path, &[]).await;
        for credentials in &schemes {
            assert_same(&refused(&service, method, path, &[credentials.as_str()]).await, &nothing, credentials);
        }
    }
    // Nor does it say what is there.
    let first = refused(&service, CHANGES[0].0, CHANGES[0].1, &["Bearer another-token-than-that"]).await;
    for (method, path) in CHANGES {
        let answer = refused(&service, method, path, &["Bearer another-token-than-that"]).await;
        assert_same(&answer, &first, path);
    }
    assert_eq!(service.names().await, ["first"]);
}

fn assert_same(one: &Answer, other: &Answer, why: &str) {
    assert_eq!((one.status, &one.headers, &one.body), (other.status, &other.headers, &other.body), "{why}");
    assert!(!String::from_utf8_lossy(&one.body).contains(TOKEN) && !format!("{:?}", one.headers).contains(TOKEN));
}

#[tokio::test]
async fn without_the_setting_everybody_may_change_users() {
    let service = Service::anywhere(&[]).await;
    let path = service.create("a").await;
    let fields = [("authorization", "Bearer whatever")];
    assert_eq!(service.send("PUT", &path, &fields, &json!({"name": "b"})).await.status, StatusCode::OK);
    assert_eq!(service.method("DELETE", &path).await.status, StatusCode::NO_CONTENT);
}
