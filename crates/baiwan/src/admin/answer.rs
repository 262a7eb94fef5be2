//! What the admin side's answers have in common: their fields, JSON, and problem documents (RFC 9457).
//!
//! The invariant: every answer forbids a browser to keep it, to guess its type, or to show it within another page.

use baiwan_limits::PROBLEM_MEDIA_TYPE;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use http::header::{WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use super::access::{Denied, challenge};

pub(super) type Answer = Response<Full<Bytes>>;

/// A page loads nothing. One that does has a policy of its own.
const NOTHING: HeaderValue =
    HeaderValue::from_static("default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");

/// An answer of that media type.
pub(super) fn answer(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let fields = answer.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    fields.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    fields.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    fields.insert(CONTENT_SECURITY_POLICY, NOTHING);
    answer
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    with_type(status, "application/json", value)
}

fn with_type(status: StatusCode, media_type: &'static str, value: &impl Serialize) -> Answer {
    // Only maps with keys that are no strings cannot be written, and there are none.
    let body = serde_json::to_vec(value).unwrap_or_default();
    answer(status, media_type, body)
}

#[derive(Serialize)]
struct Problem<'a> {
    title: &'a str,
    status: u16,
    detail: &'a str,
}

/// A problem document that says what to do.
pub(super) fn problem(status: StatusCode, detail: &str) -> Answer {
    let title = status.canonical_reason().unwrap_or_default();
    with_type(status, PROBLEM_MEDIA_TYPE, &Problem { title, status: status.as_u16(), detail })
}

/// Another method than those in `allowed`.
pub(super) fn wrong_method(allowed: &'static str) -> Answer {
    let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, &format!("Use {allowed}."));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// There is nothing at that path.
pub(super) fn not_found() -> Answer {
    problem(StatusCode::NOT_FOUND, "There is nothing at this path. GET / lists what there is.")
}

/// Why something may not be seen, and what helps.
pub(super) fn denied(denied: Denied) -> Answer {
    let (status, detail) = match denied {
        Denied::OtherSite => (StatusCode::FORBIDDEN, "Pages of other sites may not ask this."),
        Denied::OtherHost => (
            StatusCode::FORBIDDEN,
            "Without a token the admin side is for this machine: ask for localhost or 127.0.0.1 by that name, or set a token.",
        ),
        Denied::Proxied => (
            StatusCode::FORBIDDEN,
            "Without a token the admin side is for this machine, and not for whoever comes through a proxy: set one (the service takes it from ADMIN_TOKEN).",
        ),
        Denied::Token => {
            (StatusCode::UNAUTHORIZED, "Bring the token, as a bearer token or as the password of any user.")
        }
        Denied::NotThere => (
            StatusCode::NOT_FOUND,
            "Only /metrics and /health are here: the rest needs a token, or an admin side that listens on a loopback address.",
        ),
    };
    let mut answer = problem(status, detail);
    if denied == Denied::Token {
        answer.headers_mut().insert(WWW_AUTHENTICATE, challenge());
    }
    answer
}
