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
pub mod worker;

pub use clock::{SECOND_NS, now_ns};
pub use coordinator::{Observer, Run, SECOND, run};
pub use expect::{Expectations, Need};
pub use files::workers;
pub use html::page;
pub use latencies::{Latencies, Quantiles};
pub use plan::{Phase, Plan, Share, Sources};
pub use report::{
    Bytes, Client, Connections, Events, Expectation, PhaseReport, REPORT_VERSION, Report, Requests, Second, Server,
};
pub use summary::{deaths, doubt, summary};
pub use tally::{ErrorCause, Tally};
pub use target::Target;
