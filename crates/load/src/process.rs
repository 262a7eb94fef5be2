//! What the kernel says in `/proc` of a process and its descendants: CPU time and memory. Parsing is apart from reading.

use std::fs;

use anyhow::{Context, Result};
use baiwan_driver::read_kilobytes;

/// CPU time of a process and its descendants so far, user and system, in nanoseconds.
///
/// # Errors
/// When the process has ended, or `/proc` cannot be read.
pub fn cpu_ns(pid: u32) -> Result<u64> {
    cpu_of(&tree(pid)?)
}

/// As [`cpu_ns`], of this process, without another of its descendants and all that are below that one.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn own_cpu_ns(except: Option<u32>) -> Result<u64> {
    cpu_of(&own_tree(except)?)
}

/// As [`user_bytes`], of the processes of [`own_cpu_ns`].
///
/// # Errors
/// When `/proc` cannot be read.
pub fn own_user_bytes(except: Option<u32>) -> Result<u64> {
    Ok(user_bytes_of(&own_tree(except)?))
}

fn own_tree(except: Option<u32>) -> Result<Vec<u32>> {
    let mut pids = tree(std::process::id())?;
    let others = except.filter(|pid| pids.contains(pid)).map_or_else(Vec::new, |pid| tree(pid).unwrap_or_default());
    pids.retain(|pid| !others.contains(pid));
    Ok(pids)
}

fn cpu_of(pids: &[u32]) -> Result<u64> {
    let mut sum = 0;
    for pid in pids {
        // A descendant or a thread may end meanwhile.
        let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for task in tasks {
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            sum += parse_schedstat(&text).context("an unknown form of schedstat")?;
        }
    }
    Ok(sum)
}

/// Proportional set size of a process and its descendants, in bytes.
///
/// # Errors
/// As for [`cpu_ns`].
pub fn user_bytes(pid: u32) -> Result<u64> {
    Ok(user_bytes_of(&tree(pid)?))
}

fn user_bytes_of(pids: &[u32]) -> u64 {
    let mut sum = 0;
    for pid in pids {
        // The memory map of a process that is ending is empty.
        sum += read_kilobytes(format!("/proc/{pid}/smaps_rollup"), "Pss:").unwrap_or(0);
    }
    sum
}

/// The process and its descendants.
fn tree(pid: u32) -> Result<Vec<u32>> {
    let mut pids = vec![pid];
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid} has ended"))?;
    for task in tasks {
        // Kernels without this file do not tell of children.
        let Ok(children) = fs::read_to_string(task?.path().join("children")) else { continue };
        for child in children.split_whitespace() {
            // It may have ended meanwhile.
            pids.extend(tree(child.parse()?).unwrap_or_default());
        }
    }
    Ok(pids)
}

/// The first of three numbers: time on a CPU.
fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
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
    fn this_process_can_be_measured_and_one_that_is_gone_cannot() {
        let pid = std::process::id();
        assert!(cpu_ns(pid).unwrap() > 0);
        assert!(user_bytes(pid).unwrap() > 0);
        assert!(cpu_ns(u32::MAX).unwrap_err().to_string().contains("has ended"));
    }

    #[test]
    fn a_server_that_is_a_child_is_not_the_generator() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (with, without) = (own_tree(None).unwrap(), own_tree(Some(child.id())).unwrap());
        let stranger = own_tree(Some(u32::MAX)).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let (own, child) = (std::process::id(), child.id());
        assert!(with.contains(&child) && without.contains(&own) && !without.contains(&child), "{with:?} {without:?}");
        assert!(stranger.contains(&own), "{stranger:?}");
    }
}
