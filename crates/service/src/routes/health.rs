//! `/health` for people and monitors, `/health/live` and `/health/ready` for orchestrators.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue};
use serde::Serialize;

use super::Shared;
use crate::clock;
use crate::problem::json;

/// What the engine says about itself.
pub trait Probe: Send + Sync {
    /// The cores turn.
    fn is_live(&self) -> bool;
    /// Started, not draining, room for more connections.
    fn is_ready(&self) -> bool;
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    timestamp: String,
    uptime_seconds: u64,
    checks: Checks,
}

#[derive(Serialize)]
struct Checks {
    server: &'static str,
    store: &'static str,
}

#[derive(Serialize)]
struct State {
    status: &'static str,
}

pub(super) async fn health(core: Shared) -> Response {
    let (live, stored) = (core.probe.is_live(), core.store.check().await.is_ok());
    let word = |good: bool| if good { "ok" } else { "failed" };
    let body = Health {
        status: if live && stored { "healthy" } else { "unhealthy" },
        timestamp: clock::now_rfc3339(),
        uptime_seconds: core.uptime.seconds(),
        checks: Checks { server: word(live), store: word(stored) },
    };
    answer(live && stored, &body)
}

pub(super) async fn live(core: Shared) -> Response {
    let live = core.probe.is_live();
    answer(live, &State { status: if live { "live" } else { "not live" } })
}

pub(super) async fn ready(core: Shared) -> Response {
    let ready = core.probe.is_ready();
    answer(ready, &State { status: if ready { "ready" } else { "not ready" } })
}

fn answer(good: bool, body: &impl Serialize) -> Response {
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = json(status, "application/json", body);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.into_response()
}
