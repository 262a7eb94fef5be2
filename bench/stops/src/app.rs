//! The app that is stopped: what its requests and jobs do, and the counts of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use anyhow::ensure;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::routing::get;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

const POOL_CONNECTIONS: u32 = 8;
/// A job begins to use what is shared after this time.
const JOB_DELAY: Duration = Duration::from_millis(50);

/// What became of one round.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Requests whose handler ran, and those of them whose answer arrived.
    pub(crate) taken: AtomicUsize,
    pub(crate) answered: AtomicUsize,
    /// Jobs that were spawned, and those that did all they had to.
    pub(crate) begun: AtomicUsize,
    pub(crate) done: AtomicUsize,
}

/// What all cores share, and nobody else has.
#[derive(Clone)]
pub(crate) struct Shared {
    client: Client<HttpConnector, Empty<Bytes>>,
    pool: PgPool,
    upstream: Uri,
    pub(crate) tally: Arc<Tally>,
}

impl Shared {
    pub(crate) fn new(url: &str, upstream: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            pool: PgPoolOptions::new().max_connections(POOL_CONNECTIONS).connect_lazy(url)?,
            upstream: format!("http://{upstream}/").parse()?,
            tally: Arc::default(),
        })
    }

    async fn fetch(&self) -> anyhow::Result<()> {
        let answer = self.client.get(self.upstream.clone()).await?;
        ensure!(answer.status() == StatusCode::OK, "the other server answers {}", answer.status());
        answer.into_body().collect().await?;
        Ok(())
    }

    async fn note(&self, text: &str) -> anyhow::Result<()> {
        sqlx::query("INSERT INTO notes (text) VALUES ($1)").bind(text).execute(&self.pool).await?;
        Ok(())
    }
}

pub(crate) fn app(shared: Shared) -> Router {
    Router::new().route("/", get(work)).with_state(shared)
}

async fn work(State(shared): State<Shared>) -> Result<&'static str, (StatusCode, String)> {
    shared.tally.taken.fetch_add(1, Relaxed);
    shared.fetch().await.map_err(|error| (StatusCode::BAD_GATEWAY, format!("{error:#}")))?;
    shared.note("request").await.map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}")))?;
    shared.tally.begun.fetch_add(1, Relaxed);
    tokio::spawn(async move {
        tokio::time::sleep(JOB_DELAY).await;
        if shared.fetch().await.is_ok() && shared.note("job").await.is_ok() {
            shared.tally.done.fetch_add(1, Relaxed);
        }
    });
    Ok("done")
}
