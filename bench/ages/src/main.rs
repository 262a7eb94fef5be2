//! Opens many connections within a few seconds, and counts how a server with a maximum age ends them: in which second, and whether an
//! answer or a request was lost with it.
//!
//! `baiwan-bench-ages [CONNECTIONS [AGE_SECONDS]]`, 50,000 and 60 without a word. The server runs in this process, on four cores with an
//! fd table each, so that a limit of 20,000 files is enough for each; the clients in others of the same program, each with an
//! address of its own.
//!
//! Fails if a connection ended inside an answer, or a second had more than 2 % of the ends.

mod client;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use axum::Router;
use axum::body::Body;
use axum::routing::get;
use baiwan::{CloseReason, FdTables, Server};
use futures_util::{StreamExt, stream};

use self::client::Ends;

const CORES: usize = 4;
/// Connections that one client process holds.
const CLIENT_CONNECTIONS: usize = 12_500;
/// A streamed answer has this many frames, with a pause after each.
const FRAMES: usize = 10;
const FRAME: &str = "ten bytes\n";
const FRAME_PAUSE: Duration = Duration::from_millis(100);
/// What one second may have of all ends.
const PERCENT_MAX: usize = 2;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, address, source, count, age] = &arguments[..]
        && role == "client"
    {
        return client::run(address.parse()?, source.parse()?, count.parse()?, Duration::from_secs(age.parse()?)).await;
    }
    let number = |at: usize, default: usize| arguments.get(at).map_or(Ok(default), |text| text.parse());
    let (connections, age) = (number(0, 50_000)?, number(1, 60)?);
    run(connections, Duration::from_secs(age as u64)).await
}

fn app() -> Router {
    let streamed = || async {
        let frames = stream::iter(0..FRAMES).then(|_| async {
            tokio::time::sleep(FRAME_PAUSE).await;
            Ok::<_, Infallible>(FRAME)
        });
        Body::from_stream(frames)
    };
    Router::new().route("/", get(|| async { "hello" })).route("/streamed", get(streamed))
}

#[expect(clippy::print_stdout, reason = "the counts are what this program is for")]
async fn run(connections: usize, age: Duration) -> anyhow::Result<()> {
    let server = Server::builder().bind("127.0.0.1:0").workers(CORES).fd_tables(FdTables::PerCore);
    let server = server.max_connection_age(Some(age)).keep_alive_timeout(None);
    let health = server.health();
    let running = server.start_with(|_| app())?;
    let address = running.addresses().first().context("it listens")?.to_string();
    let mut clients = Vec::new();
    for (number, begin) in (0..connections).step_by(CLIENT_CONNECTIONS).enumerate() {
        let count = CLIENT_CONNECTIONS.min(connections - begin);
        let mut command = std::process::Command::new(std::env::current_exe()?);
        let source = format!("127.0.1.{}", number + 1);
        command.args(["client", &address, &source, &count.to_string(), &age.as_secs().to_string()]);
        clients.push(command.stdout(Stdio::piped()).spawn()?);
    }
    let mut ends = Ends::default();
    let waiting = clients.into_iter().map(|client| tokio::task::spawn_blocking(|| client.wait_with_output()));
    for client in waiting.collect::<Vec<_>>() {
        let output = client.await??;
        ensure!(output.status.success(), "a client has failed");
        ends.add(&Ends::read(std::str::from_utf8(&output.stdout)?)?);
    }
    let counts = health.counts();
    println!("{ends}");
    for reason in [CloseReason::Age, CloseReason::AgeTimeout, CloseReason::PeerClosed, CloseReason::Reset] {
        println!("server: {:<16} {:>7}", reason.name(), counts.closed_by(reason));
    }
    let total = ends.total();
    let (second, most) = most(&ends.by_second);
    let percent = most as f64 * 100.0 / total.max(1) as f64;
    println!("{total} ended over {} s; most in second {second}: {most}, {percent:.2} %", ends.by_second.len());
    drop(running);
    ensure!(total == connections, "{connections} were opened, and {total} were ended by the server");
    ensure!(ends.torn == 0, "{} ended inside an answer", ends.torn);
    ensure!(most * 100 <= total * PERCENT_MAX, "a second has {percent:.2} % of the ends");
    Ok(())
}

fn most(by_second: &BTreeMap<u64, usize>) -> (u64, usize) {
    by_second.iter().map(|(second, count)| (*second, *count)).max_by_key(|(_, count)| *count).unwrap_or_default()
}
