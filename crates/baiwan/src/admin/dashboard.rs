//! What a browser gets at `/` and below `/dashboard/`.
//!
//! The invariant: whoever gets here was let in; nothing here decides that.

use http::StatusCode;

use super::answer::{Answer, answer};

const PAGE: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Baiwan admin</title><h1>Baiwan</h1><ul>\
<li><a href=\"/health\">/health</a>: each check by name; /health/live, /health/ready, /health/startup for orchestrators\
<li><a href=\"/metrics\">/metrics</a>: for Prometheus\
<li><a href=\"/clients\">/clients</a>: who holds most connections, asks most, is refused most\
<li><a href=\"/log-level\">/log-level</a>: GET says it, PUT changes it</ul>\n";

/// The answer to a GET of `path`, if it is a page or belongs to one.
pub(super) fn page(path: &str) -> Option<Answer> {
    (path == "/").then(|| answer(StatusCode::OK, "text/html; charset=utf-8", PAGE))
}
