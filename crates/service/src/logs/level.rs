//! What of the log is written, which can be changed while the service runs.

use std::sync::{Mutex, OnceLock, PoisonError};

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::{Registry, reload};

use crate::config::parse_log_level;

/// At level debug it writes down what users are called, which is for a log only where the operator asks for just that.
const CLIENT_OF_POSTGRES: &str = "tokio_postgres";

/// What is in force, once logging was started.
static LEVEL: OnceLock<InForce> = OnceLock::new();

struct InForce {
    handle: reload::Handle<Targets, Registry>,
    /// As it was written.
    text: Mutex<String>,
}

/// The filter, for the subscriber that is about to be made.
///
/// # Errors
/// `text` is no filter.
pub(super) fn begin(text: &str) -> anyhow::Result<reload::Layer<Targets, Registry>> {
    let (layer, handle) = reload::Layer::new(filter(text)?);
    // Where logging was started before, that one stays.
    let _ = LEVEL.set(InForce { handle, text: Mutex::new(text.to_owned()) });
    Ok(layer)
}

/// By levels and modules alone: a filter by the fields of spans would bring two crates for regular expressions into the binary.
fn filter(text: &str) -> anyhow::Result<Targets> {
    let filter: Targets = text.parse()?;
    Ok(match text.contains(CLIENT_OF_POSTGRES) {
        true => filter,
        false => filter.with_target(CLIENT_OF_POSTGRES, LevelFilter::WARN),
    })
}

/// The level in force, as `LOG_LEVEL` would be written; `None` before logging was started.
pub fn log_level() -> Option<String> {
    LEVEL.get().map(|level| level.text.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// Changes the level while the service runs, to anything that `LOG_LEVEL` may be. The next lines obey.
///
/// # Errors
/// Says what is allowed; or that logging was not started.
pub fn set_log_level(text: &str) -> Result<(), String> {
    let text = parse_log_level(text)?;
    let filter = filter(&text).map_err(|error| error.to_string())?;
    let level = LEVEL.get().ok_or("logging was not started")?;
    level.handle.reload(filter).map_err(|error| error.to_string())?;
    *level.text.lock().unwrap_or_else(PoisonError::into_inner) = text;
    Ok(())
}
