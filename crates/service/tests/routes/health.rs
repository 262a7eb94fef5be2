//! `/health`, `/health/live` and `/health/ready` say how it is: as a whole, and for orchestrators.

use std::sync::atomic::Ordering;

use http::StatusCode;
use serde_json::json;

use crate::service::Service;
use crate::stores::Place;

async fn health_names_the_check_that_fails(place: Place) {
    let mut service = Service::at(place).await;
    let answer = service.get("/health").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("cache-control"), "no-store");
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
    service.close_the_store().await;
    let answer = service.get("/health").await;
    assert_eq!((answer.status, &answer.json()["status"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("unhealthy")));
    assert_eq!(answer.json()["checks"], json!({"server": "ok", "store": "failed"}));
}

async fn ready_follows_the_store_if_that_is_required(place: Place) {
    let mut service = Service::with(place, &["--ready-requires", "store"]).await;
    assert_eq!(service.get("/health/ready").await.status, StatusCode::OK);
    service.close_the_store().await;
    let answer = service.get("/health/ready").await;
    assert_eq!((answer.status, answer.json()), (StatusCode::SERVICE_UNAVAILABLE, json!({"status": "not ready"})));
    assert_eq!(service.get("/health/live").await.status, StatusCode::OK);
}

async fn ready_does_not_follow_the_store_by_default(place: Place) {
    let mut service = Service::at(place).await;
    service.close_the_store().await;
    assert_eq!(service.get("/health/ready").await.json(), json!({"status": "ready"}));
}

on_both_stores![
    health_names_the_check_that_fails,
    ready_follows_the_store_if_that_is_required,
    ready_does_not_follow_the_store_by_default,
];

#[tokio::test]
async fn live_and_ready_follow_the_engine() {
    for required in ["none", "store"] {
        let service = Service::anywhere(&["--ready-requires", required]).await;
        assert_eq!(service.get("/health/live").await.json(), json!({"status": "live"}));
        assert_eq!(service.get("/health/ready").await.json(), json!({"status": "ready"}));
        service.switches.ready.store(false, Ordering::Relaxed);
        assert_eq!(service.get("/health/live").await.status, StatusCode::OK);
        assert_eq!(service.get("/health/ready").await.status, StatusCode::SERVICE_UNAVAILABLE);
        service.switches.live.store(false, Ordering::Relaxed);
        assert_eq!(service.get("/health/live").await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
}
