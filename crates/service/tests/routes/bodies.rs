//! What is sent to be stored is read in the order of type, size, syntax and content, and what is wrong is named.

use axum::body::Body;
use baiwan_service::routes::JSON_BODY_MAX;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use crate::service::{Answer, Channel, Service, request};

/// The two requests that bring a user: where it is to go, and the status if it is right.
const WAYS: [(&str, &str, StatusCode); 2] =
    [("POST", "/api/users", StatusCode::CREATED), ("PUT", "/api/users/1", StatusCode::OK)];

/// A service with one user, and a way to send it something both ways.
async fn with_a_user() -> Service {
    let service = Service::anywhere(&[]).await;
    assert_eq!(service.create("first").await, "/api/users/1");
    service
}

async fn both(service: &Service, media_type: &str, body: impl Into<Bytes>) -> [Answer; 2] {
    let body = body.into();
    let send = async |(method, path, _): (&str, &str, StatusCode)| {
        service.ask(request(method, path, &[("content-type", media_type)], body.clone().into())).await
    };
    [send(WAYS[0]).await, send(WAYS[1]).await]
}

#[tokio::test]
async fn malformed_json_is_400() {
    let service = with_a_user().await;
    let deep = "[".repeat(100_000);
    let deep_member = format!("{{\"name\":{}", "[".repeat(100_000));
    for body in
        ["", "{", "nope", "{\"name\":\"a\"} trailing", "{\"name\":\"\\ud800\"}", "{\"name\":1e999}", &*deep_member]
    {
        for answer in both(&service, "application/json", body.to_owned()).await {
            assert!(answer.problem(StatusCode::BAD_REQUEST).is_empty(), "{body:.40}");
        }
    }
    for answer in both(&service, "application/json", &b"{\"name\":\"\xff\"}"[..]).await {
        assert!(answer.problem(StatusCode::BAD_REQUEST).is_empty(), "invalid UTF-8");
    }
    // No object, whatever its depth: refused at its first byte.
    for answer in both(&service, "application/json", deep).await {
        answer.problem(StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_eq!(service.names().await, ["first"]);
}

#[tokio::test]
async fn another_content_type_is_415() {
    let service = with_a_user().await;
    let body = json!({"name": "a"}).to_string();
    for media_type in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16"] {
        for answer in both(&service, media_type, body.clone()).await {
            answer.problem(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
    }
    for (method, path, _) in WAYS {
        let none = request(method, path, &[], body.clone().into());
        service.ask(none).await.problem(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let fields = [("content-type", "application/json"), ("content-encoding", "gzip")];
        let packed = request(method, path, &fields, body.clone().into());
        service.ask(packed).await.problem(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    assert_eq!(service.names().await, ["first"]);
}

#[tokio::test]
async fn wrong_fields_are_422_and_named() {
    let service = with_a_user().await;
    let cases = [
        (json!({}), vec!["name"]),
        (json!({"name": null}), vec!["name"]),
        (json!({"name": 5}), vec!["name"]),
        (json!({"name": ""}), vec!["name"]),
        (json!({"name": " \u{3000} "}), vec!["name"]),
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
        (json!({"name": "a", "version": 7, "created_at": "2026-11-22T10:15:00.123Z"}), vec!["created_at", "version"]),
        (json!({"email": 1, "id": 2}), vec!["email", "id", "name"]),
    ];
    for (user, fields) in cases {
        for answer in both(&service, "application/json", user.to_string()).await {
            let mut named = answer.problem(StatusCode::UNPROCESSABLE_ENTITY);
            named.sort();
            assert_eq!(named, fields, "{user}");
        }
    }
    for answer in both(&service, "application/json", r#"{"name":"a","name":"b"}"#).await {
        assert_eq!(answer.problem(StatusCode::UNPROCESSABLE_ENTITY), ["name"], "given twice");
    }
    for no_object in ["[]", "null", "\"name\"", "7"] {
        for answer in both(&service, "application/json", no_object).await {
            assert!(answer.problem(StatusCode::UNPROCESSABLE_ENTITY).is_empty());
        }
    }
    assert_eq!(service.names().await, ["first"], "nothing of this was stored");
}

#[tokio::test]
async fn a_long_wrong_body_gets_a_short_answer() {
    let service = with_a_user().await;
    let members: serde_json::Map<String, Value> =
        (0..10_000).map(|n| (format!("{n}{}", "x".repeat(80)), 1.into())).collect();
    for answer in both(&service, "application/json", Value::from(members).to_string()).await {
        assert_eq!(answer.problem(StatusCode::UNPROCESSABLE_ENTITY).len(), 8);
        assert!(answer.body.len() < 4096, "{} bytes", answer.body.len());
    }
}

#[tokio::test]
async fn over_one_mebibyte_is_413_announced_or_not() {
    let service = with_a_user().await;
    let text = "x".repeat(JSON_BODY_MAX);
    for answer in both(&service, "application/json", text.clone() + "x").await {
        answer.problem(StatusCode::PAYLOAD_TOO_LARGE);
    }
    for (method, path, _) in WAYS {
        let (sender, receiver) = tokio::sync::mpsc::channel(JSON_BODY_MAX / 1024 + 1);
        for _ in 0..=JSON_BODY_MAX / 1024 {
            sender.try_send(Bytes::from(vec![b'x'; 1024])).unwrap();
        }
        let chunked = request(method, path, &[("content-type", "application/json")], Body::new(Channel(receiver)));
        service.ask(chunked).await.problem(StatusCode::PAYLOAD_TOO_LARGE);
    }
    // Exactly the limit is read, and then found to be no JSON.
    for answer in both(&service, "application/json", text).await {
        answer.problem(StatusCode::BAD_REQUEST);
    }
}

#[tokio::test]
async fn a_right_body_is_taken_both_ways() {
    let service = with_a_user().await;
    for (n, (method, path, status)) in WAYS.into_iter().enumerate() {
        let answer = service.send(method, path, &[], &json!({"name": format!("new {n}"), "email": "x@y"})).await;
        assert_eq!(answer.status, status, "{:?}", answer.body);
        assert_eq!(answer.json()["name"], format!("new {n}"));
    }
}
