//! Which other sites may call the API from a browser (CORS), where the operator has named some.
//!
//! Without the setting there is no layer, and a request costs nothing for it. Cookies are never involved: who may write is a
//! matter of the token, which a page has to know.

use std::time::Duration;

use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH, LOCATION, RETRY_AFTER};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::idempotency;
use crate::config::CorsOrigins;

/// How long a browser may remember what it was allowed.
const MAX_AGE: Duration = Duration::from_hours(1);
const METHODS: [Method; 5] = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE];
const ALLOWED: [HeaderName; 5] = [CONTENT_TYPE, AUTHORIZATION, IF_MATCH, IF_NONE_MATCH, idempotency::FIELD];
const EXPOSED: [HeaderName; 6] = [
    ETAG,
    LOCATION,
    RETRY_AFTER,
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("ratelimit-policy"),
    HeaderName::from_static("x-request-id"),
];

/// The layer, if there is something to allow. With a list of origins it adds `Vary: Origin`.
pub(super) fn layer(origins: &CorsOrigins) -> Option<CorsLayer> {
    let origins = match origins {
        CorsOrigins::None => return None,
        CorsOrigins::Any => AllowOrigin::any(),
        CorsOrigins::List(origins) => AllowOrigin::list(origins.iter().cloned()),
    };
    let layer = CorsLayer::new().allow_origin(origins).allow_methods(METHODS).allow_headers(ALLOWED);
    Some(layer.expose_headers(EXPOSED).max_age(MAX_AGE))
}
