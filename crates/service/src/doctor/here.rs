//! `check-config --here`: whether `serve` could start on this machine now, by asking what its start asks, in its order and its words.
//!
//! Invariant: nothing is left behind: no file, no listener, no process.

use std::fmt::Write;
use std::path::Path;

use baiwan::Server;

use super::files::{FILES_TO_NOTIFY, of_service};
use super::report::Verdict;
use super::{Question, examine};
use crate::config::Config;
use crate::notify;
use crate::store::Store;

/// What the start would say of the settings `config` (lines; none is an empty text), and why it would fail, where it would.
pub fn look(config: &Config) -> (String, Vec<anyhow::Error>) {
    let database = config.place();
    let mut refusals = Vec::new();
    match config.location_here() {
        Ok(location) => refusals.extend(Store::look(&location).map_err(anyhow::Error::new).err()),
        Err(refusal) => refusals.push(refusal),
    }
    let server = Server::from_settings(config.server.clone());
    let server = match config.admin.admin(None) {
        Some(admin) => server.admin(admin),
        None => server,
    };
    let files_to_notify = if notify::is_asked_for() { FILES_TO_NOTIFY } else { 0 };
    let capacity = server.rehearse(of_service(config.rate_limit_store.is_in_server()) + files_to_notify);
    let mut notes = Vec::new();
    let question = match capacity {
        Ok(capacity) => {
            notes = capacity.notes;
            Question::new(config, database, Some(capacity.max_connections))
        }
        Err(errors) => {
            refusals.extend(errors.into_iter().map(anyhow::Error::new));
            Question::new(config, database, None)
        }
    };
    let mut text = String::new();
    for note in &notes {
        let _ = writeln!(text, "note: {note}");
    }
    // What fails of what the start does not ask is said as well, and is no reason for it to fail.
    let report = examine(Path::new("/"), &question);
    for verdict in [Verdict::Fails, Verdict::Warning] {
        report.with(verdict).for_each(|check| text += &check.lines());
    }
    (if text.is_empty() { text } else { format!("\n{text}") }, refusals)
}
