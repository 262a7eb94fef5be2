//! What a run gave, in the form that `--json` writes.
//!
//! The keys are part of the interface: they are added to, never renamed; times are in seconds, sizes in bytes. The field `version`
//! changes if that ever fails. Absent figures are `null`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::latencies::Quantiles;

/// The version of the form.
pub const REPORT_VERSION: u32 = 1;

/// A whole run. The figures at the top are those of its measured phases together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// When it began, RFC 3339.
    pub started: String,
    /// How it was called.
    pub command: String,
    /// What was asked.
    pub url: String,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
    /// How long the measured phases lasted, together.
    pub seconds: f64,
    /// Connections.
    pub connections: Connections,
    /// Requests of the measured phases.
    pub requests: Requests,
    /// From when a request was due to the last byte of its answer. A request that timed out is here with its age.
    pub latency: Quantiles,
    /// The curve of the same: pairs of a quantile (0 to 1) and seconds.
    pub latency_curve: Vec<(f64, f64)>,
    /// From when a request was due to when it was given to a connection: what the generator, and answers still to come, held it up.
    pub send_delay: Quantiles,
    /// Errors of requests by cause (`connect`, `closed`, `reset`, `timeout`, `malformed`, `status`, `body`, `unsent`), and `total`.
    pub errors: BTreeMap<String, u64>,
    /// The same in words.
    pub error_details: BTreeMap<String, u64>,
    /// Answers by status.
    pub statuses: BTreeMap<String, u64>,
    /// Bytes of requests and answers.
    pub bytes: Bytes,
    /// Events, where answers are streams of them.
    pub events: Option<Events>,
    /// The server's process, where its number was given.
    pub server: Option<Server>,
    /// This program: all of its processes.
    pub client: Client,
    /// Every phase, in order.
    pub phases: Vec<PhaseReport>,
    /// Every second, in order.
    pub series: Vec<Second>,
    /// What was demanded with `--expect`.
    pub expectations: Vec<Expectation>,
}

/// Connections of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Connections {
    /// Asked for.
    pub wanted: u64,
    /// Opened, those that were opened again apart.
    pub opened: u64,
    /// Lost: ended without an announcement.
    pub lost: u64,
    /// Opened again.
    pub reopened: u64,
    /// Attempts to connect that came to nothing. They are no errors, unless a request waited for one.
    #[serde(default)]
    pub attempts_failed: u64,
    /// Why, in words; and why connections were lost that no request was on.
    #[serde(default)]
    pub failures: BTreeMap<String, u64>,
    /// Open at the end, before they were closed.
    pub alive: u64,
    /// From the first to the last.
    pub open_seconds: f64,
    /// How long each took to be connected.
    pub connect: Quantiles,
}

/// Requests of the measured phases.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Requests {
    /// Sent.
    pub sent: u64,
    /// Answered right.
    pub answered: u64,
    /// Answered right, a second of the loops.
    pub per_second: f64,
}

/// Bytes, head and body.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Bytes {
    /// Sent.
    pub sent: u64,
    /// Received.
    pub received: u64,
}

/// Events of streams, of the whole run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Events {
    /// Received.
    pub received: u64,
    /// Received, a second of the measured phases.
    pub per_second: f64,
    /// Jumped over, where events have numbers as ids.
    pub missing: u64,
    /// From the time that an event carries to its arrival.
    pub delay: Quantiles,
    /// From one event of a stream to the next.
    pub interval: Quantiles,
}

/// The server's process and its descendants.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Server {
    /// Its number.
    pub pid: u32,
    /// CPU time in the measured phases, user and system.
    pub cpu_seconds: f64,
    /// The same for one right answer.
    pub cpu_seconds_per_request: Option<f64>,
    /// Proportional set size before the first connection.
    pub user_bytes_before: u64,
    /// The most that was seen.
    pub user_bytes_max: u64,
    /// Growth of the proportional set size from before the first connection to after the last, for one connection.
    pub user_bytes_per_connection: Option<f64>,
    /// Growth of the kernel's socket, file and epoll caches in the same time, for one connection. Where server and client are on
    /// one machine, both ends are in it.
    pub kernel_bytes_per_connection: Option<f64>,
}

/// The load generator's own processes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Client {
    /// Worker processes that were started.
    pub workers: u64,
    /// Those of them that died or were given up. What they had not told yet, and their share from then on, is in no figure.
    #[serde(default)]
    pub workers_died: u64,
    /// How they died.
    #[serde(default)]
    pub deaths: BTreeMap<String, u64>,
    /// CPU time in the measured phases, user and system.
    pub cpu_seconds: f64,
    /// The same for one right answer.
    pub cpu_seconds_per_request: Option<f64>,
    /// Proportional set size at the end.
    pub user_bytes: u64,
}

/// One phase.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PhaseReport {
    /// `open`, `warm-up`, `closed loop`, `open loop`, `round`, `hold` or `close`.
    pub name: String,
    /// Since the run began.
    pub begin: f64,
    /// How long it lasted.
    pub seconds: f64,
    /// Sent.
    pub sent: u64,
    /// Answered right.
    pub answered: u64,
    /// All errors.
    pub errors: u64,
    /// Connections lost.
    pub lost: u64,
    /// Connections open at its end.
    pub open: u64,
    /// As at the top.
    pub latency: Quantiles,
    /// CPU time of the server's process.
    pub server_cpu_seconds: Option<f64>,
    /// Proportional set size of the server's process at the end.
    pub server_user_bytes: Option<u64>,
    /// CPU time of all of the generator's processes; a server that the same program has started is none of them.
    pub client_cpu_seconds: f64,
}

/// One second, of all workers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Second {
    /// Its end, since the run began.
    pub at: f64,
    /// The phase, by its place in `phases`.
    pub phase: usize,
    /// Connections open.
    pub open: u64,
    /// Requests outstanding.
    pub outstanding: u64,
    /// Right answers.
    pub answered: u64,
    /// All errors.
    pub errors: u64,
    /// Events.
    pub events: u64,
    /// Latency, of those answered in this second.
    pub p50: f64,
    /// Latency, of those answered in this second.
    pub p99: f64,
    /// Latency, of those answered in this second.
    pub max: f64,
}

/// One of the demands of `--expect`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Expectation {
    /// As it was written.
    pub text: String,
    /// What was measured: seconds, bytes, a share of 1, or a count. None: the run did not give it.
    pub value: Option<f64>,
    /// Whether it holds.
    pub met: bool,
}
