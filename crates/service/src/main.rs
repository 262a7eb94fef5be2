//! The binary `baiwan`. Exit codes: 0 stopped as asked, 1 it could not start or run, or its answer could not be written, 2 a wrong
//! setting or argument. That of `baiwan load` is 1 too when what was expected of the run does not hold.

use std::process::ExitCode;

use baiwan_service::cli::{self, Command, Refusal};
use baiwan_service::{load, logs, serve};

/// One line, whatever the causes were: they are joined with colons. An error of the engine says itself what its cause was.
fn line(error: &anyhow::Error) -> String {
    match error.downcast_ref::<baiwan::Error>() {
        Some(error) => error.to_string(),
        None => format!("{error:#}"),
    }
}

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(refusal) => return refusal.print(),
    };
    match command {
        Command::Serve(config) => {
            // When a panic ends it, too.
            let _last_lines = logs::LastLines;
            match serve::run(&config) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    logs::print_fatal(config.log_format, &[line(&error)]);
                    ExitCode::FAILURE
                }
            }
        }
        Command::CheckConfig(table) => cli::answer(&table),
        Command::Load(arguments) => load::run(&arguments).unwrap_or_else(|line| Refusal::Setting(line).print()),
        Command::LoadWorker => load::work(),
    }
}
