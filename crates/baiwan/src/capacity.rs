//! How many connections this process can hold: the lesser of what files and memory allow.

use baiwan_limits::MEMORY_SHORT_PERCENT;

use crate::Error;
use crate::fd_tables::FdTables;
use crate::files::Files;
use crate::memory::MemoryLimit;

/// What is asked for when nobody asks for anything.
pub const CONNECTIONS_DEFAULT: u64 = 1_000_000;
/// Kernel and user memory of an idle connection, rounded up: 3,640 bytes of sockets, 208 of epoll, a slot of 64.
pub const BYTES_PER_CONNECTION: u64 = 4096;
/// Memory of the server itself: the program, and of each core its areas and its thread. The ready service, with 64 connections
/// that ask all the time, has 5 MiB on two cores and 7 on four, pages of its file apart.
const BYTES_NEEDED: u64 = 8 << 20;
const BYTES_NEEDED_PER_CORE: u64 = 2 << 20;
/// A memory limit is called too small if less than half of it is left for connections.
const BYTES_ENOUGH_FACTOR: u64 = 2;

/// The maximum in force, and how it came about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Connections held at the same time, at most.
    pub max_connections: u64,
    /// Connections that one core holds, at most. Less than `max_connections` only with [`FdTables::PerCore`].
    pub max_connections_per_core: u64,
    /// What was lowered and why, a sentence each, for whoever starts the server.
    pub notes: Vec<String>,
    /// Those of the notes that mean trouble, with what to do. The server logs them at level WARN when it starts.
    pub warnings: Vec<String>,
    /// See [`Files::turned_away_max`].
    pub(crate) turned_away_max: usize,
}

/// Decides the maximum. What was asked for must be possible; the default is lowered to what is. `prefix` stands before the name
/// of the setting.
pub fn decide(
    prefix: &str,
    wanted: Option<u64>,
    cores: usize,
    files: Files,
    memory: Option<&MemoryLimit>,
) -> Result<Capacity, Error> {
    let cores = cores as u64;
    let in_a_table = files.connections(cores);
    let by_files = match files.tables {
        FdTables::Shared => in_a_table,
        FdTables::PerCore => in_a_table.saturating_mul(cores),
    };
    let by_memory = memory.map(|memory| (memory, (memory.bytes / BYTES_PER_CONNECTION).max(1)));
    let (possible, why, shortage) = match by_memory {
        Some((memory, possible)) if possible < by_files => (possible, memory.limit(), memory_shortage(memory, cores)),
        _ => (by_files, files.limit(), files.shortage(cores)),
    };
    let mut capacity = Capacity {
        max_connections: wanted.unwrap_or_else(|| possible.min(CONNECTIONS_DEFAULT)),
        max_connections_per_core: 0,
        notes: Vec::new(),
        warnings: Vec::new(),
        turned_away_max: files.turned_away_max(cores),
    };
    match wanted {
        Some(wanted) if wanted > possible => {
            return Err(Error::MaxConnections { name: format!("{prefix}MAX_CONNECTIONS"), wanted, possible, why });
        }
        None if possible < CONNECTIONS_DEFAULT => {
            let note = format!("{prefix}MAX_CONNECTIONS was lowered from {CONNECTIONS_DEFAULT} to {possible}: {why}");
            capacity.warnings.extend(shortage.map(|shortage| format!("{note}, and {shortage}")));
            capacity.notes.push(note);
        }
        _ => {}
    }
    capacity.notes.extend(memory.and_then(|memory| memory_note(memory, cores, capacity.max_connections)));
    capacity.max_connections_per_core = match files.tables {
        FdTables::Shared => capacity.max_connections,
        FdTables::PerCore => in_a_table.min(capacity.max_connections),
    };
    Ok(capacity)
}

/// Memory of the server itself, without connections, in bytes.
pub fn bytes_of_server(cores: u64) -> u64 {
    BYTES_NEEDED + BYTES_NEEDED_PER_CORE * cores
}

/// Idle connections that the memory holds without memory pressure, which would end them sooner. On a machine without a cgroup's limit
/// there is none.
pub fn undisturbed(memory: &MemoryLimit, cores: u64) -> u64 {
    let of_connections = match memory.is_of_machine() {
        true => memory.usable(),
        false => memory.usable().saturating_sub(bytes_of_server(cores)),
    };
    of_connections / BYTES_PER_CONNECTION
}

/// Where memory pressure comes before the maximum. The maximum stays: kernels before Linux 6.13 charge less of a connection to the cgroup.
fn memory_note(memory: &MemoryLimit, cores: u64, max_connections: u64) -> Option<String> {
    let undisturbed = undisturbed(memory, cores);
    (!memory.is_of_machine() && undisturbed < max_connections).then(|| {
        format!(
            "from about {undisturbed} connections on, {MEMORY_SHORT_PERCENT} % of the memory limit may be in use, and idle connections end \
             sooner"
        )
    })
}

