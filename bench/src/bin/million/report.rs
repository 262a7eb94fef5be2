//! What came out, for people (Markdown) and programs (JSON).

use std::fmt::Write;
use std::process::Command;

use baiwan_load::{PhaseReport, Report, kernel_memory, process};
use serde_json::{Value, json};

use crate::cli::Options;
use crate::holding::{IDLE, OPEN, ROUND, TRICKLE};
use crate::machine;
use crate::servers::Server;

/// Of a server in one process: bytes for each connection, and for everything else.
const RESIDENT_PER_CONNECTION: u64 = 256;
const RESIDENT_FIXED: u64 = 64 << 20;
/// What is wanted of the trickle and of idle connections.
const P99_SECONDS_MAX: f64 = 0.050;
const IDLE_CORES_MAX: f64 = 0.05;

pub(crate) struct Outcome {
    pub(crate) markdown: String,
    pub(crate) json: Value,
    /// Nothing was lost, nothing went wrong.
    pub(crate) is_clean: bool,
}

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
            available: machine::kilobytes("/proc/meminfo", "MemAvailable:").unwrap_or_default(),
        }
    }
}

/// Before anything was opened, and at the end of each phase.
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

/// How the program was called.
pub(crate) fn command(words: &[String]) -> String {
    let mut shown: Vec<&str> = vec!["bench/million"];
    let mut words = words.iter();
    while let Some(word) = words.next() {
        // Where the files go is of no interest to others.
        if word == "--output" {
            words.next();
        } else {
            shown.push(word);
        }
    }
    shown.join(" ")
}

pub(crate) fn holding(options: &Options, server: &Server, load: &Report, ends: &Ends, client_end: f64) -> Outcome {
    let phase = |index: usize| load.phases.get(index).cloned().unwrap_or_default();
    let [open, idle, trickle, round] = [OPEN, IDLE, TRICKLE, ROUND].map(phase);
    let held = open.open;
    let errors = load.errors.get("total").copied().unwrap_or_default();
    let (start, opened) = (ends.0[0], ends.after(OPEN));
    let each = |bytes: i128| if held == 0 { 0.0 } else { bytes as f64 / held as f64 };
    let grown = |of: fn(&End) -> u64| i128::from(of(&opened)) - i128::from(of(&start));
    let kernel_both = each(grown(|end| end.kernel));
    let idle_cores = (ends.after(IDLE).server_cpu_ns - ends.before(IDLE).server_cpu_ns) as f64 / 1e9 / idle.seconds;
    let peak_resident = ends.0.iter().map(|end| end.server_resident).max().unwrap_or_default();
    let resident_max = RESIDENT_PER_CONNECTION * options.connections + RESIDENT_FIXED;
    let rows = [
        ("held", held.to_string()),
        ("time to open them, each answered once", format!("{:.1} s", open.seconds)),
        ("lost", load.connections.lost.to_string()),
        ("errors", errors.to_string()),
        ("alive at the end", load.connections.alive.to_string()),
        ("server CPU while idle", format!("{:.2} % of a core, over {:.0} s", idle_cores * 100.0, idle.seconds)),
        (
            "trickle over all of them",
            format!("{} requests, {:.0} a second for {:.0} s", trickle.answered, options.rate, trickle.seconds),
        ),
        ("its latency from when a request was due: p50, p99, p99.9, max", quantiles(&trickle)),
        (
            "one request on each, as fast as it goes",
            format!(
                "{} in {:.1} s, {:.0} a second",
                round.answered,
                round.seconds,
                round.answered as f64 / round.seconds
            ),
        ),
        ("its latency: p50, p99, p99.9, max", quantiles(&round)),
        ("server memory before the first connection (PSS)", mebibytes(start.server_user)),
        ("server memory with all of them (PSS)", mebibytes(opened.server_user)),
        ("server memory for one connection, user", format!("{:.0} bytes", each(grown(|end| end.server_user)))),
        ("server, resident at most (RSS)", mebibytes(peak_resident)),
        (
            "load generator's memory for one connection, user",
            format!("{:.0} bytes", each(grown(|end| end.client_user))),
        ),
        ("kernel memory for one connection, both ends", format!("{kernel_both:.0} bytes")),
        ("of that the client's end", format!("{client_end:.0} bytes")),
        ("of that the server's end", format!("{:.0} bytes", kernel_both - client_end)),
        ("memory of the machine that all of it took", mebibytes(start.available.saturating_sub(opened.available))),
    ];
    let complete = held == options.connections && load.connections.alive == held && !load.interrupted;
    let mut text = heading("Held", options, server, load);
    text.push_str("| | |\n|---|---|\n");
    for (label, value) in &rows {
        let _ = writeln!(text, "| {label} | {value} |");
    }
    let mut wanted = vec![
        ("none lost, no errors", complete && load.connections.lost == 0 && errors == 0),
        ("p99 of the trickle at most 50 ms", trickle.latency.p99 <= P99_SECONDS_MAX),
        ("idle CPU at most 5 % of a core", idle_cores <= IDLE_CORES_MAX),
    ];
    if server.is_one_process() {
        wanted
            .push(("one process: RSS at most 256 bytes for each connection and 64 MiB", peak_resident <= resident_max));
    }
    text.push_str("\n| wanted | |\n|---|---|\n");
    for (label, met) in &wanted {
        let _ = writeln!(text, "| {label} | {} |", if *met { "met" } else { "**not met**" });
    }
    let json = json!({
        "server": server.title,
        "parts": server.parts,
        "connections": options.connections,
        "idle_cores": idle_cores,
        "server_user_bytes_before": start.server_user,
        "server_user_bytes_open": opened.server_user,
        "server_resident_bytes_max": peak_resident,
        "kernel_bytes_per_connection": kernel_both,
        "client_kernel_bytes_per_connection": client_end,
        "wanted": wanted.iter().map(|(label, met)| json!({"text": label, "met": met})).collect::<Vec<_>>(),
        "load": load,
    });
    Outcome { markdown: text, json, is_clean: complete && load.connections.lost == 0 && errors == 0 }
}

