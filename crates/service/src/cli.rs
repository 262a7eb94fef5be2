//! The command line: one subcommand today, `serve`, which is also what `baiwan` alone means.
//!
//! A setting is a flag, else an environment variable, else a default; an empty variable counts as unset. clap finds
//! the value and the parsers of [`config`](crate::config) judge it; this file turns a refusal into one line that
//! names the variable, the value and what is allowed.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::Config;
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
}

const SETTINGS_HELP: &str = "A flag wins over its variable, a variable over the default; an empty variable is unset.\n\
    Durations are a whole number with a unit: 500ms, 10s, 2m, 1h; 0 is none.";

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
    let mut command = Cli::command();
    // Only a built command can write its arguments as an error names them.
    command.build();
    let cli = without_empty_variables(Cli::command())
        .try_get_matches_from(arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches))
        .map_err(|error| refusal(&command, error))?;
    let Some(Command::Serve(config)) = cli.command else {
        let help = command.render_help();
        return Err(Refusal::Usage(clap::Error::raw(ErrorKind::DisplayHelp, help).with_cmd(&command)));
    };
    config.check().map_err(Refusal::Setting)?;
    Ok(Command::Serve(config))
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

fn refusal(command: &clap::Command, error: clap::Error) -> Refusal {
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
    let argument = settings(command).find(|argument| argument.to_string() == flag)?;
    let variable = argument.get_env()?.to_string_lossy();
    let long = argument.get_long()?;
    let shown = if variable == "DATABASE_URL" { without_secrets(&value) } else { value };
    Some(format!("{variable} (or --{long}) is {shown:?}; allowed is {allowed}"))
}

/// clap does not say which variable is not text, so the first such one is named.
fn not_text(command: &clap::Command) -> Option<String> {
    settings(command).filter_map(clap::Arg::get_env).find_map(|variable| {
        let value = std::env::var_os(variable)?;
        let variable = variable.to_string_lossy();
        value.to_str().is_none().then(|| format!("{variable} is {value:?}; allowed is UTF-8 text"))
    })
}

fn settings(command: &clap::Command) -> impl Iterator<Item = &clap::Arg> {
    command.get_subcommands().flat_map(clap::Command::get_arguments)
}

/// A database URL may carry a password: only its scheme is repeated.
fn without_secrets(url: &str) -> String {
    match url.split_once(':') {
        Some((scheme, rest)) if !rest.is_empty() && scheme != "sqlite" => format!("{scheme}:…"),
        Some(_) => url.to_owned(),
        None => "…".to_owned(),
    }
}
