//! `GET /`: one self-contained page that says what runs here.

use std::fmt::Write;
use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};

use super::ENDPOINTS;

static PAGE: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(render()));

pub(super) async fn page() -> Response {
    const HEADERS: [(http::HeaderName, &str); 2] = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"),
    ];
    (HEADERS, PAGE.clone()).into_response()
}

fn render() -> String {
    let mut rows = String::new();
    for endpoint in ENDPOINTS {
        let (method, path, summary) = (endpoint.method, endpoint.path, endpoint.summary);
        // A browser can follow a GET that needs no parameter.
        let shown = if method == "GET" && !path.contains('{') {
            format!("<a href=\"{path}\">{path}</a>")
        } else {
            path.to_owned()
        };
        let _ = writeln!(rows, "<li><b>{method}</b> <code>{shown}</code><span>{summary}</span></li>");
    }
    include_str!("home.html").replace("{{version}}", env!("CARGO_PKG_VERSION")).replace("{{endpoints}}", &rows)
}
