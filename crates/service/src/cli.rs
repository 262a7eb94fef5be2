//! The command line: `serve`, which is also what `baiwan` alone means, `check-config`, `check-health`, `doctor` and `load`.
//!
//! A setting of `serve` is a flag, else an environment variable, else a line of the file, else a default. clap finds
//! the flags, and [`config`] judges the values. This file decides what is to be done, and turns a
//! refusal into lines that name the setting or the flag, the value and what is allowed.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::check_health::{self, Place};
use crate::config::flags::{self, Flags};
use crate::config::sources::Values;
use crate::config::{self, Again, Config, LogFormat, Reading, Traces, check};
use crate::doctor;
use crate::load::arguments::Arguments;
use crate::logs;

/// Exit code for a wrong setting or argument.
pub const EXIT_WRONG_SETTING: u8 = 2;

#[derive(Parser)]
#[command(name = "baiwan", version, about = "A ready HTTP service that holds a million connections")]
#[command(after_help = "Without a command, `baiwan` serves. The settings: `baiwan serve --help`.")]
struct Cli {
    #[command(subcommand)]
    asked: Option<Asked>,
}

/// The subcommands as clap knows them. It has no `Debug`, because flags may hold secrets.
#[derive(Subcommand)]
enum Asked {
    /// Serve HTTP until SIGTERM or Ctrl-C
    #[command(after_help = SETTINGS_HELP, next_line_help = true)]
    Serve {
        #[command(flatten)]
        flags: Flags,
        /// Put 100 users into an empty database, to look at
        #[arg(long)]
        demo: bool,
    },
    /// Print the value of each setting of `serve` and where it was set, without starting
    #[command(after_help = SETTINGS_HELP, next_line_help = true)]
    CheckConfig {
        #[command(flatten)]
        flags: Flags,
        /// Look too whether `serve` could start here and now: ports, limits of this machine, the database's directory
        #[arg(long)]
        here: bool,
        /// Accepted and ignored
        #[arg(long)]
        demo: bool,
    },
    /// Ask the running service whether it is alive, as the health check of a container
    #[command(after_help = HEALTH_HELP)]
    CheckHealth(Box<check_health::Arguments>),
    /// Say whether this machine can hold a number of connections, and what to set where it cannot
    #[command(after_help = DOCTOR_HELP)]
    Doctor(Box<doctor::Arguments>),
    /// Make load: many connections, closed and open loops, honest latencies
    #[command(after_help = LOAD_HELP)]
    Load(Box<Arguments>),
    /// A worker of `load`
    #[command(hide = true)]
    LoadWorker,
}

/// What `baiwan` is asked to do.
#[derive(Debug)]
pub enum Command {
    /// Serve with these settings, which can be read anew.
    Serve(Box<Config>, Box<Reading>),
    /// Print this table of settings, which are all right.
    CheckConfig(String),
    /// Print it, and look whether the settings could be served here and now.
    CheckHere {
        /// The table.
        table: String,
        /// The settings.
        config: Box<Config>,
    },
    /// Ask the running service whether it is healthy.
    CheckHealth {
        /// What to ask; None is the service that the settings describe.
        url: Option<Place>,
        /// The settings at hand.
        config: Box<Config>,
    },
    /// Say whether this machine can hold connections.
    Doctor {
        /// The settings at hand.
        config: Box<Config>,
        /// How many connections; None is as many as the settings ask for.
        connections: Option<u64>,
        /// Print JSON.
        json: bool,
    },
    /// Make load.
    Load(Box<Arguments>),
    /// Be a worker of a load.
    LoadWorker,
}

const SETTINGS_HELP: &str = "A flag wins over its variable, a variable over the file, the file over the default; an \
    empty variable is unset.\n\
    The file is TOML: `header_timeout = \"10s\"` for HEADER_TIMEOUT.\n\
    Durations are a whole number with a unit: 500ms, 10s, 2m, 1h. What can be off takes off.";

