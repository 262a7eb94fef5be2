//! `GET /`: one self-contained page that says what runs here.

use std::fmt::Write;

use bytes::Bytes;

use super::description::{Endpoint, endpoints};
use super::fixed::Fixed;

/// The page has its style within, and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

pub(super) static PAGE: Fixed = Fixed::page(POLICY, || Bytes::from(render()));

fn render() -> String {
    let mut groups = String::new();
    for group in endpoints().chunk_by(|one, next| one.group == next.group) {
        let _ = writeln!(groups, "<h3>{}</h3>\n<ul>", group[0].group);
        for endpoint in group {
            row(&mut groups, endpoint);
        }
        groups.push_str("</ul>\n");
    }
    include_str!("home.html").replace("{{version}}", env!("CARGO_PKG_VERSION")).replace("{{endpoints}}", &groups)
}

/// What it shows comes from the source code alone, so nothing has to be escaped.
fn row(rows: &mut String, Endpoint { method, path, summary, .. }: &Endpoint) {
    // A browser can follow a GET that needs no parameter.
    let shown =
        if *method == "GET" && !path.contains('{') { format!("<a href=\"{path}\">{path}</a>") } else { path.clone() };
    let _ = writeln!(rows, "<li><b>{method}</b> <code>{shown}</code><span>{summary}</span></li>");
}
