//! What the kernel says in `/proc` of the machine, and of children that have ended. Parsing is apart from reading.

use std::fs;

use anyhow::{Context, Result};
use baiwan_driver::read_kilobytes;

/// The resolution of times in `/proc/stat` and `/proc/self/stat`: 10 ms on every architecture.
const TICK_NS: u64 = 10_000_000;

/// All memory of the machine, in bytes.
///
/// # Errors
/// If `/proc/meminfo` cannot be read.
pub fn memory_bytes() -> Result<u64> {
    read_kilobytes("/proc/meminfo", "MemTotal:").context("there is no MemTotal in /proc/meminfo")
}

/// CPU time of the whole machine since its start, in nanoseconds, at a resolution of 10 ms.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct MachineTime {
    /// What all processes have used.
    busy_ns: u64,
    /// What other guests of its host have taken from it.
    stolen_ns: u64,
}

impl MachineTime {
    /// What was used so far.
    ///
    /// # Errors
    /// If `/proc/stat` cannot be read.
    pub fn read() -> Result<Self> {
        parse_machine_time(&read("/proc/stat")?).context("an unknown form of /proc/stat")
    }

    /// What others have used since an earlier moment, in cores: other guests, and all processes but ours.
    pub fn others_cores(self, before: Self, ours_ns: u64, wall_ns: u64) -> f64 {
        // Some kernels count what is stolen from a process as used by it, so the one must not be set off against the other.
        let processes_ns = (self.busy_ns - before.busy_ns).saturating_sub(ours_ns);
        (processes_ns + self.stolen_ns - before.stolen_ns) as f64 / wall_ns.max(1) as f64
    }
}

/// The kernel threads that take over the soft interrupts of two cores when they become many. Over loopback what one side sends
/// is received in them, so their time belongs to who sends on that core, though no process is charged with it.
#[derive(Clone, Copy, Default, Debug)]
pub struct SoftInterrupts {
    client: Option<u32>,
    server: Option<u32>,
}

/// What these threads have used since the start of the machine, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SoftTime {
    /// On the client's core.
    pub client_ns: u64,
    /// On the server's core.
    pub server_ns: u64,
}

impl SoftInterrupts {
    /// Those of the client's core and the server's. A container need not show them; then their time is not known.
    pub fn find(client_core: usize, server_core: usize) -> Self {
        let mut found = Self::default();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            match name.trim().strip_prefix("ksoftirqd/").and_then(|core| core.parse::<usize>().ok()) {
                Some(core) if core == client_core => found.client = Some(pid),
                Some(core) if core == server_core => found.server = Some(pid),
                _ => {}
            }
        }
        found
    }

    /// What they used so far.
    pub fn read(self) -> SoftTime {
        let used = |pid: Option<u32>| {
            let text = fs::read_to_string(format!("/proc/{}/schedstat", pid?)).ok()?;
            text.split(' ').next()?.parse().ok()
        };
        SoftTime { client_ns: used(self.client).unwrap_or(0), server_ns: used(self.server).unwrap_or(0) }
    }
}

impl SoftTime {
    /// What was used since an earlier moment.
    pub fn since(self, before: Self) -> Self {
        let [client_ns, server_ns] = [(self.client_ns, before.client_ns), (self.server_ns, before.server_ns)]
            .map(|(after, before)| after.saturating_sub(before));
        Self { client_ns, server_ns }
    }

    /// On both cores.
    pub fn sum_ns(self) -> u64 {
        self.client_ns + self.server_ns
    }
}

/// CPU time of all children that have ended and were waited for, in nanoseconds, at a resolution of 10 ms.
///
/// # Errors
/// If `/proc/self/stat` cannot be read.
pub fn ended_children_cpu_ns() -> Result<u64> {
    parse_children_ns(&read("/proc/self/stat")?).context("an unknown form of /proc/self/stat")
}

/// The model of the first CPU.
pub fn cpu_model() -> Option<String> {
    parse_cpu_model(&read("/proc/cpuinfo").ok()?)
}

/// The release of the kernel.
pub fn kernel() -> Option<String> {
    Some(read("/proc/sys/kernel/osrelease").ok()?.trim().to_owned())
}

/// The load averages over 1, 5 and 15 minutes.
pub fn load_averages() -> Option<String> {
    let text = read("/proc/loadavg").ok()?;
    Some(text.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

/// The 16th and 17th field, user and system. The second is a name in brackets that may hold anything.
fn parse_children_ns(text: &str) -> Option<u64> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = [13, 14].map(|field| fields.get(field)?.parse::<u64>().ok());
    Some(ticks.into_iter().sum::<Option<u64>>()? * TICK_NS)
}

/// Busy is user, nice, system, interrupts and soft interrupts; not idle or waiting for I/O. The last of these fields is stolen.
fn parse_machine_time(text: &str) -> Option<MachineTime> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let busy: Option<u64> = [0, 1, 2, 5, 6].map(|field| ticks.get(field).copied()).into_iter().sum();
    Some(MachineTime { busy_ns: busy? * TICK_NS, stolen_ns: *ticks.get(7)? * TICK_NS })
}

fn parse_cpu_model(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_children_is_found_behind_any_name() {
        let text = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 2 3 4 50 60 700 8 20 0 1 0 99 1000 1";
        assert_eq!(parse_children_ns(text), Some(708 * 10_000_000));
        assert_eq!(parse_children_ns("7 (a) S 1"), None);
    }

    #[test]
    fn busy_time_leaves_out_idle_time_and_what_is_stolen_is_apart() {
        let text = "cpu  10 1 20 5000 300 2 7 90 0 0\ncpu0 5 0 10 2500 150 1 3 45 0 0\n";
        assert_eq!(parse_machine_time(text), Some(MachineTime { busy_ns: 40 * TICK_NS, stolen_ns: 90 * TICK_NS }));
        assert_eq!(parse_machine_time("cpu  10 1\n"), None);
    }

    #[test]
    fn others_are_the_processes_that_are_not_ours_and_other_guests() {
        let time = |busy_ms: u64, stolen_ms: u64| MachineTime {
            busy_ns: busy_ms * 1_000_000,
            stolen_ns: stolen_ms * 1_000_000,
        };
        let others =
            |after: MachineTime, ours_ms: u64| after.others_cores(time(1_000, 500), ours_ms * 1_000_000, 1_000_000_000);
        assert_eq!(others(time(2_500, 500), 1_400), 0.1);
        assert_eq!(others(time(2_500, 550), 1_400), 0.15);
        // Ours were stolen from, and the kernel counts that as theirs.
        assert_eq!(others(time(2_500, 700), 1_700), 0.2);
        assert_eq!(others(time(2_500, 500), 1_501), 0.0);
    }

    #[test]
    fn the_model_of_the_first_cpu_is_taken() {
        let text = "processor\t: 0\nmodel name\t: A CPU @ 2.50GHz\nprocessor\t: 1\nmodel name\t: B\n";
        assert_eq!(parse_cpu_model(text).as_deref(), Some("A CPU @ 2.50GHz"));
    }
}
