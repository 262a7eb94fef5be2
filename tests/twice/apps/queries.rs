//! Query strings: typed, optional, raw, and wrong ones.

use std::collections::BTreeMap;
use std::io;

use axum::Router;
use axum::extract::{Query, RawQuery};
use axum::routing::get;
use serde::{Deserialize, Deserializer};
use tokio::net::TcpListener;

use super::server;

#[derive(Deserialize)]
struct Pagination {
    #[serde(default = "first")]
    page: usize,
    per_page: Option<usize>,
    #[serde(default, deserialize_with = "empty_as_none")]
    filter: Option<String>,
}

fn first() -> usize {
    1
}

fn empty_as_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()))
}

pub(crate) async fn main(listener: TcpListener) -> io::Result<()> {
    let app = Router::new()
        .route("/list", get(list))
        .route("/all", get(|Query(all): Query<BTreeMap<String, String>>| async move { format!("{all:?}") }))
        .route("/raw", get(|RawQuery(query): RawQuery| async move { format!("{query:?}") }));
    server::serve(listener, app).await
}

async fn list(Query(Pagination { page, per_page, filter }): Query<Pagination>) -> String {
    format!("{page} {per_page:?} {filter:?}")
}
