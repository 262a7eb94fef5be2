//! Where and with what the figures were made.

use std::process::Command;

use bench::proc_files;

use crate::clock::date;
use crate::wrk;

/// The crates whose versions the report names.
const CRATES: [&str; 5] = ["baiwan", "baiwan-load", "axum", "hyper", "tokio"];

/// The machine and the programs, as text.
pub(crate) struct Environment {
    pub(crate) date: String,
    pub(crate) kernel: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    pub(crate) rustc: String,
    /// The state of the sources.
    pub(crate) commit: String,
    pub(crate) crates: Vec<(&'static str, String)>,
    pub(crate) command: String,
    pub(crate) load_before: String,
    /// The version of wrk, if it is here.
    pub(crate) wrk: Option<String>,
}

impl Environment {
    /// `arguments` are the words after the program's name.
    pub(crate) fn read(arguments: &[String]) -> Self {
        let unknown = || "unknown".to_owned();
        let command = [&["bench/run".to_owned()], arguments].concat().join(" ");
        let folder = env!("CARGO_MANIFEST_DIR");
        Self {
            date: date(),
            kernel: proc_files::kernel().unwrap_or_else(unknown),
            cpu: proc_files::cpu_model().unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: proc_files::memory_bytes().map_or(0.0, |bytes| bytes as f64 / (1u64 << 30) as f64),
            rustc: output("rustc", &["--version"]).unwrap_or_else(unknown),
            commit: output("git", &["-C", folder, "describe", "--always", "--dirty"]).unwrap_or_else(unknown),
            crates: CRATES.iter().map(|name| (*name, locked_version(name).unwrap_or_else(unknown))).collect(),
            command,
            wrk: wrk::version(),
            load_before: proc_files::load_averages().unwrap_or_else(unknown),
        }
    }

    pub(crate) fn crates_text(&self) -> String {
        self.crates.iter().map(|(name, version)| format!("{name} {version}")).collect::<Vec<_>>().join(", ")
    }
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// The version that the lock file fixes.
fn locked_version(name: &str) -> Option<String> {
    const LOCK: &str = include_str!("../Cargo.lock");
    let entry = LOCK.split("[[package]]").find(|entry| entry.contains(&format!("name = \"{name}\"\n")))?;
    let line = entry.lines().find_map(|line| line.strip_prefix("version = "))?;
    Some(line.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_file_knows_every_crate_that_is_named() {
        for name in CRATES {
            let version = locked_version(name).unwrap();
            assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{name} {version}");
        }
        assert_eq!(locked_version("no-such-crate"), None);
    }
}
