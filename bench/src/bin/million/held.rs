//! What holding the connections gave, and what was wanted of it.

use std::fmt::Write;

use baiwan_load::{PhaseReport, Report, kernel_memory, process};
use serde_json::json;

use crate::cli::Options;
use crate::machine;
use crate::report::{Outcome, Wanted, heading, mebibytes, quantiles};
use crate::servers::Server;

/// The phases, by their place in the plan.
pub(crate) const OPEN: usize = 0;
pub(crate) const IDLE: usize = 1;
pub(crate) const TRICKLE: usize = 2;
pub(crate) const ROUND: usize = 3;
pub(crate) const CLOSE: usize = 4;

/// Of a server in one process: bytes for each connection, and for everything else.
const RESIDENT_PER_CONNECTION: u64 = 256;
const RESIDENT_FIXED: u64 = 64 << 20;
/// What is wanted of the trickle and of idle connections.
const P99_SECONDS_MAX: f64 = 0.050;
const IDLE_CORES_MAX: f64 = 0.05;

/// Memory and CPU at one moment.
#[derive(Clone, Copy, Default)]
struct End {
    server_user: u64,
    server_resident: u64,
    server_cpu_ns: u64,
    client_user: u64,
    kernel: u64,
    available: u64,
}

impl End {
    fn read(server: &Server) -> Self {
        Self {
            server_user: server.user_bytes(),
            server_resident: server.resident_bytes(),
            server_cpu_ns: server.cpu_ns(),
            // The server is a child of this process.
            client_user: process::user_bytes(std::process::id())
                .unwrap_or_default()
                .saturating_sub(server.user_bytes()),
            kernel: kernel_memory::bytes().unwrap_or_default(),
            available: machine::available_bytes().unwrap_or_default(),
        }
    }
}

/// Before anything was opened, at the end of each phase but the last, and a moment after that.
pub(crate) struct Ends(Vec<End>);

impl Ends {
    pub(crate) fn start(server: &Server) -> Self {
        Self(vec![End::read(server)])
    }

    pub(crate) fn read(&mut self, server: &Server) {
        self.0.push(End::read(server));
    }

    /// Before the phase with this index, workers being there.
    fn before(&self, phase: usize) -> End {
        self.0.get(phase + 1).copied().unwrap_or_default()
    }

    fn after(&self, phase: usize) -> End {
        self.before(phase + 1)
    }
}

/// The report of a run.
pub(crate) fn outcome(options: &Options, server: &Server, load: &Report, ends: &Ends, client_end: f64) -> Outcome {
    let held = Held::of(server, load, ends, client_end);
    let all_held = held.open.open == options.connections && load.connections.alive == options.connections;
    let resident_max = RESIDENT_PER_CONNECTION * options.connections + RESIDENT_FIXED;
    let mut wanted = vec![
        ("all held to the end", all_held),
        ("none lost, no errors", load.connections.lost == 0 && held.errors == 0),
        ("the run was whole", !load.interrupted && load.client.workers_died == 0),
        ("p99 of the trickle at most 50 ms", held.trickle.latency.p99 <= P99_SECONDS_MAX),
        ("idle CPU at most 5 % of a core", held.idle_cores <= IDLE_CORES_MAX),
    ];
    if server.is_one_process() {
        let met = held.resident_max <= resident_max;
        wanted.push(("one process: RSS at most 256 bytes for each connection and 64 MiB", met));
    }
    let mut markdown = heading("Held", options, server, load);
    markdown.push_str("| | |\n|---|---|\n");
    for (label, value) in held.rows(options, load) {
        let _ = writeln!(markdown, "| {label} | {value} |");
    }
    let wanted = Wanted(wanted);
    markdown.push_str(&wanted.markdown());
    let json = json!({
        "server": server.title,
        "parts": server.parts,
        "connections": options.connections,
        "idle_cores": held.idle_cores,
        "server_user_bytes_before": held.before.server_user,
        "server_user_bytes_open": held.opened.server_user,
        "server_user_bytes_closed": held.closed.server_user,
        "server_resident_bytes_max": held.resident_max,
        "kernel_bytes_per_connection": held.kernel_both,
        "client_kernel_bytes_per_connection": client_end,
        "wanted": wanted.json(),
        "load": load,
    });
    Outcome { markdown, json, wanted }
}