/// What every report begins with.
pub(crate) fn heading(title: &str, options: &Options, server: &Server, load: &Report) -> String {
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor =
        processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).unwrap_or_default().1;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = machine::kilobytes("/proc/meminfo", "MemTotal:").unwrap_or_default() as f64 / (1u64 << 30) as f64;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "# {title}: {connections} connections on one machine\n\nLoopback, both ends on {cores} cores. {server}; {workers} processes of \
         the load generator; {files} files for a process.\n\n| | |\n|---|---|\n| begun | {started} |\n| command | `{command}` |\n\
         | sources | {sources} |\n| machine | {processor}, {cores} cores, {memory:.1} GiB, Linux {kernel} |\n\n",
        sources = sources(),
        connections = options.connections,
        server = server.title,
        workers = load.client.workers,
        files = machine::file_limit(),
        started = load.started,
        command = load.command,
        kernel = kernel.trim(),
    )
}

/// The state of the sources, where they are in a repository.
fn sources() -> String {
    let arguments = ["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"];
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success());
    output.map_or_else(|| "unknown".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

pub(crate) fn quantiles(phase: &PhaseReport) -> String {
    let latency = &phase.latency;
    [latency.p50, latency.p99, latency.p99_9, latency.max].map(milliseconds).join(", ")
}

pub(crate) fn milliseconds(seconds: f64) -> String {
    format!("{:.2} ms", seconds * 1000.0)
}

pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1u64 << 20) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_does_not_say_where_it_was_written() {
        let words: Vec<String> = ["--tune", "--output", "/home/me", "--rate", "5"].map(str::to_owned).into();
        assert_eq!(command(&words), "bench/million --tune --rate 5");
    }
}
