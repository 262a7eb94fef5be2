//! How many connections this process can hold: the lesser of what files and memory allow.

use crate::Error;

/// What is asked for when nobody asks for anything.
const CONNECTIONS_DEFAULT: u64 = 1_000_000;
/// Files that are not connections: standard streams, listeners, databases, logs, what handlers open.
const FILES_RESERVED: u64 = 128;
/// Files of each core: its runtime, its epoll instance, its listeners; and connections that are being turned away.
const FILES_PER_CORE: u64 = 16 + TURNED_AWAY_MAX as u64;
/// Connections beyond the maximum that a core tells so at the same time; further ones are reset.
pub(crate) const TURNED_AWAY_MAX: usize = 64;
/// Kernel and user memory of an idle connection, rounded up: 3,640 bytes of sockets, 208 of epoll, a slot of 64.
const BYTES_PER_CONNECTION: u64 = 4096;

/// The maximum in force, and how it came about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Connections held at the same time, at most.
    pub max_connections: u64,
    /// What was lowered and why, a sentence each, for whoever starts the server.
    pub notes: Vec<String>,
}

/// Decides the maximum. What was asked for must be possible; the default is lowered to what is.
pub(crate) fn decide(
    wanted: Option<u64>,
    cores: usize,
    files: u64,
    memory_bytes: Option<u64>,
) -> Result<Capacity, Error> {
    let by_files = files.saturating_sub(FILES_RESERVED + FILES_PER_CORE * cores as u64).max(1);
    let by_memory = memory_bytes.map_or(u64::MAX, |bytes| (bytes / BYTES_PER_CONNECTION).max(1));
    let possible = by_files.min(by_memory);
    let why = match by_files <= by_memory {
        true => format!("the process may open {files} files (ulimit -n)"),
        false => format!("the memory limit is {} MiB", memory_bytes.unwrap_or_default() >> 20),
    };
    match wanted {
        Some(wanted) if wanted > possible => Err(Error::MaxConnections { wanted, possible, why }),
        Some(wanted) => Ok(Capacity { max_connections: wanted, notes: Vec::new() }),
        None if possible < CONNECTIONS_DEFAULT => {
            let note = format!("MAX_CONNECTIONS was lowered from {CONNECTIONS_DEFAULT} to {possible}: {why}");
            Ok(Capacity { max_connections: possible, notes: vec![note] })
        }
        None => Ok(Capacity { max_connections: CONNECTIONS_DEFAULT, notes: Vec::new() }),
    }
}

/// Files that the process may open, after raising the limit as far as it may be.
pub(crate) fn files() -> u64 {
    #[cfg(target_os = "linux")]
    return baiwan_driver::raise_file_limit().soft;
    #[cfg(not(target_os = "linux"))]
    return 1024;
}

/// Memory that the process may use: the least of its cgroup's limits and the machine's.
pub(crate) fn memory_bytes() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let cgroup = read("/proc/self/cgroup").and_then(|text| {
        let path = text.lines().find_map(|line| line.strip_prefix("0::"))?.to_owned();
        read(&format!("/sys/fs/cgroup{path}/memory.max"))?.trim().parse().ok()
    });
    let machine = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.to_owned();
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
    });
    [cgroup, machine].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_lowered_and_says_why() {
        let capacity = decide(None, 2, 20_000, Some(24 << 30)).unwrap();
        assert_eq!(capacity.max_connections, 20_000 - 128 - 2 * (16 + 64));
        assert!(capacity.notes[0].contains("20000 files"), "{:?}", capacity.notes);
        let capacity = decide(None, 2, u64::MAX, Some(1 << 30)).unwrap();
        assert_eq!(capacity.max_connections, (1 << 30) / 4096);
        assert!(capacity.notes[0].contains("1024 MiB"), "{:?}", capacity.notes);
        assert_eq!(decide(None, 2, u64::MAX, None).unwrap().notes, Vec::<String>::new());
    }

    #[test]
    fn what_was_asked_for_must_be_possible() {
        assert_eq!(decide(Some(100), 1, 1024, None).unwrap().max_connections, 100);
        let error = decide(Some(5_000), 1, 1024, None).unwrap_err().to_string();
        assert!(error.contains("MAX_CONNECTIONS=5000") && error.contains("1024 files"), "{error}");
    }
}
