//! Holds very many connections to one server on one machine, asks on all of them, and says what that took: `bench/million`.
//!
//! ```text
//! cli → machine (limits) → servers (start) → holding ┬ open, idle, trickle, round, close ─→ held ─→ report
//!                                            recovery ┴ open, trickle, kill -9, restart ─────────→ report
//! ```
//!
//! The load is that of `baiwan load`, as a library: this program is its own worker. Nothing here is timed that the load generator
//! does not time; memory and CPU are read from `/proc` and `/sys` between the phases.

mod cli;
mod held;
mod holding;
mod machine;
mod recovery;
mod report;
mod servers;

use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::cli::Options;
use crate::report::Outcome;

const EXIT_USAGE: u8 = 2;
/// The word that makes this program a worker of the load generator.
const WORKER: &str = "load-worker";

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
            return print(cli::HELP).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
        }
        Err(message) => {
            say(&format!("million: {message}"));
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let outcome = match carry_out(&options, &words) {
        Ok(outcome) => outcome,
        Err(error) => {
            say(&format!("million: {error:#}"));
            return ExitCode::FAILURE;
        }
    };
    let mut told = vec![print(&outcome.markdown).context("standard output")];
    if let Some(folder) = &options.output {
        let name = if options.recover { "recover" } else { "million" };
        told.push(write(folder, &format!("{name}.md"), &outcome.markdown));
        told.push(write(folder, &format!("{name}.json"), &format!("{:#}\n", outcome.json)));
    }
    let failures: Vec<anyhow::Error> = told.into_iter().filter_map(Result::err).collect();
    failures.iter().for_each(|error| say(&format!("million: {error:#}")));
    for text in outcome.wanted.unmet() {
        say(&format!("million: not met: {text}"));
    }
    match failures.is_empty() && outcome.wanted.unmet().next().is_none() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn carry_out(options: &Options, words: &[String]) -> Result<Outcome> {
    for line in machine::check(options.connections, options.tune)? {
        say(&format!("raised until the next boot: {line}"));
    }
    match options.recover {
        false => holding::run(options, words),
        true => recovery::run(options, words),
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
}

/// Says a line. A terminal that is gone is no reason to lose what is measured.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, text));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// The command that starts a worker of the load generator: this program.
fn worker() -> Command {
    let program = std::env::current_exe().unwrap_or_else(|_| "million".into());
    let mut command = Command::new(program);
    command.arg(WORKER);
    command
}
