//! Leads the worker processes through the phases of a plan, and makes one report of what they count.

use std::process::Command;

use crate::plan::{Phase, Plan};
use crate::report::{Report, Second};

/// What a run needs to know beside its plan.
pub struct Run<'a> {
    /// How it was called, and what is asked: for the report.
    pub command: String,
    /// See `command`.
    pub url: String,
    /// Worker processes. None: as few as the limit of open files allows.
    pub workers: Option<u64>,
    /// The server's process, where it is to be watched.
    pub server_pid: Option<u32>,
    /// Makes the command that starts a worker: a program that calls [`worker::run`](crate::worker).
    pub worker: &'a dyn Fn() -> Command,
}

/// Is told how a run goes.
pub trait Observer {
    /// A phase begins.
    fn phase(&mut self, index: usize, phase: &Phase);
    /// Another second has passed.
    fn second(&mut self, second: &Second);
}

/// Carries out a plan. Ctrl-C and SIGTERM end it in order, with the report so far.
///
/// # Errors
/// When nothing listens at the address, a worker cannot be started, or one fails: what to tell the user, in one line.
pub fn run(_plan: &Plan, _run: &Run<'_>, _observer: &mut dyn Observer) -> anyhow::Result<Report> {
    anyhow::bail!("not connected to workers")
}