const HEALTH_HELP: &str = "It takes the flags, variables and file of `baiwan serve`: give it the same ones, so that it finds the service. \
    It asks the admin side if ADMIN_HOST or ADMIN_PORT is set, else the server, and ends within 2 seconds.\n\
    In a Dockerfile: HEALTHCHECK CMD [\"baiwan\", \"check-health\"]\n\
    Exit codes: 0 healthy; 1 not healthy, or no answer; 2 a wrong argument or setting.";

const LOAD_HELP: &str = "Examples:
  baiwan load http://localhost:8080/                                  50 connections, 10 seconds, as fast as it goes
  baiwan load http://localhost:8080/ --rate 10000 --duration 1m       an open loop: latency counts from when a request is due
  baiwan load http://localhost:8080/ --connections 1000000 --ramp 60s --hold 5m --rate 1000 --active 1%
  baiwan load http://localhost:8080/ --html report.html --expect 'p99<50ms,errors=0'

Durations are a whole number with a unit: 500ms, 10s, 2m, 1h.
Exit codes: 0 it ran, and all of --expect holds; 1 it does not hold, nothing was answered or the run failed; 2 a wrong argument.
Everything else: docs/load.md.";

const DOCTOR_HELP: &str = "It judges the settings that `baiwan serve` would have, from flags, variables and file: FD_TABLES, WORKERS, \
    MAX_CONNECTIONS, TAKEOVER, RATE_LIMIT_STORE and DATABASE_URL count.\n\
    Exit codes: 0 they can be held (warnings do not change that); 1 they cannot; 2 a wrong argument or setting.";

/// Why there is no [`Command`] to run: refused settings, or clap's own answer (which includes `--help`).
#[derive(Debug)]
pub enum Refusal {
    /// One line that names the flag, its value and what is allowed.
    Setting(String),
    /// Such a line for each setting that is wrong; at least one.
    Settings {
        /// The lines.
        lines: Vec<String>,
        /// How they are to look: that of the log they are for, as far as it could be read.
        format: LogFormat,
    },
    /// Help, version or a usage error, as clap words it.
    Usage(clap::Error),
}

impl Refusal {
    /// Prints the refusal where it belongs and gives the exit code.
    pub fn print(&self) -> ExitCode {
        match self {
            Self::Setting(line) => print_lines(LogFormat::Text, std::slice::from_ref(line)),
            Self::Settings { lines, format } => print_lines(*format, lines),
            Self::Usage(error) => {
                let printed = error.print();
                if !error.use_stderr() {
                    return answered(printed);
                }
                // A standard error that is gone is no reason for another exit code.
                ExitCode::from(EXIT_WRONG_SETTING)
            }
        }
    }
}

/// Prints what was asked for on standard output and gives the exit code.
pub fn answer(text: &str) -> ExitCode {
    answered(io::stdout().lock().write_all(text.as_bytes()))
}

