//! An app of its own that runs beside the ready service: it greets the users that the service stores. `deploy/kubernetes/example-app` has it in a
//! cluster.
//!
//! ```sh
//! cargo run -- serve --demo                                   # the service, on port 8080
//! PORT=8081 cargo run -p baiwan --example greeter             # then: curl localhost:8081/
//! ```
//!
//! It has what an orchestrator asks of an app: its settings are variables, and a wrong one is an error at start; an admin side answers probes
//! and Prometheus on a port of its own (`ADMIN_ADDRESS`); SIGTERM stops it in order.

use std::env;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

const TIMEOUT: Duration = Duration::from_secs(2);

/// Where the users are, and who asks for them.
#[derive(Clone)]
struct Users {
    client: reqwest::Client,
    service: String,
}

#[derive(Deserialize)]
struct Page {
    users: Vec<User>,
}

#[derive(Deserialize)]
struct User {
    name: String,
}

#[derive(Serialize)]
struct Greetings {
    greetings: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<(), baiwan::Error> {
    let variable = |name, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let service = variable("USERS_URL", "http://localhost:8080");
    let asked = Users { client: reqwest::Client::new(), service: service.clone() };
    // It is named in `/health` when it fails, and is not required: without the service every instance would be taken out of the load balancer at
    // once, and nobody would be left to say why.
    let admin = baiwan::Admin::bind(variable("ADMIN_ADDRESS", "127.0.0.1:9091")).check("users", move || {
        let asked = asked.clone();
        async move { asked.fetch("/health/ready").await.map(drop) }
    });
    // A client for each core: the connections that it keeps belong to the runtime that opened them.
    baiwan::Server::from_env()?.admin(admin).serve_with(move |_core| app(service.clone())).await
}

pub(crate) fn app(service: String) -> Router {
    Router::new().route("/", get(greet)).with_state(Users { client: reqwest::Client::new(), service })
}

async fn greet(State(users): State<Users>) -> Result<Json<Greetings>, StatusCode> {
    let text = users.fetch("/api/users?limit=20").await.map_err(|_| StatusCode::BAD_GATEWAY)?;
    let page: Page = serde_json::from_str(&text).map_err(|_| StatusCode::BAD_GATEWAY)?;
    Ok(Json(Greetings { greetings: page.users.into_iter().map(|user| format!("Hello, {}!", user.name)).collect() }))
}

impl Users {
    async fn fetch(&self, path: &str) -> reqwest::Result<String> {
        let request = self.client.get(format!("{}{path}", self.service)).timeout(TIMEOUT);
        request.send().await?.error_for_status()?.text().await
    }
}
