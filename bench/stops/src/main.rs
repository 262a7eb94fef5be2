//! Stops a busy server again and again, and counts the requests that fail and the jobs that are lost.
//!
//! A request asks another server through a client that all cores share, writes a row through a pool that they share as well, and leaves a
//! job behind that does both once more, a little later. `baiwan-bench-stops SERVER ROUNDS`, with the database in `DATABASE_URL`;
//! `bench/stops/run` brings a private one. `SERVER` is `baiwan`, or `axum` for `axum::serve` on two threads of Tokio.
//!
//! A request counts as taken in when its handler runs. It fails if its answer is another one than 200, or is cut.

mod app;
mod clients;
mod servers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::Router;
use axum::routing::get;
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

use self::app::{Shared, Tally, app};
use self::clients::ask_until_nobody_answers;
use self::servers::Server;

const CLIENTS: usize = 32;
/// Answers before a server is told to stop.
const ANSWERS_BEFORE: usize = 200;
const LOOK_INTERVAL: Duration = Duration::from_millis(1);
/// An answer of the other server takes this long.
const UPSTREAM_TIME: Duration = Duration::from_millis(5);

/// What became of all rounds.
#[derive(Default)]
struct Outcome {
    taken: usize,
    answered: usize,
    refused: Vec<String>,
    begun: usize,
    done: usize,
    slowest: Duration,
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the counts are what this program is for")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (server, rounds) = (arguments.next().context("which server?")?, arguments.next().context("how many rounds?")?);
    let (server, rounds) = (Server::by_name(&server)?, rounds.parse::<usize>().context("the number of rounds")?);
    let url = std::env::var("DATABASE_URL").context("DATABASE_URL is not set")?;
    let keeper = PgPool::connect(&url).await?;
    sqlx::query("DROP TABLE IF EXISTS notes").execute(&keeper).await?;
    sqlx::query("CREATE TABLE notes (text TEXT NOT NULL)").execute(&keeper).await?;
    let upstream = upstream().await?;
    let mut outcome = Outcome::default();
    for _ in 0..rounds {
        stop_under_load(server, Shared::new(&url, upstream)?, &mut outcome).await?;
    }
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM notes").fetch_one(&keeper).await?;
    let Outcome { taken, answered, refused, begun, done, slowest } = outcome;
    let failed = taken - answered;
    println!(
        "{}: {rounds} stops; {taken} requests taken in, {failed} failed; {begun} jobs, {} lost; {rows} rows of {}; \
         slowest stop {slowest:.2?}",
        server.name(),
        begun - done,
        answered + begun,
    );
    for line in refused.iter().take(10) {
        println!("  {line}");
    }
    if server == Server::Baiwan && (failed, begun - done) != (0, 0) {
        bail!("a stop must cost no request and no job");
    }
    Ok(())
}

/// The other server, which requests and jobs ask.
async fn upstream() -> anyhow::Result<SocketAddr> {
    let there = || async {
        sleep(UPSTREAM_TIME).await;
        "from there"
    };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    drop(tokio::spawn(async move { axum::serve(listener, Router::new().route("/", get(there))).await }));
    Ok(address)
}

async fn stop_under_load(server: Server, shared: Shared, outcome: &mut Outcome) -> anyhow::Result<()> {
    let tally = Arc::clone(&shared.tally);
    let running = server.start(app(shared)).await?;
    let clients: Vec<_> =
        (0..CLIENTS).map(|_| tokio::spawn(ask_until_nobody_answers(running.address, Arc::clone(&tally)))).collect();
    while tally.answered.load(Relaxed) < ANSWERS_BEFORE {
        sleep(LOOK_INTERVAL).await;
    }
    let begun = Instant::now();
    running.stop().await?;
    outcome.slowest = outcome.slowest.max(begun.elapsed());
    for client in clients {
        outcome.refused.extend(client.await?);
    }
    let Tally { taken, answered, begun, done } = &*tally;
    outcome.taken += taken.load(Relaxed);
    outcome.answered += answered.load(Relaxed);
    outcome.begun += begun.load(Relaxed);
    outcome.done += done.load(Relaxed);
    Ok(())
}
