//! `baiwan doctor`: whether this machine can hold a number of connections, with the settings at hand, and what to set where it cannot.
//!
//! ```text
//!   settings ─► Question ─┐
//!   /proc, /sys, disk ────┴─► a list of Check (files, network, memory, processors, disk) ─► Report ─► text or JSON, exit code
//! ```
//!
//! What a connection needs of files and memory is the engine's law (`baiwan::machine`), which its start obeys too. Everything is read below a
//! root, so that tests show it machines that there are not. Invariant: it changes nothing, and a value that cannot be read is said to be so
//! and fails nothing.

mod disk;
mod files;
mod here;
mod memory;
mod network;
mod processors;
mod report;
mod source;

use std::path::Path;

use baiwan::FdTables;
use baiwan::machine::{CONNECTIONS_DEFAULT, MemoryLimit, decide, undisturbed};
use baiwan::settings::{CONNECTIONS_MAX, parse_count};
use clap::Args;

use crate::config::Config;
use crate::config::flags::Flags;
use crate::store::Location;

pub use self::here::look as look_here;
pub use self::report::{Check, Report, Verdict};

use self::source::Source;

// clap takes the doc comments below as help, so they are written for the reader of `--help`. It has no `Debug`, because flags may hold
// secrets.
/// The flags of `baiwan doctor`.
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    pub(crate) flags: Flags,

    /// Connections to hold [default: MAX_CONNECTIONS, which is 1000000 unless it is set]
    #[arg(long = "for", value_name = "N", value_parser = parse_connections)]
    pub connections: Option<u64>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn parse_connections(text: &str) -> Result<u64, String> {
    parse_count(text, CONNECTIONS_MAX)
}

/// What is asked of the machine.
#[derive(Clone, Debug)]
pub struct Question {
    /// Connections to hold at once.
    pub connections: u64,
    /// The maximum that was set, if one was.
    pub connections_max: Option<u64>,
    /// Worker threads.
    pub cores: usize,
    /// Whether they share one fd table.
    pub fd_tables: FdTables,
    /// Whether there is an admin side, which has files of its own.
    pub has_admin: bool,
    /// Whether another process can take over from it, which needs files.
    pub has_takeover: bool,
    /// Whether the budgets of the rate limit are in a server, to which there is a connection.
    pub has_limit_store: bool,
    /// Addresses that each core listens on.
    pub listeners: u64,
    /// Where the store is. A path that is not absolute is in a working directory that cannot be read.
    pub database: Location,
}

impl Question {
    /// Whether the settings `config` can be had with this number of connections; without one, with as many as the settings ask for. `database`
    /// is where the store is.
    pub fn new(config: &Config, database: Location, connections: Option<u64>) -> Self {
        let connections_max = config.server.max_connections;
        Self {
            connections: connections.or(connections_max).unwrap_or(CONNECTIONS_DEFAULT),
            connections_max,
            cores: config.server.worker_count(),
            fd_tables: config.server.fd_tables,
            has_admin: config.admin.host.is_some(),
            has_takeover: config.server.takeover.is_some(),
            has_limit_store: config.rate_limit_store.is_in_server(),
            listeners: config.server.binding.addresses().len() as u64,
            database,
        }
    }
}

/// Asks the machine whose files are below `root`.
pub fn examine(root: &Path, question: &Question) -> Report {
    let source = Source::new(root);
    let mut checks = Vec::new();
    checks.extend(maximum(question));
    checks.extend(files::checks(&source, question));
    checks.extend(network::checks(&source, question));
    checks.extend(memory::checks(&source, question));
    checks.extend(processors::checks(&source, question));
    checks.push(disk::check(&source, &question.database));
    Report { connections: question.connections, possible: possible(&source, question), checks }
}

/// How many of the connections there can be, as the start of the server would decide, and hold without memory pressure.
fn possible(source: &Source<'_>, question: &Question) -> u64 {
    let memory = MemoryLimit::read(source.root());
    let files = files::limits(source, question);
    let by_setting = question.connections_max.unwrap_or(u64::MAX).min(question.connections);
    let undisturbed = memory.as_ref().map_or(u64::MAX, |memory| undisturbed(memory, question.cores as u64));
    let possible = match decide("", Some(by_setting), question.cores, files, memory.as_ref()) {
        Err(baiwan::Error::MaxConnections { possible, .. }) => possible,
        _ => by_setting,
    };
    possible.min(undisturbed)
}

/// A maximum that was set to less.
fn maximum(question: &Question) -> Option<Check> {
    let max = question.connections_max?;
    let check = Check::new("MAX_CONNECTIONS", max.to_string(), format!("at least {}", question.connections));
    let check = check.numbers(Some(max), Some(question.connections));
    Some(match max < question.connections {
        true => check.fails([format!("MAX_CONNECTIONS={}", question.connections)]),
        false => check,
    })
}

/// Asks whether this machine can hold this number of connections with the settings `config`; without one, as many as the settings ask for.
pub fn examine_here(config: &Config, connections: Option<u64>) -> Report {
    examine(Path::new("/"), &Question::new(config, config.place(), connections))
}

#[cfg(test)]
mod tests;
