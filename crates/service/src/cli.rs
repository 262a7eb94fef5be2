//! The command line: `serve`, which is also what `baiwan` alone means, and `load`.
//!
//! A setting of `serve` is a flag, else an environment variable, else a default; an empty variable counts as unset. clap finds
//! the value and the parsers of [`config`](crate::config) judge it; this file turns a refusal into one line that
//! names the variable, or the flag, the value and what is allowed.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::Config;
use crate::load::arguments::Arguments;
use crate::logs;

/// Exit code for a wrong setting or argument.
pub const EXIT_WRONG_SETTING: u8 = 2;

#[derive(Debug, Parser)]
#[command(name = "baiwan", version, about = "A ready HTTP service that holds a million connections")]
#[command(after_help = "Without a command, `baiwan` serves. The settings: `baiwan serve --help`.")]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

/// What `baiwan` is asked to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve HTTP until SIGTERM or Ctrl-C
    #[command(after_help = SETTINGS_HELP, next_line_help = true)]
    Serve(Box<Config>),
    /// Make load: many connections, closed and open loops, honest latencies
    #[command(after_help = LOAD_HELP)]
    Load(Box<Arguments>),
    /// A worker of `load`
    #[command(hide = true)]
    LoadWorker,
}

const SETTINGS_HELP: &str = "A flag wins over its variable, a variable over the default; an empty variable is unset.\n\
    Durations are a whole number with a unit: 500ms, 10s, 2m, 1h; 0 is none.";

const LOAD_HELP: &str = "Examples:
  baiwan load http://localhost:8080/                                  50 connections, 10 seconds, as fast as it goes
  baiwan load http://localhost:8080/ --rate 10000 --duration 1m       an open loop: latency counts from when a request is due
  baiwan load http://localhost:8080/ --connections 1000000 --ramp 60s --hold 5m --rate 1000 --active 1%
  baiwan load http://localhost:8080/ --html report.html --expect 'p99<50ms,errors=0'

Durations are a whole number with a unit: 500ms, 10s, 2m, 1h.
Exit codes: 0 it ran, and all of --expect holds; 1 it does not hold, nothing was answered or the run failed; 2 a wrong argument.
Everything else: docs/load.md.";

/// Why there is no [`Command`] to run: a refused setting, or clap's own answer (which includes `--help`).
#[derive(Debug)]
pub enum Refusal {
    /// One line that names the variable, its value and what is allowed.
    Setting(String),
    /// Help, version or a usage error, as clap words it.
    Usage(clap::Error),
}

impl Refusal {
    /// Prints the refusal where it belongs and gives the exit code.
    pub fn print(&self) -> ExitCode {
        match self {
            Self::Setting(line) => {
                logs::print_to_stderr(&format!("baiwan: {line}\n"));
                ExitCode::from(EXIT_WRONG_SETTING)
            }
            Self::Usage(error) => {
                // A closed terminal is no reason for another exit code.
                let _ = error.print();
                if error.use_stderr() { ExitCode::from(EXIT_WRONG_SETTING) } else { ExitCode::SUCCESS }
            }
        }
    }
}

/// Reads the command line, `arguments` including the program's name, and the environment.
///
/// # Errors
///
/// A [`Refusal`] when there is nothing to run.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Refusal> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    if arguments.len() <= 1 {
        arguments = vec!["baiwan".into(), "serve".into()];
    }
    let name = arguments[1].clone();
    let mut command = Cli::command();
    // Only a built command can write its arguments as an error names them.
    command.build();
    let cli = without_empty_variables(Cli::command())
        .try_get_matches_from(arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches))
        .map_err(|error| refusal(&command, &name, error))?;
    let Some(asked) = cli.command else {
        let help = command.render_help();
        return Err(Refusal::Usage(clap::Error::raw(ErrorKind::DisplayHelp, help).with_cmd(&command)));
    };
    if let Command::Serve(config) = &asked {
        config.check().map_err(Refusal::Setting)?;
    }
    Ok(asked)
}

/// An empty variable is what a compose file leaves behind for "not set": clap must not see it as a value.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    command.mut_subcommands(|subcommand| {
        subcommand.mut_args(|argument| {
            let empty = argument.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
            if empty { argument.env(Resettable::Reset) } else { argument }
        })
    })
}

fn refusal(command: &clap::Command, name: &OsStr, error: clap::Error) -> Refusal {
    let Some(command) = command.find_subcommand(name) else { return Refusal::Usage(error) };
    match error.kind() {
        ErrorKind::ValueValidation => wrong_value(command, &error).map_or(Refusal::Usage(error), Refusal::Setting),
        ErrorKind::InvalidUtf8 => not_text(command).map_or(Refusal::Usage(error), Refusal::Setting),
        _ => Refusal::Usage(error),
    }
}

fn wrong_value(command: &clap::Command, error: &clap::Error) -> Option<String> {
    let flag = error.get(ContextKind::InvalidArg)?.to_string();
    let value = error.get(ContextKind::InvalidValue)?.to_string();
    let allowed = std::error::Error::source(error)?.to_string();
    let argument = command.get_arguments().find(|argument| argument.to_string() == flag)?;
    let long = argument.get_long().map(|long| format!("--{long}"));
    let Some(variable) = argument.get_env().map(OsStr::to_string_lossy) else {
        let name = long.unwrap_or_else(|| argument.get_id().as_str().to_uppercase());
        return Some(format!("{name} is {:?}; allowed is {allowed}", without_userinfo(&value)));
    };
    let shown = if variable == "DATABASE_URL" { without_secrets(&value) } else { value };
    Some(format!("{variable} (or {}) is {shown:?}; allowed is {allowed}", long?))
}

/// clap does not say which variable is not text, so the first such one is named.
fn not_text(command: &clap::Command) -> Option<String> {
    command.get_arguments().filter_map(clap::Arg::get_env).find_map(|variable| {
        let value = std::env::var_os(variable)?;
        let variable = variable.to_string_lossy();
        value.to_str().is_none().then(|| format!("{variable} is {value:?}; allowed is UTF-8 text"))
    })
}

/// A database URL may carry a password: only its scheme is repeated.
fn without_secrets(url: &str) -> String {
    match url.split_once(':') {
        Some((scheme, rest)) if !rest.is_empty() && scheme != "sqlite" => format!("{scheme}:…"),
        Some(_) => url.to_owned(),
        None => "…".to_owned(),
    }
}

/// A URL may carry a name and a password.
fn without_userinfo(url: &str) -> String {
    match url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?))) {
        Some((scheme, (_, rest))) => format!("{scheme}://…@{rest}"),
        None => url.to_owned(),
    }
}
