//! What came out, for people (Markdown) and programs (JSON).

use std::process::Command;

use baiwan_driver::FileLimit;
use baiwan_load::{PhaseReport, Report};
use bench::proc_files;
use serde_json::{Value, json};

use crate::cli::Options;
use crate::servers::Server;

pub(crate) struct Outcome {
    pub(crate) markdown: String,
    pub(crate) json: Value,
    pub(crate) wanted: Wanted,
}

/// What a run was to show, and whether it did.
pub(crate) struct Wanted(pub(crate) Vec<(&'static str, bool)>);

impl Wanted {
    pub(crate) fn unmet(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().filter(|(_, met)| !met).map(|(text, _)| *text)
    }

    pub(crate) fn markdown(&self) -> String {
        let row = |(text, met): &(&str, bool)| format!("| {text} | {} |\n", if *met { "met" } else { "**not met**" });
        self.0.iter().map(row).fold("\n| wanted | |\n|---|---|\n".to_owned(), |table, row| table + &row)
    }

    pub(crate) fn json(&self) -> Value {
        self.0.iter().map(|(text, met)| json!({"text": text, "met": met})).collect()
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

/// What every report begins with.
pub(crate) fn heading(title: &str, options: &Options, server: &Server, load: &Report) -> String {
    let processor = proc_files::cpu_model().unwrap_or_default();
    let kernel = proc_files::kernel().unwrap_or_default();
    let memory = proc_files::memory_bytes().unwrap_or_default() as f64 / (1u64 << 30) as f64;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "# {title}: {connections} connections on one machine\n\nLoopback, both ends on {cores} cores. {server}; {workers} processes of \
         the load generator; {files} files for a process.\n\n| | |\n|---|---|\n| begun | {started} |\n| command | `{command}` |\n\
         | sources | {sources} |\n| machine | {processor}, {cores} cores, {memory:.1} GiB, Linux {kernel} |\n\n",
        sources = sources(),
        connections = options.connections,
        server = server.title,
        workers = load.client.workers,
        files = FileLimit::now().hard,
        started = load.started,
        command = load.command,
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
    fn each_thing_that_was_wanted_and_not_met_is_told() {
        let wanted = Wanted(vec![("all held", true), ("fast", false), ("small", false)]);
        assert_eq!(wanted.unmet().collect::<Vec<_>>(), ["fast", "small"]);
        assert!(wanted.markdown().ends_with("| all held | met |\n| fast | **not met** |\n| small | **not met** |\n"));
        assert_eq!(wanted.json()[1], json!({"text": "fast", "met": false}));
    }

    #[test]
    fn a_report_does_not_say_where_it_was_written() {
        let words: Vec<String> = ["--tune", "--output", "/home/me", "--rate", "5"].map(str::to_owned).into();
        assert_eq!(command(&words), "bench/million --tune --rate 5");
    }
}
