//! Measures Baiwan and axum on hyper from outside: the same app, the same machine, in turns, in one run.
//!
//! The client is a raw epoll loop of its own on one core; the server runs on another. What the client does not check it does
//! not count: every answer's status and body are compared, and a connection that is closed early fails the run. Opening and
//! closing connections are never timed.
//!
//! ```text
//! main → cli → rows × rounds × servers → measure ┬ closed_loop ┐
//!                                                ├ fixed_rate  ┴ fleet → connection → exchange
//!                                                ├ hold (memory)         server, proc_files, kernel_memory
//!                                                └ stalled, churn, stop  (what is promised under attack and at the end)
//! results → report → promises (Markdown), JSON
//! ```

mod churn;
mod cli;
mod clock;
mod closed_loop;
mod connection;
mod environment;
mod exchange;
mod fixed_rate;
mod fleet;
mod kernel_memory;
mod measure;
mod proc_files;
mod promises;
mod report;
mod results;
mod rows;
mod server;
mod stalled;
mod stop;
mod summary;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cli::{Command, Run};
use crate::clock::{now_ns, settle};
use crate::environment::Environment;
use crate::measure::{Figures, OTHERS_CORES, measure};
use crate::results::{Results, RowResults};
use crate::rows::{Plan, ROWS, Row, Work};
use crate::server::{Cores, SERVERS, Server};

const EXIT_USAGE: u8 = 2;
/// A measurement during which other processes used more of a core than this is repeated.
const OTHERS_CORES_MAX: f64 = 0.1;
/// How long the machine is watched before a measurement.
const CALM_SAMPLE: Duration = Duration::from_millis(400);

#[allow(clippy::print_stdout, reason = "the report is what this program is for")]
fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let run = match cli::parse(&words, env!("CARGO_MANIFEST_DIR")) {
        Ok(Command::Run(run)) => run,
        Ok(Command::Help) => {
            print!("{}", cli::HELP);
            return ExitCode::SUCCESS;
        }
        Ok(Command::List) => {
            for row in &ROWS {
                println!("{:13} {} ({} connections)", row.name, row.title.replace('`', ""), row.connections);
            }
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("bench: {message}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match measure_all(&run, &words) {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures, writes the files and returns the report.
fn measure_all(run: &Run, words: &[String]) -> Result<String> {
    let environment = Environment::read(words);
    let connections_max = run.rows.iter().map(|row| run.plan.connections(row)).max().unwrap_or(0);
    server::check_file_limit(connections_max)?;
    let programs = server::build()?;
    let patience_ns = run.plan.patience.as_nanos() as u64;
    let mut bench = Bench { plan: &run.plan, programs, cores: Cores::take()?, patience_ns, repeated: 0 };
    let rows: Vec<RowResults> = run.rows.iter().map(|row| measure_row(row, &mut bench)).collect::<Result<_>>()?;
    let results = Results { environment, plan: &run.plan, quick: run.quick, repeated: bench.repeated, rows };
    let report = report::markdown(&results);
    if let Some(folder) = &run.output {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let raw = serde_json::to_string_pretty(&results.json())?;
        for (name, text) in [("RESULTS.md", &report), ("results.json", &(raw + "\n"))] {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(report)
}

/// All rounds of one row; the servers take turns, so that a drifting machine hits all alike.
fn measure_row(row: &'static Row, bench: &mut Bench) -> Result<RowResults> {
    let mut rounds: [Vec<_>; SERVERS.len()] = Default::default();
    let count = bench.plan.rounds(row);
    for round in 1..=count {
        for (name, figures) in SERVERS.iter().zip(&mut rounds) {
            eprintln!("{}: {name}, round {round} of {count}", row.name);
            let measured = bench.measure_calm(row, name);
            figures.push(measured.with_context(|| format!("row {}, server {name}, round {round}", row.name))?);
        }
    }
    Ok(RowResults { row, connections: bench.plan.connections(row), rounds })
}

/// What all measurements share.
struct Bench<'a> {
    plan: &'a Plan,
    programs: PathBuf,
    cores: Cores,
    patience_ns: u64,
    repeated: usize,
}

impl Bench<'_> {
    /// Waits until other processes leave the machine alone, measures, and repeats what they disturbed all the same, as long as
    /// there is patience; returns what was disturbed least. Only the others' CPU time decides, never the figures.
    fn measure_calm(&mut self, row: &Row, name: &str) -> Result<Figures> {
        let others = |figures: &Figures| figures.get(OTHERS_CORES).copied().unwrap_or(0.0);
        if !row.work.needs_calm() {
            return self.measure_once(row, name);
        }
        self.wait_for_calm()?;
        let mut best = self.measure_once(row, name)?;
        while others(&best) > OTHERS_CORES_MAX && self.patience_ns > 0 {
            self.repeated += 1;
            self.wait_for_calm()?;
            let start = now_ns();
            let figures = self.measure_once(row, name)?;
            self.patience_ns = self.patience_ns.saturating_sub(now_ns() - start);
            if others(&figures) < others(&best) {
                best = figures;
            }
        }
        Ok(best)
    }

    fn wait_for_calm(&mut self) -> Result<()> {
        while self.patience_ns > 0 {
            let (start, used) = (now_ns(), proc_files::machine_cpu_ns()?);
            settle(CALM_SAMPLE);
            let (wall_ns, used_ns) = (now_ns() - start, proc_files::machine_cpu_ns()? - used);
            if used_ns as f64 <= OTHERS_CORES_MAX * wall_ns as f64 {
                break;
            }
            self.patience_ns = self.patience_ns.saturating_sub(wall_ns);
        }
        Ok(())
    }

    fn measure_once(&self, row: &Row, name: &str) -> Result<Figures> {
        // The other rows must not come near a deadline.
        let deadline = self.plan.stall.deadline.filter(|_| matches!(row.work, Work::Stalled(_)));
        let mut server = Server::start(name, &self.programs, &self.cores, deadline)?;
        measure(row, self.plan, &mut server)
    }
}
