//! What an answer never says: how the inside is made, where things are, and what went wrong there.

use http::StatusCode;
use serde_json::json;

use crate::service::{Answer, Service, request};
use crate::stores::Place;

/// Words of the inside: of databases, languages, files and failures.
const WORDS: [&str; 25] = [
    "sql",
    "postgres",
    "select",
    "insert",
    "update users",
    "constraint",
    "users.",
    "users_",
    "idempotency_keys",
    "table",
    "relation",
    "syntax",
    "transaction",
    "rusqlite",
    "tokio",
    "axum",
    "serde",
    "panicked",
    "backtrace",
    "stack",
    ".rs",
    "src/",
    "/tmp",
    "thread",
    "errno",
];

fn assert_says_nothing(answer: &Answer, asked: &str, place: &Place) {
    let text = format!("{:?} {}", answer.headers, String::from_utf8_lossy(&answer.body)).to_lowercase();
    for word in WORDS {
        assert!(!text.contains(word), "{asked} says {word:?}: {text}");
    }
    assert!(!text.contains(&place.url().to_lowercase()) && !text.contains("127.0.0.1"), "{asked}: {text}");
}

/// A request for every way to be refused, and the status.
async fn refusals(service: &Service) -> Vec<(String, Answer, StatusCode)> {
    let quote = "'; DROP TABLE users; --";
    service.create("taken").await;
    let path = service.create("other").await;
    let mut refused = Vec::new();
    for (method, path, fields, body, status) in [
        ("GET", "/nope", vec![], String::new(), 404),
        ("GET", "/api/users/77", vec![], String::new(), 404),
        ("GET", "/api/users/%27%22%3B--", vec![], String::new(), 404),
        ("GET", "/api/users?limit=0", vec![], String::new(), 400),
        ("GET", "/api/users?after=1%20OR%201=1", vec![], String::new(), 400),
        ("PATCH", "/api/users", vec![], String::new(), 405),
        ("POST", "/api/users", vec![("content-type", "text/plain")], String::new(), 415),
        ("POST", "/api/users", vec![], "{\"name\": nope}".to_owned(), 400),
        ("POST", "/api/users", vec![], "[".repeat(100_000), 422),
        ("POST", "/api/users", vec![], "x".repeat(2 << 20), 413),
        ("POST", "/api/users", vec![], json!({"name": "taken"}).to_string(), 409),
        ("POST", "/api/users", vec![], json!({"name": "a\u{0}"}).to_string(), 422),
        ("POST", "/api/users", vec![], json!({"name": "a", "email": quote}).to_string(), 422),
        ("POST", "/api/users", vec![("idempotency-key", "a b")], json!({"name": "a"}).to_string(), 400),
        ("PUT", &*path, vec![], json!({"name": "taken"}).to_string(), 409),
        ("PUT", &*path, vec![("if-match", "\"77\"")], json!({"name": "b"}).to_string(), 412),
        ("PUT", &*path, vec![("if-match", "nope")], json!({"name": "b"}).to_string(), 400),
        ("DELETE", "/api/users/77", vec![], String::new(), 404),
    ] {
        let mut fields = fields;
        if !fields.iter().any(|(name, _)| *name == "content-type") {
            fields.push(("content-type", "application/json"));
        }
        let answer = service.ask(request(method, path, &fields, body.into())).await;
        refused.push((format!("{method} {path} {fields:?}"), answer, StatusCode::from_u16(status).unwrap()));
    }
    refused
}

async fn row_64_refusals_say_nothing_of_the_inside(place: Place) {
    let service = Service::at(place).await;
    for (asked, answer, status) in refusals(&service).await {
        assert_eq!(answer.status, status, "{asked}: {answer:?}");
        assert_says_nothing(&answer, &asked, &service.place);
    }
}

async fn row_64_a_store_that_is_away_says_nothing_of_itself(place: Place) {
    let mut service = Service::at(place).await;
    let path = service.create("a").await;
    service.close_the_store().await;
    // A core reads a file for as long as the core is there.
    let reads = match service.place {
        Place::Sqlite(_) => vec![],
        Place::Postgres(_) => vec![("GET", "/api/users"), ("GET", &*path)],
    };
    for (method, path) in reads.into_iter().chain([("POST", "/api/users"), ("PUT", &*path), ("DELETE", &*path)]) {
        let answer = service.send(method, path, &[], &json!({"name": "b"})).await;
        answer.problem(StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.header("retry-after"), "1");
        assert_says_nothing(&answer, &format!("{method} {path}"), &service.place);
    }
    assert_says_nothing(&service.get("/health").await, "GET /health", &service.place);
}

on_both_stores![row_64_refusals_say_nothing_of_the_inside, row_64_a_store_that_is_away_says_nothing_of_itself];

#[tokio::test]
async fn row_101_a_file_that_another_process_holds_is_503_with_retry_after_and_needs_no_restart() {
    let service = Service::anywhere(&[]).await;
    let other = rusqlite::Connection::open(service.place.file()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let answer = service.post_user(&json!({"name": "Ada"})).await;
    assert!(answer.problem(StatusCode::SERVICE_UNAVAILABLE).is_empty());
    assert_eq!(answer.header("retry-after"), "1");
    assert_says_nothing(&answer, "a database that is held", &service.place);
    assert_eq!(service.get("/api/users").await.status, StatusCode::OK, "reads go on");
    other.execute_batch("ROLLBACK").unwrap();
    service.create("Ada").await;
}
