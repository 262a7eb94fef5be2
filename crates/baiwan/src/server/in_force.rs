//! What is in force, as the dashboard shows it: the version, the event loop, limits and timeouts, by the names of their settings.

use super::Running;
use crate::admin::wall_ms;
use crate::dashboard::{Facts, Rows};
use crate::settings::TABLE;

/// Settings that are shown, in this order.
const SHOWN: [&str; 17] = [
    "RATE_LIMIT",
    "RATE_LIMIT_MODE",
    "MAX_CONNECTIONS_PER_IP",
    "NEW_CONNECTIONS_PER_IP",
    "MAX_CONNECTION_AGE",
    "MAX_CONNECTION_REQUESTS",
    "OVERLOAD",
    "TRUSTED_PROXIES",
    "HEADER_TIMEOUT",
    "KEEP_ALIVE_TIMEOUT",
    "REQUEST_TIMEOUT",
    "BODY_TIMEOUT",
    "WRITE_TIMEOUT",
    "HEAD_LIMIT",
    "LIVE_TIMEOUT",
    "SLOW_POLL",
    "SHUTDOWN_TIMEOUT",
];

impl Running {
    /// What the dashboard shows of this server that stays as it is.
    pub(super) fn facts(&self) -> Facts {
        let started_ms = wall_ms();
        Facts {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: format!("{}-{started_ms}", std::process::id()),
            started_ms,
            connections_max: self.capacity.max_connections,
            in_force: Rows::new(self.in_force()),
        }
    }

    fn in_force(&self) -> Vec<(String, String)> {
        let connections = std::iter::once(format!("at most {}", self.capacity.max_connections));
        let row = |label: &str, value: String| (label.to_owned(), value);
        let mut rows = vec![
            row("listening", self.addresses().join(" ")),
            row("event loop", self.event_loop.name().to_owned()),
            row("fd tables", self.settings.fd_tables.name().to_owned()),
            row("workers", self.status.cores.len().to_string()),
            row("connections", connections.chain(self.capacity.notes.iter().cloned()).collect::<Vec<_>>().join("; ")),
        ];
        let setting = |name: &&str| TABLE.iter().find(|setting| setting.row.name == *name);
        let shown = SHOWN.iter().filter_map(setting);
        rows.extend(shown.map(|setting| row(setting.row.name, (setting.show)(&self.settings))));
        rows
    }
}
