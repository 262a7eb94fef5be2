//! Measures Baiwan and what people would pick instead from outside: the same answers, the same machine, in turns, in one run.
//!
//! Load comes from the crate `baiwan-load`, or from wrk, on one core; the server runs on another. What is promised under attack
//! and at the end, and memory of held connections, is measured by a raw client. Every answer's status and body are compared.
//!
//! ```text
//! main → cli, peers, programs → scoreboard: rows × rounds × sittings → measure ┬ load → baiwan-load
//!                                           │ server, sittings, progress        ├ wrk, generator
//!                                           │                                 ├ hold (memory)
//!                                           │                                 └ stalled, churn, stop → fleet → connection
//!                                           └ results, summary → report → tables, promises, plots, readme (Markdown, JSON, SVG)
//!
//! main → pairs: rows of its own, in each of which Baiwan and one other take short turns; over server, load and connection
//! ```

mod bounds;
mod churn;
mod cli;
mod clock;
mod connection;
mod environment;
mod exchange;
mod figures;
mod fleet;
mod generator;
mod hold;
mod load;
mod measure;
mod numbers;
mod pairs;
mod peers;
mod plots;
mod programs;
mod progress;
mod promises;
mod readme;
mod report;
mod results;
mod rows;
mod scoreboard;
mod server;
mod sittings;
mod stalled;
mod stop;
mod summary;
mod tables;
mod wrk;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Command, Run};
use crate::peers::{Known, Peer, Places};
use crate::rows::ROWS;

const EXIT_USAGE: u8 = 2;
/// As after a signal that nobody handles.
const EXIT_STOPPED: i32 = 130;
/// The folder of this package.
const FOLDER: &str = env!("CARGO_MANIFEST_DIR");
/// Servers of a quick pass, as far as they are here.
const QUICK: [&str; 4] = [peers::BAIWAN, peers::AXUM, "nginx", "epoll"];

#[allow(clippy::print_stdout, reason = "the report is what this program is for")]
fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == load::WORKER) {
        return match baiwan_load::worker::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let outcome = match cli::parse(&words, FOLDER) {
        Ok(Command::Run(run)) => run_all(&run, &words),
        Ok(Command::Pairs(run)) => run_in_pairs(&run, &words),
        Ok(Command::ListPairs) => Ok((pairs::list(), true)),
        Ok(Command::Help) => Ok((cli::HELP.to_owned(), true)),
        Ok(Command::List) => list().map(|text| (text, true)),
        Err(message) => {
            eprintln!("bench: {message}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match outcome {
        Ok((text, is_clean)) => {
            print!("{text}");
            if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Finds out what is here, and measures it. Returns the report, and whether nothing failed that must not.
fn run_all(run: &Run, words: &[String]) -> Result<(String, bool)> {
    let places = Places::of(&programs::folder()?, Path::new(FOLDER));
    let mut names = run.servers.clone();
    if run.quick && names.is_empty() {
        names = QUICK.map(str::to_owned).into();
    }
    let known = prepare(&names, &places)?;
    scoreboard::measure_all(run, words, &known, places)
}

/// The same in pairs.
fn run_in_pairs(run: &pairs::cli::Run, words: &[String]) -> Result<(String, bool)> {
    let places = Places::of(&programs::folder()?, Path::new(FOLDER));
    let known = prepare(&pairs::servers(run), &places)?;
    pairs::measure_all(run, words, &known, &places)
}

/// Builds servers and says which are here. From then on a signal ends this program.
fn prepare(names: &[String], places: &Places) -> Result<Vec<Known>> {
    end_at_signals()?;
    let known = programs::build(peers::select(peers()?, names)?, places)?;
    for known in &known {
        match &known.version {
            Ok(version) => eprintln!("{}: {version}", known.peer.name),
            Err(reason) => eprintln!("{}: not measured: {reason}", known.peer.name),
        }
    }
    Ok(known)
}

fn peers() -> Result<Vec<Peer>> {
    let path = Path::new(FOLDER).join("peers/peers.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    peers::parse(&text)
}

/// Rows and servers. Those that cargo builds are here once it has built them.
fn list() -> Result<String> {
    let mut text = String::from("rows:\n");
    for row in &ROWS {
        text += &format!("  {:13} {} ({} connections)\n", row.name, row.title.replace('`', ""), row.connections);
    }
    text.push_str("servers:\n");
    let places = Places::of(&programs::folder()?, Path::new(FOLDER));
    for peer in peers()? {
        let version = match (peer.version(&places), &peer.features) {
            (Ok(version), _) => version,
            (Err(_), Some(_)) => "built when it is measured".to_owned(),
            (Err(reason), None) => format!("not here: {reason}"),
        };
        text += &format!("  {:15} {}: {version}\n", peer.name, peer.title);
    }
    Ok(text)
}

/// Ends this program, and with it servers and load, at SIGINT and SIGTERM. The load generator handles them only while it runs.
fn end_at_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().context("cannot start")?;
    let listen = |kind| runtime.block_on(async { signal(kind) }).context("cannot listen for signals");
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        std::process::exit(EXIT_STOPPED);
    });
    Ok(())
}
