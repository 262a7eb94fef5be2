//! Holds very many connections to one server on one machine, asks on all of them, and says what that took: `bench/million`.
//!
//! ```text
//! cli → machine (limits) → servers (start) → holding ┬ open, idle, trickle, round, close ─→ report
//!                                            recovery ┴ open, trickle, kill -9, restart ──→ report
//! ```
//!
//! The load is that of `baiwan load`, as a library: this program is its own worker. Nothing here is timed that the load generator
//! does not time; memory and CPU are read from `/proc` and `/sys` between the phases.

mod cli;
mod holding;
mod machine;
mod recovery;
mod report;
mod servers;

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::cli::Options;
use crate::report::Outcome;

const EXIT_USAGE: u8 = 2;
/// The word that makes this program a worker of the load generator.
const WORKER: &str = "load-worker";

#[allow(clippy::print_stdout, reason = "the report is what this program is for")]
fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == WORKER) {
        return match baiwan_load::worker::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let options = match cli::parse(&words) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{}", cli::HELP);
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("million: {message}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match carry_out(&options, &words) {
        Ok(outcome) => {
            print!("{}", outcome.markdown);
            match outcome.is_clean {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            eprintln!("million: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(options: &Options, words: &[String]) -> Result<Outcome> {
    for line in machine::check(options.connections, options.tune)? {
        eprintln!("raised until the next boot: {line}");
    }
    let (name, outcome) = match options.recover {
        false => ("million", holding::run(options, words)?),
        true => ("recover", recovery::run(options, words)?),
    };
    if let Some(folder) = &options.output {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for (ending, text) in
            [("md", &outcome.markdown), ("json", &(serde_json::to_string_pretty(&outcome.json)? + "\n"))]
        {
            let path = folder.join(format!("{name}.{ending}"));
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(outcome)
}

/// The command that starts a worker of the load generator: this program.
fn worker() -> Command {
    let program = std::env::current_exe().unwrap_or_else(|_| "million".into());
    let mut command = Command::new(program);
    command.arg(WORKER);
    command
}
