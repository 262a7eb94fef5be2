//! How many connections this process can hold: the lesser of what files and memory allow.

use crate::{Error, FdTables};

/// What is asked for when nobody asks for anything.
const CONNECTIONS_DEFAULT: u64 = 1_000_000;
/// Files that are not connections: standard streams, listeners, databases, logs, what handlers open.
const FILES_RESERVED: u64 = 128;
/// Files of each core: its runtime, its epoll instance, its listeners; and connections that are being turned away.
const FILES_PER_CORE: u64 = 16 + TURNED_AWAY_MAX as u64;
/// Connections beyond the maximum that a core tells so at the same time; further ones are reset.
pub(crate) const TURNED_AWAY_MAX: usize = 64;
/// Connections beyond the maximum, of all cores, that are read for a moment: whoever asks for the server's health is answered.
pub(crate) const PROBES_MAX: u64 = 16;
/// Files of a core's runtime, which stay open in every table so that the others can wake it.
const RUNTIME_FILES: u64 = 4;
const _: () = assert!(PROBES_MAX <= TURNED_AWAY_MAX as u64);
/// Connections that a core has accepted and not looked at yet. Where one table is full, so are the others, and such a core
/// waits; one that is full alone must still have room to turn them away.
pub(crate) const ACCEPTED_MAX: u64 = 64;
/// Kernel and user memory of an idle connection, rounded up: 3,640 bytes of sockets, 208 of epoll, a slot of 64.
const BYTES_PER_CONNECTION: u64 = 4096;

/// The maximum in force, and how it came about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Connections held at the same time, at most.
    pub max_connections: u64,
    /// Connections that one core holds, at most. Less than `max_connections` only with [`FdTables::PerCore`].
    pub max_connections_per_core: u64,
    /// What was lowered and why, a sentence each, for whoever starts the server.
    pub notes: Vec<String>,
}

/// What limits the files of the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Files {
    /// Files that may be open in a table.
    pub(crate) max: u64,
    pub(crate) tables: FdTables,
    /// Files that are open already. With a table for each core, they are in all tables.
    pub(crate) open: u64,
}

impl Files {
    /// Connections that one table has room for.
    fn connections(self, cores: u64) -> u64 {
        let others = match self.tables {
            FdTables::Shared => FILES_PER_CORE * cores,
            FdTables::PerCore => self.open + RUNTIME_FILES * cores + FILES_PER_CORE + ACCEPTED_MAX,
        };
        self.max.saturating_sub(FILES_RESERVED + others).max(1)
    }
}

/// Decides the maximum. What was asked for must be possible; the default is lowered to what is.
pub(crate) fn decide(
    wanted: Option<u64>,
    cores: usize,
    files: Files,
    memory_bytes: Option<u64>,
) -> Result<Capacity, Error> {
    let in_a_table = files.connections(cores as u64);
    let (by_files, whose) = match files.tables {
        FdTables::Shared => (in_a_table, "the process"),
        FdTables::PerCore => (in_a_table.saturating_mul(cores as u64), "each core"),
    };
    let by_memory = memory_bytes.map_or(u64::MAX, |bytes| (bytes / BYTES_PER_CONNECTION).max(1));
    let possible = by_files.min(by_memory);
    let why = match by_files <= by_memory {
        true => format!("{whose} may open {} files (ulimit -n)", files.max),
        false => format!("the memory limit is {} MiB", memory_bytes.unwrap_or_default() >> 20),
    };
    let (max_connections, notes) = match wanted {
        Some(wanted) if wanted > possible => return Err(Error::MaxConnections { wanted, possible, why }),
        Some(wanted) => (wanted, Vec::new()),
        None if possible < CONNECTIONS_DEFAULT => {
            let note = format!("MAX_CONNECTIONS was lowered from {CONNECTIONS_DEFAULT} to {possible}: {why}");
            (possible, vec![note])
        }
        None => (CONNECTIONS_DEFAULT, Vec::new()),
    };
    let max_connections_per_core = match files.tables {
        FdTables::Shared => max_connections,
        FdTables::PerCore => in_a_table.min(max_connections),
    };
    Ok(Capacity { max_connections, max_connections_per_core, notes })
}

/// Files that the process may open, after raising the limit as far as it may be.
pub(crate) fn files(tables: FdTables) -> Files {
    #[cfg(target_os = "linux")]
    let max = baiwan_driver::raise_file_limit().soft;
    #[cfg(not(target_os = "linux"))]
    let max = 1024;
    // Not to be seen where /proc is not mounted: then the reserve has to do.
    let open = std::fs::read_dir("/proc/thread-self/fd").map_or(0, |files| files.count() as u64);
    Files { max, tables, open }
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

    fn shared(max: u64) -> Files {
        Files { max, tables: FdTables::Shared, open: 10 }
    }

    #[test]
    fn the_default_is_lowered_and_says_why() {
        let capacity = decide(None, 2, shared(20_000), Some(24 << 30)).unwrap();
        assert_eq!(capacity.max_connections, 20_000 - 128 - 2 * (16 + 64));
        assert!(capacity.notes[0].contains("20000 files"), "{:?}", capacity.notes);
        let capacity = decide(None, 2, shared(u64::MAX), Some(1 << 30)).unwrap();
        assert_eq!(capacity.max_connections, (1 << 30) / 4096);
        assert!(capacity.notes[0].contains("1024 MiB"), "{:?}", capacity.notes);
        assert_eq!(decide(None, 2, shared(u64::MAX), None).unwrap().notes, Vec::<String>::new());
    }

    #[test]
    fn what_was_asked_for_must_be_possible() {
        assert_eq!(decide(Some(100), 1, shared(1024), None).unwrap().max_connections, 100);
        let error = decide(Some(5_000), 1, shared(1024), None).unwrap_err().to_string();
        assert!(error.contains("MAX_CONNECTIONS=5000") && error.contains("1024 files"), "{error}");
    }

    #[test]
    fn with_a_table_for_each_core_the_files_count_for_each() {
        let files = Files { max: 20_000, tables: FdTables::PerCore, open: 10 };
        let of_a_core = 20_000 - 128 - 10 - 4 * 56 - (16 + 64) - 64;
        let capacity = decide(None, 56, files, None).unwrap();
        assert_eq!((capacity.max_connections, capacity.notes.len()), (CONNECTIONS_DEFAULT, 0));
        assert_eq!(capacity.max_connections_per_core, of_a_core);
        let capacity = decide(None, 56, files, Some(1 << 30)).unwrap();
        assert_eq!((capacity.max_connections, capacity.max_connections_per_core), ((1 << 30) / 4096, of_a_core));
        let error = decide(Some(2_000_000), 56, files, None).unwrap_err().to_string();
        assert!(error.contains(&(56 * of_a_core).to_string()), "{error}");
        assert!(error.contains("each core may open 20000 files"), "{error}");
    }
}
