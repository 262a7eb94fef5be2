//! What a measurement gives: figures by name, and the names of those that several measurements give.

use std::collections::BTreeMap;

/// Server CPU for one request, in microseconds, with the soft interrupts of its core that a thread of the kernel takes over.
pub(crate) const CPU_US: &str = "cpu_us_per_request";
pub(crate) const REQUESTS_PER_SECOND: &str = "requests_per_second";
/// Latency in microseconds; at a fixed rate, from the time a request was due.
pub(crate) const P50_US: &str = "latency_p50_us";
pub(crate) const P99_US: &str = "latency_p99_us";
/// Mean latency as wrk counts it, in milliseconds.
pub(crate) const MEAN_MS: &str = "latency_mean_ms";
/// Memory of the server process for one connection.
pub(crate) const USER_BYTES: &str = "user_bytes_per_connection";
/// Kernel memory for one connection, the server's end.
pub(crate) const KERNEL_BYTES: &str = "kernel_bytes_per_connection";
/// The same, the client's end.
pub(crate) const CLIENT_KERNEL_BYTES: &str = "client_kernel_bytes_per_connection";
/// From the start of the process to its first answer, in milliseconds.
pub(crate) const START_MS: &str = "start_ms";
/// CPU of a load generator for one request, in microseconds.
pub(crate) const CLIENT_CPU_US: &str = "client_cpu_us_per_request";
/// What the load generator used, in cores.
pub(crate) const LOAD_CORES: &str = "load_cores";
/// What other processes and other guests of the host used meanwhile, in cores.
pub(crate) const OTHERS_CORES: &str = "other_processes_cores";

/// What one measurement gave: figures by name.
pub(crate) type Figures = BTreeMap<&'static str, f64>;

/// What others took of the machine meanwhile, where that is known.
pub(crate) fn others_cores(figures: &Figures) -> Option<f64> {
    figures.get(OTHERS_CORES).copied()
}
