//! Logs, and everything else that is said to the operator, go to standard error, so that all of it is in one place
//! and in order; standard output stays empty. A stderr that is gone never stops the service.

use std::io::{self, IsTerminal, Write};

use serde_json::json;
use tracing_subscriber::EnvFilter;

use crate::clock;
use crate::config::LogFormat;

/// At level debug it writes down what users are called, which is for a log only where the operator asks for just that.
const CLIENT_OF_POSTGRES: &str = "tokio_postgres";

/// Starts logging for the process and says whether it is JSON. `level` was checked when the settings were read.
///
/// # Errors
///
/// Logging was started before, or `level` is no filter.
pub fn start(level: &str, format: LogFormat) -> anyhow::Result<bool> {
    let json = is_json(format);
    let mut filter = EnvFilter::try_new(level)?;
    if !level.contains(CLIENT_OF_POSTGRES) {
        filter = filter.add_directive(format!("{CLIENT_OF_POSTGRES}=warn").parse()?);
    }
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let started = if json { subscriber.json().flatten_event(true).try_init() } else { subscriber.try_init() };
    started.map_err(|error| anyhow::anyhow!("logging: {error}"))?;
    Ok(json)
}

fn is_json(format: LogFormat) -> bool {
    match format {
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Json => true,
        LogFormat::Text => false,
    }
}

/// Says in the format of the log why nothing runs: one line for each of `reasons`, whatever the level of the log.
pub fn print_fatal(format: LogFormat, reasons: &[String]) {
    let line = |reason: &String| match is_json(format) {
        // With the members of any other line of the log.
        true => {
            let timestamp = clock::now_rfc3339();
            let line = json!({"timestamp": timestamp, "level": "ERROR", "message": reason, "target": "baiwan"});
            format!("{line}\n")
        }
        false => format!("baiwan: {reason}\n"),
    };
    print_to_stderr(&reasons.iter().map(line).collect::<String>());
}

/// Writes `text` to standard error in one piece.
pub fn print_to_stderr(text: &str) {
    // There is nowhere left to report a failure.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
