//! The binary `baiwan`. Exit codes: 0 stopped as asked, 1 it could not start or run, or its answer could not be written, 2 a wrong
//! setting or argument. That of `baiwan load` is 1 too when what was expected of the run does not hold, that of `baiwan doctor` when the
//! machine cannot hold the connections, that of `baiwan check-health` when the service is not healthy, and that of `baiwan check-config --here` when `serve` could not start.

use std::process::ExitCode;

use baiwan_service::cli::{self, Command, Refusal};
use baiwan_service::config::{Config, LogFormat};
use baiwan_service::{check_health, doctor, load, logs, notify, serve};

/// One line, whatever the causes were: they are joined with colons. An error of the engine says itself what its cause was.
fn line(error: &anyhow::Error) -> String {
    match error.downcast_ref::<baiwan::Error>() {
        Some(error) => error.to_string(),
        None => format!("{error:#}"),
    }
}

/// Prints the settings, what would be said of them at the start, and what would be refused, as `serve` would.
fn check_here(table: &str, config: &Config) -> ExitCode {
    let (notes, refusals) = doctor::look_here(config);
    let printed = cli::answer(&format!("{table}{notes}"));
    if refusals.is_empty() {
        return printed;
    }
    logs::print_fatal(LogFormat::Text, &refusals.iter().map(line).collect::<Vec<_>>());
    ExitCode::FAILURE
}

/// The exit code says whether the connections can be held, whoever reads the rest.
fn say_what_is_held(report: &doctor::Report, json: bool) -> ExitCode {
    let printed = cli::answer(&if json { report.json() } else { report.text() });
    if report.can_be_held() { printed } else { ExitCode::FAILURE }
}

/// The exit code says whether the service is healthy, whoever reads the rest.
fn say_what_was_found(found: Result<check_health::Finding, String>) -> ExitCode {
    match found {
        Ok(check_health::Finding { is_healthy, line }) => {
            let printed = cli::answer(&format!("{line}\n"));
            if is_healthy { printed } else { ExitCode::FAILURE }
        }
        Err(line) => Refusal::Setting(line).print(),
    }
}

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(refusal) => return refusal.print(),
    };
    match command {
        Command::Serve(config, reading) => {
            // When a panic ends it, too.
            let _last_lines = logs::LastLines;
            match serve::run(&config, *reading) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    let line = line(&error);
                    notify::failed(&line, config.server.takeover.as_deref());
                    logs::print_fatal(config.log_format, &[line]);
                    ExitCode::FAILURE
                }
            }
        }
        Command::CheckConfig(table) => cli::answer(&table),
        Command::CheckHere { table, config } => check_here(&table, &config),
        Command::CheckHealth { url, config } => say_what_was_found(check_health::run(url, &config)),
        Command::Doctor { config, connections, json } => {
            say_what_is_held(&doctor::examine_here(&config, connections), json)
        }
        Command::Load(arguments) => load::run(&arguments).unwrap_or_else(|line| Refusal::Setting(line).print()),
        Command::LoadWorker => load::work(),
    }
}