/// The exit code after an answer on standard output. A reader that has gone, as `head` does, has what it wanted: that is a
/// success, without a word. An answer that could not be written for another reason is a failure, in one line.
fn answered(printed: io::Result<()>) -> ExitCode {
    match printed.and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            logs::print_to_stderr(&format!("baiwan: standard output: {error}\n"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn print_lines(format: LogFormat, lines: &[String]) -> ExitCode {
    logs::print_fatal(format, lines);
    ExitCode::from(EXIT_WRONG_SETTING)
}

/// Reads the command line, `arguments` including the program's name, and for settings the environment and their file.
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
    let given = arguments[1..].to_vec();
    let mut command = command();
    // Only a built command can write its arguments as an error names them.
    command.build();
    let cli = self::command()
        .try_get_matches_from(arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches))
        .map_err(|error| without_serve(&command, &given).unwrap_or_else(|| refusal(&command, &name, error)))?;
    match cli.asked {
        Some(Asked::Serve { flags, demo }) => {
            let again = Again::new(flags, demo);
            let values = again.values();
            let config = read(&values, demo, config::log_format(&values))?;
            Ok(Command::Serve(config, Box::new(Reading { again, traces: Traces::of(&values) })))
        }
        Some(Asked::CheckConfig { flags, here, demo }) => {
            let values = values(&flags);
            let config = read(&values, demo, LogFormat::Text)?;
            let table = check::table(&config, &values);
            Ok(if here { Command::CheckHere { table, config } } else { Command::CheckConfig(table) })
        }
        Some(Asked::CheckHealth(arguments)) => {
            let config = read(&values(&arguments.flags), false, LogFormat::Text)?;
            Ok(Command::CheckHealth { url: arguments.url, config })
        }
        Some(Asked::Doctor(arguments)) => {
            let config = read(&values(&arguments.flags), false, LogFormat::Text)?;
            Ok(Command::Doctor { config, connections: arguments.connections, json: arguments.json })
        }
        Some(Asked::Load(arguments)) => Ok(Command::Load(arguments)),
        Some(Asked::LoadWorker) => Ok(Command::LoadWorker),
        None => {
            let help = command.render_help();
            Err(Refusal::Usage(clap::Error::raw(ErrorKind::DisplayHelp, help).with_cmd(&command)))
        }
    }
}

fn values(flags: &Flags) -> Values {
    Values::find(flags, std::env::var_os)
}

/// Judges the settings; `format` is how lines about wrong ones are to look.
fn read(values: &Values, demo: bool, format: LogFormat) -> Result<Box<Config>, Refusal> {
    Config::read(values, demo).map(Box::new).map_err(|lines| Refusal::Settings { lines, format })
}

/// The commands as clap knows them, which man pages and completions are made of, too. `doctor` and `check-health` take the settings as
/// well, but their help would be lost among those.
pub fn command() -> clap::Command {
    let is_setting = |argument: &clap::Arg| config::rows().any(|row| argument.get_id() == row.flag().as_str());
    let hidden = |argument: clap::Arg| if is_setting(&argument) { argument.hide(true) } else { argument };
    ["doctor", "check-health"]
        .into_iter()
        .fold(Cli::command(), |command, name| command.mut_subcommand(name, |subcommand| subcommand.mut_args(hidden)))
}

/// Flags of `serve` that were given to `baiwan` itself: what was meant, without what may be a secret.
fn without_serve(command: &clap::Command, given: &[OsString]) -> Option<Refusal> {
    let first = given.first()?.to_str()?.strip_prefix("--")?;
    let first = first.split_once('=').map_or(first, |(name, _)| name);
    let flags = |command: &clap::Command| command.get_arguments().any(|argument| argument.get_long() == Some(first));
    if !command.find_subcommand("serve").is_some_and(flags) || flags(command) {
        return None;
    }
    let words = flags::shown(given);
    Some(Refusal::Setting(format!("--{first} is a flag of `baiwan serve`; did you mean `baiwan serve {words}`?")))
}

/// A wrong value of a flag of `load` is one line as well.
fn refusal(command: &clap::Command, name: &OsStr, error: clap::Error) -> Refusal {
    match command.find_subcommand(name) {
        Some(command) if error.kind() == ErrorKind::ValueValidation => {
            wrong_value(command, &error).map_or(Refusal::Usage(error), Refusal::Setting)
        }
        _ => Refusal::Usage(error),
    }
}

fn wrong_value(command: &clap::Command, error: &clap::Error) -> Option<String> {
    let flag = error.get(ContextKind::InvalidArg)?.to_string();
    let value = error.get(ContextKind::InvalidValue)?.to_string();
    let allowed = std::error::Error::source(error)?.to_string();
    let argument = command.get_arguments().find(|argument| argument.to_string() == flag)?;
    let long = argument.get_long().map(|long| format!("--{long}"));
    let name = long.unwrap_or_else(|| argument.get_id().as_str().to_uppercase());
    Some(format!("{name} is {:?}; allowed is {allowed}", without_userinfo(&value)))
}

/// A URL may carry a name and a password.
fn without_userinfo(url: &str) -> String {
    match url.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?))) {
        Some((scheme, (_, rest))) => format!("{scheme}://…@{rest}"),
        None => url.to_owned(),
    }
}