/// The figures of a run that the load generator does not know by itself, and its phases.
struct Held {
    open: PhaseReport,
    idle: PhaseReport,
    trickle: PhaseReport,
    round: PhaseReport,
    errors: u64,
    before: End,
    opened: End,
    closed: End,
    idle_cores: f64,
    resident_max: u64,
    /// Bytes for one connection, both ends, and that of the client.
    kernel_both: f64,
    client_end: f64,
}

impl Held {
    fn of(server: &Server, load: &Report, ends: &Ends, client_end: f64) -> Self {
        let phase = |index: usize| load.phases.get(index).cloned().unwrap_or_default();
        let [open, idle, trickle, round] = [OPEN, IDLE, TRICKLE, ROUND].map(phase);
        let idle_ns = ends.after(IDLE).server_cpu_ns.saturating_sub(ends.before(IDLE).server_cpu_ns);
        let resident = ends.0.iter().map(|end| end.server_resident).max();
        let mut held = Self {
            idle_cores: idle_ns as f64 / 1e9 / idle.seconds,
            errors: load.errors.get("total").copied().unwrap_or_default(),
            before: ends.0[0],
            opened: ends.after(OPEN),
            closed: ends.after(CLOSE),
            resident_max: resident.unwrap_or_else(|| server.resident_bytes()),
            kernel_both: 0.0,
            client_end,
            open,
            idle,
            trickle,
            round,
        };
        held.kernel_both = held.grown(|end| end.kernel);
        held
    }

    /// What has grown by the connections, for one of them.
    fn grown(&self, of: fn(&End) -> u64) -> f64 {
        let bytes = of(&self.opened) as f64 - of(&self.before) as f64;
        if self.open.open == 0 { 0.0 } else { bytes / self.open.open as f64 }
    }

    fn rows(&self, options: &Options, load: &Report) -> Vec<(&'static str, String)> {
        let Self { open, idle, trickle, round, before, opened, closed, .. } = self;
        let bytes = |bytes: f64| format!("{bytes:.0} bytes");
        let rate = round.answered as f64 / round.seconds;
        let taken = before.available.saturating_sub(opened.available);
        vec![
            ("held", open.open.to_string()),
            ("time to open them, each answered once", format!("{:.1} s", open.seconds)),
            ("lost", load.connections.lost.to_string()),
            ("errors", self.errors.to_string()),
            ("alive at the end", load.connections.alive.to_string()),
            (
                "server CPU while idle",
                format!("{:.2} % of a core, over {:.0} s", self.idle_cores * 100.0, idle.seconds),
            ),
            (
                "trickle over all of them",
                format!("{} requests, {:.0} a second for {:.0} s", trickle.answered, options.rate, trickle.seconds),
            ),
            ("its latency from when a request was due: p50, p99, p99.9, max", quantiles(trickle)),
            (
                "one request on each, as fast as it goes",
                format!("{} in {:.1} s, {rate:.0} a second", round.answered, round.seconds),
            ),
            ("its latency: p50, p99, p99.9, max", quantiles(round)),
            ("server memory before the first connection (PSS)", mebibytes(before.server_user)),
            ("server memory with all of them (PSS)", mebibytes(opened.server_user)),
            ("server memory when all of them are gone (PSS)", mebibytes(closed.server_user)),
            ("server memory for one connection, user", bytes(self.grown(|end| end.server_user))),
            ("server, resident at most (RSS)", mebibytes(self.resident_max)),
            ("load generator's memory for one connection, user", bytes(self.grown(|end| end.client_user))),
            ("kernel memory for one connection, both ends", bytes(self.kernel_both)),
            ("of that the client's end", bytes(self.client_end)),
            ("of that the server's end", bytes(self.kernel_both - self.client_end)),
            ("memory of the machine that all of it took", mebibytes(taken)),
        ]
    }
}
