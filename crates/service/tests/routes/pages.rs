//! The pages and the API's description: what they list exists, they need nothing from elsewhere, and they are guarded.

use std::collections::BTreeSet;

use baiwan_service::routes::endpoints;
use http::StatusCode;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use serde_json::json;

use crate::service::{Answer, Service};

/// The pages, which a browser shows.
const PAGES: [&str; 2] = ["/", "/docs"];

/// The operations of the API's description, as `METHOD /path`.
async fn described(service: &Service) -> BTreeSet<String> {
    let document = service.get("/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect()
}

/// What stands between two marks in a text, each time.
fn between<'a>(text: &'a str, start: &'a str, end: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(start).skip(1).filter_map(move |rest| rest.split(end).next())
}

fn html(page: &Answer) -> &str {
    assert_eq!(page.header(CONTENT_TYPE), "text/html; charset=utf-8");
    std::str::from_utf8(&page.body).unwrap()
}

#[tokio::test]
async fn the_front_page_lists_what_exists_and_nothing_else() {
    let service = Service::anywhere(&[]).await;
    let page = service.get("/").await;
    let html = html(&page);
    assert!(html.contains("prefers-color-scheme: dark") && html.contains("width=device-width"));
    assert!(!html.contains("{{"), "every placeholder is filled in");
    assert!(!html.contains("src=") && !html.contains("<script "), "self-contained");
    let described = described(&service).await;
    assert_eq!(html.matches("<li>").count(), described.len());
    let listed: BTreeSet<String> =
        endpoints().iter().map(|endpoint| format!("{} {}", endpoint.method, endpoint.path)).collect();
    assert_eq!(listed, described);
    for operation in &described {
        let (method, path) = operation.split_once(' ').unwrap();
        assert!(html.contains(&format!("<b>{method}</b>")) && html.contains(path), "{operation}");
    }
    for link in between(html, "href=\"", "\"").filter(|link| !link.starts_with("data:")) {
        assert_eq!(service.get(link).await.status, StatusCode::OK, "{link}");
    }
}

#[tokio::test]
async fn every_operation_that_is_described_is_answered_as_described() {
    let service = Service::anywhere(&[]).await;
    let document = service.get("/openapi.json").await.json();
    for operation in described(&service).await {
        let (method, path) = operation.split_once(' ').unwrap();
        let user = service.create(&format!("for {method} {path}")).await;
        let id = user.rsplit('/').next().unwrap();
        let body = json!({"name": format!("by {method} {path}")});
        let answer = service.send(method, &path.replace("{id}", id), &[], &body).await;
        assert!(answer.status.is_success(), "{operation}: {answer:?}");
        let responses = &document["paths"][path][method.to_lowercase()]["responses"];
        let response = &responses[answer.status.as_str()];
        assert!(response.is_object(), "{operation}: {} is not described", answer.status);
        let media_type = answer.header(CONTENT_TYPE).split(';').next().unwrap();
        if !answer.body.is_empty() {
            assert!(response["content"][media_type].is_object(), "{operation}: {media_type} is not described");
        }
        for field in response["headers"].as_object().into_iter().flatten() {
            assert!(answer.headers.contains_key(&**field.0), "{operation}: {} is missing", field.0);
        }
    }
}

#[tokio::test]
async fn pages_need_nothing_from_elsewhere() {
    let service = Service::anywhere(&[]).await;
    for path in PAGES {
        let page = service.get(path).await;
        let html = html(&page);
        for mark in ["src=\"", "href=\""] {
            for link in between(html, mark, "\"") {
                assert!(
                    link.starts_with('/') && !link.starts_with("//") || link.starts_with("data:"),
                    "{path}: {link}"
                );
                if link.starts_with('/') {
                    assert_eq!(service.get(link).await.status, StatusCode::OK, "{path}: {link}");
                }
            }
        }
        let policy = page.header(CONTENT_SECURITY_POLICY);
        assert!(!policy.contains("http:") && !policy.contains("https:") && !policy.contains('*'), "{policy}");
    }
}

#[tokio::test]
async fn pages_are_guarded_against_other_sites() {
    let service = Service::anywhere(&[]).await;
    for path in PAGES {
        let page = service.get(path).await;
        let policy = page.header(CONTENT_SECURITY_POLICY);
        for word in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"] {
            assert!(policy.split(';').any(|part| part.trim() == word), "{path}: {policy}");
        }
        let scripts = policy.split(';').find(|part| part.trim().starts_with("script-src")).unwrap_or_default();
        assert!(!scripts.contains("unsafe"), "{path}: {policy}");
        assert_eq!(page.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(page.header("x-frame-options"), "DENY", "{path}");
        assert_eq!(page.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(page.header("cross-origin-opener-policy"), "same-origin", "{path}");
    }
    for path in ["/openapi.json", "/health", "/api/users", "/nope"] {
        assert_eq!(service.get(path).await.header("x-content-type-options"), "nosniff", "{path}");
    }
}

#[tokio::test]
async fn pages_and_the_description_are_not_sent_twice() {
    let service = Service::anywhere(&[]).await;
    for path in PAGES.into_iter().chain(["/openapi.json"]) {
        let first = service.get(path).await;
        let again = service.ask_with("GET", path, &[("if-none-match", first.etag())]).await;
        assert_eq!((again.status, again.body.len()), (StatusCode::NOT_MODIFIED, 0), "{path}");
        assert_eq!(service.get(path).await.body, first.body);
    }
}
