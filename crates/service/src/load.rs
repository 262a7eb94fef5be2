//! `baiwan load`: from flags to a plan, through a run of `baiwan-load`, to what is shown and written of it.
//!
//! What is wrong with the flags, and what cannot be opened for writing, is said before the first connection. The run itself is
//! the business of `baiwan-load`.

pub mod arguments;
mod command;
mod live;
mod output;
pub mod plan;

use std::io::{self, IsTerminal};
use std::process::{Command, ExitCode};

use anyhow::Context;
use baiwan_load::{Need, Plan, Report, Run};

use self::arguments::Arguments;
use self::live::Live;
use self::output::Output;
use self::plan::Bodies;
use crate::logs;

/// The subcommand by which a run starts its workers.
const WORKER: &str = "load-worker";

/// Runs a load and says how it went. Exit code 0: it ran and everything expected of it holds.
///
/// # Errors
///
/// Where the flags ask for what cannot be: one line that names the flag, its value and what is allowed. And where the system
/// cannot make load.
pub fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    baiwan_load::check_system()?;
    arguments.check()?;
    let bodies = Bodies::read(arguments)?;
    let address = match &arguments.unix {
        Some(path) => format!("unix:{}", path.display()),
        None => match arguments.url.look_up() {
            Ok(address) => address.to_string(),
            Err(line) => return Ok(failed(&line)),
        },
    };
    let plan = plan::plan(arguments, &address, &bodies)?;
    baiwan_load::workers(plan.connections, arguments.workers)?;
    let json = Output::open("--json", arguments.json.as_deref())?;
    let html = Output::open("--html", arguments.html.as_deref())?;
    let report = match carry_out(arguments, &plan) {
        Ok(report) => report,
        Err(error) => return Ok(failed(&format!("{error:#}"))),
    };
    let untold = tell(&report, json, html);
    let verdict = verdict(&plan, &report);
    let all_told = untold.is_empty();
    for error in untold {
        failed(&format!("{error:#}"));
    }
    Ok(if all_told { verdict } else { ExitCode::FAILURE })
}

/// Is a worker of a run, until that ends.
pub fn work() -> ExitCode {
    match baiwan_load::worker::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&format!("load worker: {error:#}")),
    }
}

fn failed(line: &str) -> ExitCode {
    logs::print_to_stderr(&format!("baiwan: {line}\n"));
    ExitCode::FAILURE
}

fn carry_out(arguments: &Arguments, plan: &Plan) -> anyhow::Result<Report> {
    let program = std::env::current_exe().context("the path of this program, which the workers need")?;
    let worker = || {
        let mut command = Command::new(&program);
        command.arg(WORKER);
        command
    };
    let run = Run {
        command: command::shown(std::env::args_os()),
        url: arguments.url.url.clone(),
        workers: arguments.workers,
        server_pid: arguments.server_pid,
        every: baiwan_load::SECOND,
        worker: &worker,
    };
    let mut live = Live::new(plan, arguments.quiet, io::stderr().is_terminal());
    let mut report = baiwan_load::run(plan, &run, &mut live)?;
    drop(live);
    if let Some(expectations) = &arguments.expect {
        report.expectations = expectations.judge(&report);
    }
    Ok(report)
}

/// Writes what was asked for, and the summary last: it is what a reader of the terminal looks for. What cannot be written costs
/// itself only, and is returned: what an hour has measured is not lost by a disk that is full.
fn tell(report: &Report, json: Option<Output>, html: Option<Output>) -> Vec<anyhow::Error> {
    let text_is_free = !json.as_ref().is_some_and(Output::is_stdout) && !html.as_ref().is_some_and(Output::is_stdout);
    let json = json.map(|json| json.write(&(serde_json::to_string_pretty(report)? + "\n")));
    let html = html.map(|html| html.write(&baiwan_load::page(report)));
    let mut failures: Vec<anyhow::Error> = [json, html].into_iter().flatten().filter_map(Result::err).collect();
    let summary = baiwan_load::summary(report);
    let printed = if text_is_free { output::print(&summary).context("the summary") } else { Ok(()) };
    if !text_is_free || printed.is_err() {
        logs::print_to_stderr(&summary);
    }
    failures.extend(printed.err());
    failures
}

/// What the run came to, with a line for what else is wrong than an expectation, which the summary tells.
fn verdict(plan: &Plan, report: &Report) -> ExitCode {
    let is_wrong = nothing(plan, report).or_else(|| baiwan_load::deaths(report));
    if let Some(line) = is_wrong {
        return failed(&line);
    }
    match report.expectations.iter().all(|expectation| expectation.met) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Why the run says nothing about the server, if it does not.
fn nothing(plan: &Plan, report: &Report) -> Option<String> {
    if report.connections.opened == 0 {
        let most = report.connections.failures.iter().max_by_key(|(_, times)| **times);
        let why = most.map(|(words, times)| format!(" ({words}; {times} times)")).unwrap_or_default();
        return Some(format!("no connection was opened{why}"));
    }
    (plan::asks(plan) && report.requests.answered == 0).then(|| "nothing was answered as expected".to_owned())
}

/// What must be given for a figure to be measured.
fn flag_of(need: Need) -> &'static str {
    match need {
        Need::Nothing => "nothing",
        Need::ServerPid => "--server-pid",
        Need::Events => "--sse",
    }
}
