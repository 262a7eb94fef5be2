//! The router: which paths exist, and the answers for those that do not.
//!
//! One list of handlers makes both the router and the API's description, and the front page lists what the description has, so
//! none can promise what another lacks. Handlers hold no state but [`HandlerState`], of which every core has its own.

mod bearer;
mod body;
mod conditions;
mod cors;
mod description;
mod docs;
mod echo;
mod email;
mod fields;
mod fixed;
mod health;
mod home;
mod idempotency;
mod paging;
mod parameters;
mod users;

use std::sync::Arc;

use axum::Router;
use axum::middleware::map_response;
use axum::response::Response;
use baiwan_limits::SharedRateLimit;
use http::header::{HeaderValue, SERVER};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::clock::Uptime;
use crate::config::{Config, CorsOrigins, ReadyRequires, Secret};
use crate::problem::Problem;
use crate::store::CoreStore;

pub use self::body::JSON_BODY_MAX;
pub use self::description::{Endpoint, endpoints};
pub use self::health::Probe;

/// What the operator has decided about the routes.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Demanded for every change, if there is one.
    pub api_token: Option<Secret>,
    /// Other sites whose pages may call the API.
    pub cors_origins: CorsOrigins,
    /// The value of `Server` in every answer, if there is to be one.
    pub server_header: Option<HeaderValue>,
    /// What "ready" needs beside the engine.
    pub ready_requires: ReadyRequires,
    /// The rate limit, where instances share it; one that they do not share is the event loop's.
    pub shared_limit: Option<SharedRateLimit>,
}

/// Nothing demanded, nothing added.
impl Default for Policy {
    fn default() -> Self {
        Self {
            api_token: None,
            cors_origins: CorsOrigins::None,
            server_header: None,
            ready_requires: ReadyRequires::Nothing,
            shared_limit: None,
        }
    }
}

impl From<&Config> for Policy {
    fn from(config: &Config) -> Self {
        Self {
            api_token: config.api_token.clone(),
            cors_origins: config.cors_origins.clone(),
            server_header: config.server_header.clone(),
            ready_requires: config.ready_requires,
            shared_limit: None,
        }
    }
}

/// What the handlers of one core share.
pub struct HandlerState {
    /// The core's part of the database. A router that takes the place of another has the same.
    pub store: Arc<CoreStore>,
    /// What the engine says about itself.
    pub probe: Arc<dyn Probe>,
    /// Since when the process runs.
    pub uptime: Uptime,
    /// What the operator has decided; the same for all cores.
    pub policy: Arc<Policy>,
}

type Shared = axum::extract::State<Arc<HandlerState>>;

/// The whole service as one axum router.
pub fn router(core: HandlerState) -> Router {
    let policy = Arc::clone(&core.policy);
    let (api, _) = api().split_for_parts();
    let router = api
        .route("/", home::PAGE.route())
        .route("/openapi.json", description::DOCUMENT.route())
        .route("/docs", docs::PAGE.route())
        .route("/docs/init.js", docs::START.route())
        .route("/docs/page.css", docs::LOOK.route())
        .route("/docs/swagger-ui-bundle.js", docs::SWAGGER_UI.route())
        .route("/docs/swagger-ui.css", docs::SWAGGER_UI_LOOK.route())
        .fallback(async || Problem::NotFound)
        .method_not_allowed_fallback(async || Problem::MethodNotAllowed)
        .with_state(Arc::new(core));
    with_layers(router, &policy)
}

/// The API's description (OpenAPI 3.1), as `/openapi.json` has it.
pub fn openapi() -> OpenApi {
    description::complete(api().into_openapi())
}

/// The operations of the API, each with its description.
fn api() -> OpenApiRouter<Arc<HandlerState>> {
    OpenApiRouter::with_openapi(description::frame())
        .routes(routes!(health::health))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::read, users::replace, users::delete))
        .routes(routes!(echo::echo))
}

/// Around everything, but only what the operator has asked for: a layer costs each request something.
fn with_layers(mut router: Router, policy: &Policy) -> Router {
    if let Some(limit) = policy.shared_limit.clone() {
        router = router.layer(limit);
    }
    if let Some(cors) = cors::layer(&policy.cors_origins) {
        router = router.layer(cors);
    }
    if let Some(name) = policy.server_header.clone() {
        router = router.layer(map_response(move |mut response: Response| {
            response.headers_mut().insert(SERVER, name.clone());
            std::future::ready(response)
        }));
    }
    router
}
