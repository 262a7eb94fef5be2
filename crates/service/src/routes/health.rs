//! `/health` for people and monitors, `/health/live` and `/health/ready` for orchestrators.

use axum::response::Response;
use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue};
use serde::Serialize;
use utoipa::ToSchema;

use super::{HandlerState, Shared};
use crate::clock;
use crate::config::ReadyRequires;
use crate::problem::{JSON_BYTES_USUAL, json};
use crate::store::StoreError;

/// What the engine says about itself.
pub trait Probe: Send + Sync {
    /// The cores turn.
    fn is_live(&self) -> bool;
    /// Started, not draining, room for more connections.
    fn is_ready(&self) -> bool;
}

/// The state of the service.
#[derive(Serialize, ToSchema)]
struct Health {
    status: Status,
    #[schema(format = DateTime)]
    timestamp: String,
    uptime_seconds: u64,
    checks: Checks,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Status {
    Healthy,
    Unhealthy,
}

/// Each check by name.
#[derive(Serialize, ToSchema)]
struct Checks {
    server: Check,
    store: Check,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Check {
    Ok,
    Failed,
}

impl Check {
    fn of(good: bool) -> Self {
        if good { Self::Ok } else { Self::Failed }
    }
}

/// An answer for an orchestrator, which looks at the status code.
#[derive(Serialize, ToSchema)]
struct State {
    status: &'static str,
}

/// Whether the store can be read. One that has much to do can: to send its callers elsewhere would only move the crowd.
async fn is_there(core: &HandlerState) -> bool {
    !matches!(core.store.check().await, Err(StoreError::Unavailable))
}

/// State, uptime and checks
#[utoipa::path(
    get,
    path = "/health",
    operation_id = "health",
    tag = "health",
    responses(
        (status = 200, description = "All is well.", body = Health),
        (status = 503, description = "A check failed; `checks` names it.", body = Health)
    )
)]
pub(super) async fn health(core: Shared) -> Response {
    let (live, stored) = (core.probe.is_live(), is_there(&core).await);
    let body = Health {
        status: if live && stored { Status::Healthy } else { Status::Unhealthy },
        timestamp: clock::now_rfc3339(),
        uptime_seconds: core.uptime.seconds(),
        checks: Checks { server: Check::of(live), store: Check::of(stored) },
    };
    answer(live && stored, &body)
}

/// The server's threads turn
#[utoipa::path(
    get,
    path = "/health/live",
    operation_id = "live",
    tag = "health",
    responses(
        (status = 200, description = "They do.", body = State),
        (status = 503, description = "They do not; a restart would help.", body = State)
    )
)]
pub(super) async fn live(core: Shared) -> Response {
    let live = core.probe.is_live();
    answer(live, &State { status: if live { "live" } else { "not live" } })
}

/// Started, not stopping, room for more
///
/// With `READY_REQUIRES=store` also: the store can be read.
#[utoipa::path(
    get,
    path = "/health/ready",
    operation_id = "ready",
    tag = "health",
    responses(
        (status = 200, description = "Requests are welcome.", body = State),
        (status = 503, description = "Send requests elsewhere.", body = State)
    )
)]
pub(super) async fn ready(core: Shared) -> Response {
    let ready = core.probe.is_ready() && store_suffices(&core).await;
    answer(ready, &State { status: if ready { "ready" } else { "not ready" } })
}

/// A store that fails is by default no reason to send requests elsewhere, where it is the same store.
async fn store_suffices(core: &HandlerState) -> bool {
    match core.policy.ready_requires {
        ReadyRequires::Nothing => true,
        ReadyRequires::Store => is_there(core).await,
    }
}

fn answer(good: bool, body: &impl Serialize) -> Response {
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = json(status, "application/json", JSON_BYTES_USUAL, body);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
