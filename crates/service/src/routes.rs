//! The router: which paths exist, and the answers for those that do not.
//!
//! [`ENDPOINTS`] is what the front page lists; a test asks each of them, so the page cannot promise too much. Handlers
//! hold no state but [`Core`], of which every core has its own.

mod body;
mod echo;
mod health;
mod home;
mod users;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use crate::clock::Uptime;
use crate::problem::Problem;
use crate::store::CoreStore;

pub use self::body::JSON_BODY_MAX;
pub use self::health::Probe;

/// A path of the API, for people.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// The method; `HEAD` works wherever `GET` does.
    pub method: &'static str,
    /// The path, parameters in braces.
    pub path: &'static str,
    /// One line.
    pub summary: &'static str,
}

/// Every path of the API, in the order of the front page.
pub const ENDPOINTS: &[Endpoint] = &[
    Endpoint { method: "GET", path: "/health", summary: "state, uptime and checks" },
    Endpoint { method: "GET", path: "/health/live", summary: "the server's threads turn" },
    Endpoint { method: "GET", path: "/health/ready", summary: "started, not stopping, room for more" },
    Endpoint { method: "GET", path: "/api/users", summary: "the users, a page at a time: ?limit=20&after=7" },
    Endpoint { method: "POST", path: "/api/users", summary: "store a user: name, and email if there is one" },
    Endpoint { method: "GET", path: "/api/users/{id}", summary: "one user" },
    Endpoint { method: "POST", path: "/echo", summary: "the text that was sent, streamed back" },
];

/// What the handlers of one core share.
pub struct Core {
    /// The core's part of the database.
    pub store: CoreStore,
    /// What the engine says about itself.
    pub probe: Arc<dyn Probe>,
    /// Since when the process runs.
    pub uptime: Uptime,
}

type Shared = axum::extract::State<Arc<Core>>;

/// The whole service as one axum router.
pub fn router(core: Core) -> Router {
    Router::new()
        .route("/", get(home::page))
        .route("/health", get(health::health))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/echo", post(echo::echo))
        .route("/api/users", get(users::list).post(users::create))
        .route("/api/users/{id}", get(users::show))
        .fallback(async || Problem::NotFound)
        .method_not_allowed_fallback(async || Problem::MethodNotAllowed)
        .with_state(Arc::new(core))
}
