//! A page made of twenty others: a handler asks for all of them at once, five at a time, and answers after two seconds at the
//! latest with what came back.
//!
//! `cargo run -p baiwan --example fetch`, then `curl localhost:8080/page`. `PORT` chooses another port. The twenty are paths of the
//! same server: most answer after a tenth of a second, one is not there, and one takes a minute.
//!
//! The group is what keeps this safe: none of the requests outlives the answer, whichever way that ends. When the deadline comes,
//! those that are not done are dropped, and with them their connections; when the client goes away, the engine drops the handler,
//! and the group its tasks.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use baiwan_task::{Failure, TaskGroup};
use serde::Serialize;

const AT_A_TIME: usize = 5;
const DEADLINE: Duration = Duration::from_secs(2);

/// Where the parts are, who asks for them, and how long that may take.
#[derive(Clone)]
struct Parts {
    client: reqwest::Client,
    urls: Vec<String>,
    deadline: Duration,
}

/// What came of one URL.
#[derive(Serialize)]
struct Part {
    url: String,
    text: Option<String>,
    error: Option<String>,
}

#[tokio::main]
async fn main() -> Result<(), baiwan::Error> {
    let port = std::env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    eprintln!("http://localhost:{port}/page asks for twenty parts; Ctrl-C ends it");
    let urls: Vec<String> = (1..=20).map(|number| format!("http://localhost:{port}/parts/{number}")).collect();
    // A client for each core: the connections that it keeps belong to the runtime that opened them.
    baiwan::Server::builder().bind(format!("0.0.0.0:{port}")).serve_with(move |_core| app(urls.clone(), DEADLINE)).await
}

/// The page of these URLs, and the parts that the example asks for.
pub(crate) fn app(urls: Vec<String>, deadline: Duration) -> Router {
    let parts = Parts { client: reqwest::Client::new(), urls, deadline };
    Router::new().route("/page", get(page)).route("/parts/{number}", get(part)).with_state(parts)
}

async fn page(State(Parts { client, urls, deadline }): State<Parts>) -> Json<Vec<Part>> {
    let requests = urls.clone().into_iter().map(move |url| {
        let request = client.get(url);
        async move { request.send().await?.error_for_status()?.text().await }
    });
    let results = TaskGroup::new().name("page").limit(AT_A_TIME).deadline(deadline).collect(requests).await;
    Json(urls.into_iter().zip(results).map(shown).collect())
}

fn shown((url, result): (String, Result<String, Failure<reqwest::Error>>)) -> Part {
    match result {
        Ok(text) => Part { url, text: Some(text), error: None },
        Err(failure) => Part { url, text: None, error: Some(failure.to_string()) },
    }
}

async fn part(Path(number): Path<u32>) -> Result<String, StatusCode> {
    let time = if number == 13 { Duration::from_secs(60) } else { Duration::from_millis(100) };
    tokio::time::sleep(time).await;
    if number == 7 { Err(StatusCode::NOT_FOUND) } else { Ok(format!("part {number}")) }
}
