//! Asks a service without a pause while one process takes over from another, and counts what fails.
//!
//! `baiwan-bench-takeovers ADDRESS NAME` asks until its standard input ends, and then prints one line of JSON for each shape of load;
//! `bench/takeovers/run` starts it beside the processes. Users are created under names that begin with `NAME`.
//!
//! | shape | connections | when a request is sent |
//! |---|---|---|
//! | `closed, kept` | kept alive | when the one before was answered |
//! | `closed, fresh` | one for each request | the same |
//! | `open, kept` | kept alive | at its time, whatever became of those before |
//! | `open, fresh` | one for each request | the same |
//!
//! Every fifth request creates a user and has an `Idempotency-Key`, so that all may be repeated. A request on a kept connection that is
//! closed in order before a byte of the answer has come is asked once more on another connection, and counted. Everything else that does
//! not end with the answer that was asked for has failed: a connection that is reset, too.

mod asking;
mod tally;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Context;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::asking::Client;
use self::tally::Tally;

/// Connections of each shape in closed loops, and senders of those in open loops.
const CLIENTS: usize = 8;
/// Between two requests of one sender in an open loop.
const OPEN_INTERVAL: Duration = Duration::from_millis(20);

/// How requests are sent.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    is_open: bool,
    keeps: bool,
}

const SHAPES: [Shape; 4] = [
    Shape { name: "closed, kept", is_open: false, keeps: true },
    Shape { name: "closed, fresh", is_open: false, keeps: false },
    Shape { name: "open, kept", is_open: true, keeps: true },
    Shape { name: "open, fresh", is_open: true, keeps: false },
];

#[tokio::main(worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the counts are what this program is for")]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address: SocketAddr = arguments.next().context("which address?")?.parse()?;
    let name = arguments.next().context("which name?")?;
    let ends = Arc::new(AtomicBool::new(false));
    let mut running = Vec::new();
    for (number, shape) in SHAPES.into_iter().enumerate() {
        for client in 0..CLIENTS {
            let client = Client::new(address, format!("{name}-{number}-{client}"), shape.keeps);
            running.push((number, tokio::spawn(ask(client, shape.is_open, Arc::clone(&ends)))));
        }
    }
    // Whatever is said there, it is the end that counts.
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    ends.store(true, Relaxed);
    let mut tallies = SHAPES.map(|shape| Tally { shape: shape.name, ..Tally::default() });
    for (number, client) in running {
        tallies[number].add(client.await?);
    }
    for tally in tallies {
        println!("{}", serde_json::to_string(&tally)?);
    }
    Ok(())
}

async fn ask(mut client: Client, is_open: bool, ends: Arc<AtomicBool>) -> Tally {
    let mut tally = Tally::default();
    let mut ticks = interval(OPEN_INTERVAL);
    // What is late is sent at once, and its latency counts from when it was due.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while !ends.load(Relaxed) {
        let due = if is_open { ticks.tick().await } else { Instant::now() };
        client.ask(&mut tally).await;
        tally.slowest(due.elapsed());
    }
    tally
}
