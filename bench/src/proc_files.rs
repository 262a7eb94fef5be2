//! What the kernel says in `/proc`: CPU time, memory, the machine. Parsing is apart from reading.

use std::fs;

use anyhow::{Context, Result};

/// CPU time of a process and its descendants so far, in nanoseconds.
pub(crate) fn cpu_ns(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for pid in tree(pid)? {
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let text = read(&format!("{}/schedstat", task?.path().display()))?;
            sum += parse_schedstat(&text).context("an unknown form of schedstat")?;
        }
    }
    Ok(sum)
}

/// Proportional set size of a process and its descendants, in bytes.
pub(crate) fn user_bytes(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for pid in tree(pid)? {
        let text = read(&format!("/proc/{pid}/smaps_rollup"))?;
        sum += parse_kilobytes(&text, "Pss:").context("smaps_rollup has no Pss")?;
    }
    Ok(sum)
}

/// What the kernel's object caches take, in bytes.
pub(crate) fn slab_bytes() -> Result<u64> {
    parse_kilobytes(&read("/proc/meminfo")?, "Slab:").context("meminfo has no Slab")
}

/// All memory of the machine, in bytes.
pub(crate) fn memory_bytes() -> Result<u64> {
    parse_kilobytes(&read("/proc/meminfo")?, "MemTotal:").context("meminfo has no MemTotal")
}

/// CPU time that the whole machine has used, and that other guests of its host took from it, in nanoseconds, at a resolution
/// of 10 ms.
pub(crate) fn machine_cpu_ns() -> Result<u64> {
    parse_busy_ns(&read("/proc/stat")?).context("an unknown form of /proc/stat")
}

pub(crate) fn cpu_model() -> Option<String> {
    parse_cpu_model(&read("/proc/cpuinfo").ok()?)
}

pub(crate) fn kernel() -> Option<String> {
    Some(read("/proc/sys/kernel/osrelease").ok()?.trim().to_owned())
}

/// The load averages over 1, 5 and 15 minutes.
pub(crate) fn load_averages() -> Option<String> {
    let text = read("/proc/loadavg").ok()?;
    Some(text.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

/// The process and its descendants.
fn tree(pid: u32) -> Result<Vec<u32>> {
    let mut pids = vec![pid];
    for task in fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} has ended"))? {
        let children = read(&format!("{}/children", task?.path().display()))?;
        for child in children.split_whitespace() {
            pids.extend(tree(child.parse()?)?);
        }
    }
    Ok(pids)
}

/// The first of three numbers: time on a CPU.
fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

fn parse_kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// User, nice, system, interrupts, soft interrupts and what other guests of the host took; not idle or waiting for I/O.
fn parse_busy_ns(text: &str) -> Option<u64> {
    const TICK_NS: u64 = 10_000_000;
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let busy = [0, 1, 2, 5, 6, 7].map(|field| ticks.get(field).copied());
    Some(busy.into_iter().sum::<Option<u64>>()? * TICK_NS)
}

fn parse_cpu_model(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedstat_begins_with_the_time_on_a_cpu() {
        assert_eq!(parse_schedstat("123456789 42 7\n"), Some(123_456_789));
        assert_eq!(parse_schedstat(""), None);
    }

    #[test]
    fn kilobytes_are_found_by_the_whole_name() {
        let text = "Rss:                1916 kB\nPss_Dirty:             3 kB\nPss:                 120 kB\n";
        assert_eq!(parse_kilobytes(text, "Pss:"), Some(120 * 1024));
        assert_eq!(parse_kilobytes(text, "Slab:"), None);
    }

    #[test]
    fn busy_time_leaves_out_idle_time() {
        let text = "cpu  10 1 20 5000 300 2 7 90 0 0\ncpu0 5 0 10 2500 150 1 3 45 0 0\n";
        assert_eq!(parse_busy_ns(text), Some(130 * 10_000_000));
        assert_eq!(parse_busy_ns("cpu  10 1\n"), None);
    }

    #[test]
    fn the_model_of_the_first_cpu_is_taken() {
        let text = "processor\t: 0\nmodel name\t: A CPU @ 2.50GHz\nprocessor\t: 1\nmodel name\t: B\n";
        assert_eq!(parse_cpu_model(text).as_deref(), Some("A CPU @ 2.50GHz"));
    }

    #[test]
    fn this_process_can_be_measured() {
        let pid = std::process::id();
        assert!(cpu_ns(pid).unwrap() > 0);
        assert!(user_bytes(pid).unwrap() > 0);
    }
}
