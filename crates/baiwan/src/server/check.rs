//! What is asked of all settings together, at the start and whenever they change.
//!
//! The invariant: what is refused here is refused in the words of the table of settings.

use crate::Error;
use crate::settings::{CONNECTIONS_MAX, Settings, TABLE, parse_count, quoted};

/// Refuses what a program has set and no other door would take. `prefix` stands before the names of settings.
pub(super) fn check(settings: &Settings, prefix: &str) -> Result<(), Error> {
    let wrong = |name: &str, allowed: String| {
        let setting = TABLE.iter().find(|setting| setting.row.name == name);
        let value = setting.map_or_else(String::new, |setting| quoted(&(setting.show)(settings)));
        Error::Variable { name: format!("{prefix}{name}"), value, allowed }
    };
    if let Some(count @ 0) = settings.max_connections {
        parse_count(&count.to_string(), CONNECTIONS_MAX).map_err(|allowed| wrong("MAX_CONNECTIONS", allowed))?;
    }
    match settings.conflicts(prefix).into_iter().next() {
        Some(([name, _], allowed)) => Err(wrong(name, allowed)),
        None => Ok(()),
    }
}