/// What to do about a memory limit of which too little is left for connections. `None` if it is large enough.
fn memory_shortage(memory: &MemoryLimit, cores: u64) -> Option<String> {
    let needed = bytes_of_server(cores);
    let enough = BYTES_ENOUGH_FACTOR * needed;
    (memory.bytes < enough).then(|| {
        format!("the server itself needs some {} MiB of it: allow at least {} MiB", needed >> 20, enough >> 20)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(max: u64) -> Files {
        Files { max, tables: FdTables::Shared, open: 10, listeners: 1 }
    }

    fn memory(mib: u64) -> MemoryLimit {
        MemoryLimit { bytes: mib << 20, file: "/sys/fs/cgroup/memory.max".into() }
    }

    #[test]
    fn the_default_is_lowered_and_says_why() {
        let capacity = decide("", None, 2, shared(20_000), Some(&memory(24 << 10))).unwrap();
        assert_eq!(capacity.max_connections, shared(20_000).connections(2));
        assert!(capacity.notes[0].contains("20000 files"), "{:?}", capacity.notes);
        let capacity = decide("", None, 2, shared(u64::MAX), Some(&memory(64))).unwrap();
        assert_eq!(capacity.max_connections, (64 << 20) / 4096);
        let note =
            "MAX_CONNECTIONS was lowered from 1000000 to 16384: the memory limit is 64 MiB (/sys/fs/cgroup/memory.max)";
        let pressure =
            "from about 10854 connections on, 85 % of the memory limit may be in use, and idle connections end sooner";
        assert_eq!((capacity.notes, capacity.warnings), (vec![note.to_owned(), pressure.to_owned()], Vec::new()));
        assert_eq!(decide("", None, 2, shared(u64::MAX), None).unwrap().notes, Vec::<String>::new());
    }

    #[test]
    fn a_maximum_beyond_memory_pressure_is_said_and_one_below_is_not() {
        let notes = |wanted, memory| decide("", Some(wanted), 2, shared(u64::MAX), Some(memory)).unwrap().notes;
        let group = memory(64);
        assert_eq!(undisturbed(&group, 2), 10_854);
        assert_eq!(notes(10_854, &group), Vec::<String>::new());
        assert!(notes(10_855, &group)[0].contains("from about 10854 connections on"));
        // The server watches cgroups alone.
        let machine = MemoryLimit { file: "/proc/meminfo".into(), ..group };
        assert_eq!((undisturbed(&machine, 2), notes(16_384, &machine)), (16_384, Vec::<String>::new()));
    }

    #[test]
    fn what_was_asked_for_must_be_possible() {
        assert_eq!(decide("", Some(100), 1, shared(1024), None).unwrap().max_connections, 100);
        let error = decide("CHAT_", Some(5_000), 1, shared(1024), None).unwrap_err().to_string();
        assert!(error.starts_with("CHAT_MAX_CONNECTIONS=5000") && error.contains("1024 files"), "{error}");
        let error = decide("", Some(20_000), 1, shared(u64::MAX), Some(&memory(64))).unwrap_err().to_string();
        assert!(error.contains("MAX_CONNECTIONS=20000") && error.contains("memory.max"), "{error}");
    }

    #[test]
    fn with_a_table_for_each_core_the_files_count_for_each() {
        let files = Files { tables: FdTables::PerCore, ..shared(20_000) };
        let of_a_core = files.connections(56);
        assert_eq!(of_a_core, 20_000 - 10 - 4 * 56 - 5 - (128 + 64 + 64));
        let capacity = decide("", None, 56, files, None).unwrap();
        assert_eq!((capacity.max_connections, capacity.notes.len()), (CONNECTIONS_DEFAULT, 0));
        assert_eq!(capacity.max_connections_per_core, of_a_core);
        let capacity = decide("", None, 56, files, Some(&memory(1 << 10))).unwrap();
        assert_eq!((capacity.max_connections, capacity.max_connections_per_core), ((1 << 30) / 4096, of_a_core));
        let error = decide("", Some(2_000_000), 56, files, None).unwrap_err().to_string();
        assert!(error.contains(&(56 * of_a_core).to_string()), "{error}");
        assert!(error.contains("each core may open 20000 files"), "{error}");
    }

    #[test]
    fn row_114_a_limit_that_makes_the_default_useless_is_a_warning_with_limit_and_need() {
        let warned = |files: Files, memory: Option<&MemoryLimit>| {
            let warnings = decide("", None, 2, files, memory).unwrap().warnings;
            assert!(warnings.len() <= 1, "{warnings:?}");
            warnings.into_iter().next()
        };
        let warning = warned(shared(48), None).unwrap();
        assert!(warning.contains("may open 48 files") && warning.contains("allow at least 56"), "{warning}");
        let per_core = warned(Files { tables: FdTables::PerCore, ..shared(40) }, None).unwrap();
        assert!(per_core.contains("each core may open 40 files") && per_core.contains("at least 46"), "{per_core}");
        let memory_warning = warned(shared(20_000), Some(&memory(8))).unwrap();
        assert!(memory_warning.contains("is 8 MiB") && memory_warning.contains("at least 24 MiB"), "{memory_warning}");
        assert_eq!(warned(shared(256), Some(&memory(64))), None);
        // Whoever asks for what can be had gets it, and needs no advice.
        assert_eq!(decide("", Some(1), 2, shared(48), None).unwrap().warnings, Vec::<String>::new());
    }
}
