//! Counters by route and status, as text for a monitoring system, kept by middleware of the routes.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use tokio::net::TcpListener;

use super::server;

type Counts = Arc<Mutex<BTreeMap<(String, String, u16), u64>>>;

pub(crate) async fn main(listener: TcpListener, operator: TcpListener) -> io::Result<()> {
    let counts = Counts::default();
    let app = Router::new()
        .route("/fast/{id}", get(|| async {}))
        .route("/refuses", get(|| async { StatusCode::FORBIDDEN }))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&counts), count));
    let metrics = Router::new().route("/metrics", get(show)).with_state(counts);
    tokio::try_join!(server::serve(listener, app).into_future(), server::serve(operator, metrics).into_future())?;
    Ok(())
}

async fn count(State(counts): State<Counts>, request: Request, next: Next) -> Response {
    let path =
        request.extensions().get::<MatchedPath>().map_or_else(|| "?".to_owned(), |path| path.as_str().to_owned());
    let method = request.method().to_string();
    let response = next.run(request).await;
    *counts.lock().unwrap().entry((method, path, response.status().as_u16())).or_default() += 1;
    response
}

async fn show(State(counts): State<Counts>) -> String {
    let line = |((method, path, status), count): (&(String, String, u16), &u64)| {
        format!("http_requests_total{{method=\"{method}\",path=\"{path}\",status=\"{status}\"}} {count}\n")
    };
    counts.lock().unwrap().iter().map(line).collect()
}
