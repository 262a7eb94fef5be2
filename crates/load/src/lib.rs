//! A load generator: many connections, closed and open loops, honest latencies.
//!
//! ```text
//!   Plan ──► coordinator ──► worker process ──► driver, http1 ──► the server
//!              │   ▲          worker process          as many as the limit of open files demands
//!              │   └───────── a Tally every second
//!              ▼
//!            Report ──► summary, JSON, HTML, expectations
//! ```
//!
//! A worker is a process with one thread and one event loop over its share of the connections. What it sends and when is decided
//! by the [`Phase`] that the coordinator has begun in all of them. In an open loop a request's latency counts from when it was
//! due, whenever it could be sent. This crate is *not* a benchmark suite: it knows one URL and one request.

#![cfg_attr(
    not(all(target_os = "linux", not(baiwan_portable))),
    allow(dead_code, reason = "what only workers use is built without them, too")
)]

mod clock;
mod coordinator;
mod expect;
mod files;
mod html;
pub mod kernel_memory;
mod latencies;
mod message;
mod plan;
pub mod plot;
pub mod process;
mod record;
mod report;
mod sources;
mod summary;
mod tally;
mod target;
mod team;
pub mod units;
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
pub mod worker;

/// In place of workers, where none can run.
#[cfg(not(all(target_os = "linux", not(baiwan_portable))))]
pub mod worker {
    /// Fails.
    ///
    /// # Errors
    /// What is missing: see [`check_system`](crate::check_system).
    pub fn run() -> anyhow::Result<()> {
        crate::check_system().map_err(anyhow::Error::msg)
    }
}

pub use clock::{SECOND_NS, now_ns};
pub use coordinator::{Observer, Run, SECOND, run};
pub use expect::{Expectations, Need};
pub use files::{check_system, workers};
pub use html::page;
pub use latencies::{Latencies, Quantiles};
pub use plan::{Phase, Plan, Share, Sources};
pub use report::{
    Bytes, Client, Connections, Events, Expectation, PhaseReport, REPORT_VERSION, Report, Requests, Second, Server,
};
pub use summary::{deaths, doubt, summary};
pub use tally::{ErrorCause, Tally};
pub use target::Target;
