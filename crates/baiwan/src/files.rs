//! The limit on open files: how many of them can be connections, and what to say when there are no more.
//!
//! ```text
//!   limit = what the server itself needs + what is kept for others + connections
//!           (its own files)                (spare: at most a quarter)
//! ```

use std::io;
use std::time::Duration;

use crate::fd_tables::FdTables;

/// Files of a core's runtime, which stay open in every table so that the others can wake it.
const RUNTIME_FILES: u64 = 4;
/// Files that a core opens besides, listeners apart: its epoll instance and an alarm, and what an app has there, such as a reader of
/// a database.
const CORE_FILES: u64 = 4;
/// Files of a server that another process can take over from: a thread's runtime, the door and two processes at it, and the admin side's
/// socket. Each core's listening sockets come on top.
const TAKEOVER_FILES: u64 = 8;
/// Files for what handlers open.
const HANDLER_FILES_MAX: u64 = 128;
/// Connections beyond the maximum that a core tells so at the same time; further ones are reset.
pub(crate) const TURNED_AWAY_MAX: usize = 64;
/// Those of them, of all cores, that are read for a moment: whoever asks for the server's health is answered.
pub(crate) const PROBES_MAX: u64 = 16;
/// Connections that a core has accepted and not looked at yet. Where one table is full, so are the others, and such a core
/// waits; one that is full alone must still have room to turn them away.
pub(crate) const ACCEPTED_MAX: u64 = 64;
/// How long a listener rests when the system has no more files or memory.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How much time passes, at least, before a core says it again.
pub(crate) const COMPLAINT_PAUSE: Duration = Duration::from_secs(1);
/// Of a small limit, a quarter is kept for others than connections.
const SPARE_DIVISOR: u64 = 4;
/// A limit is large enough if it is at least twice what the server itself needs: then another quarter can be connections.
const ENOUGH_FACTOR: u64 = 2;

/// What limits the files of the process.
#[derive(Clone, Copy, Debug)]
pub struct Files {
    /// Files that may be open in a table.
    pub max: u64,
    /// Whether the cores share one table.
    pub tables: FdTables,
    /// Files that are open before the server starts. With a table for each core, they are in all tables.
    pub open: u64,
    /// Addresses that each core listens on.
    pub listeners: u64,
}

/// What a server has beside its cores that keeps files open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sides {
    /// Files of its admin side; none without one.
    pub admin_files: u64,
    /// The addresses that it listens on, if another process can take over from it.
    pub takeover_addresses: Option<u64>,
}

impl Sides {
    fn files(self, cores: u64) -> u64 {
        self.admin_files + self.takeover_addresses.map_or(0, |addresses| TAKEOVER_FILES + addresses * cores)
    }
}

impl Files {
    /// Those of this process, after raising the limit as far as it may be.
    pub(crate) fn of_process(tables: FdTables, listeners: usize) -> Self {
        #[cfg(all(target_os = "linux", not(baiwan_portable)))]
        let max = baiwan_driver::raise_file_limit().soft;
        #[cfg(not(all(target_os = "linux", not(baiwan_portable))))]
        let max = 1024;
        // None where /proc is not mounted: then what is kept for handlers has to do.
        let open = baiwan_driver::open_files();
        Self { max, tables, open, listeners: listeners as u64 }
    }

    /// With as many more that are kept open beside the server's own.
    #[must_use]
    pub fn with(self, more: u64) -> Self {
        Self { open: self.open + more, ..self }
    }

    /// With those of `sides`. Where each core has a table of its own, they are in none of those.
    #[must_use]
    pub fn with_sides(self, sides: Sides, cores: u64) -> Self {
        match self.tables {
            FdTables::Shared => self.with(sides.files(cores)),
            FdTables::PerCore => self,
        }
    }

    /// Connections that one table has room for.
    pub fn connections(self, cores: u64) -> u64 {
        self.max.saturating_sub(self.needed(cores) + self.spare(cores)).max(1)
    }

    /// The least limit on open files with which one table has room for `connections`, whatever the limit is now.
    pub fn limit_for(self, connections: u64, cores: u64) -> u64 {
        let used = connections.saturating_add(self.needed(cores));
        // Where the spare part is `limit / SPARE_DIVISOR`, rounded down, and where it is all that is ever kept.
        let of_small = used.saturating_sub(1).saturating_mul(SPARE_DIVISOR) / (SPARE_DIVISOR - 1) + 1;
        of_small.min(used.saturating_add(self.spare_max(cores)))
    }

    /// Connections beyond the maximum that a core may turn away at the same time, and accept at once: they come out of what is
    /// kept for others.
    pub(crate) fn turned_away_max(self, cores: u64) -> usize {
        let share = TURNED_AWAY_MAX as u64 * self.spare(cores) / self.spare_max(cores);
        share.max(1) as usize
    }

    /// Files of one table that the server itself has open.
    fn needed(self, cores: u64) -> u64 {
        let of_a_core = CORE_FILES + self.listeners;
        match self.tables {
            FdTables::Shared => self.open + (RUNTIME_FILES + of_a_core) * cores,
            FdTables::PerCore => self.open + RUNTIME_FILES * cores + of_a_core,
        }
    }

    /// Files of one table that are kept for handlers, and for connections that are being turned away.
    fn spare(self, cores: u64) -> u64 {
        self.spare_max(cores).min(self.max / SPARE_DIVISOR)
    }

    fn spare_max(self, cores: u64) -> u64 {
        HANDLER_FILES_MAX
            + match self.tables {
                FdTables::Shared => TURNED_AWAY_MAX as u64 * cores,
                FdTables::PerCore => TURNED_AWAY_MAX as u64 + ACCEPTED_MAX,
            }
    }

    /// What to do about a limit of which less than a quarter can be connections. `None` if it is large enough.
    pub(crate) fn shortage(self, cores: u64) -> Option<String> {
        let needed = self.needed(cores);
        let enough = needed * ENOUGH_FACTOR;
        (self.max < enough).then(|| {
            format!(
                "with {cores} cores the server itself needs {needed} of them: allow at least {enough}, better thousands \
                 (ulimit -n, LimitNOFILE=), or use fewer cores (WORKERS)"
            )
        })
    }

    /// What the limit is, in words.
    pub(crate) fn limit(self) -> String {
        let whose = match self.tables {
            FdTables::Shared => "the process",
            FdTables::PerCore => "each core",
        };
        format!("{whose} may open {} files (ulimit -n)", self.max)
    }
}

/// The system's error numbers of a process, and of a machine, without files: the same on all Unix systems.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

/// An error in words; for a lack of files, with the limit in force and what to do.
pub(crate) fn explain(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(EMFILE) => {
            #[cfg(all(target_os = "linux", not(baiwan_portable)))]
            let limit = format!("no more than {} files may be open", baiwan_driver::FileLimit::now().soft);
            #[cfg(not(all(target_os = "linux", not(baiwan_portable))))]
            let limit = "no more files may be open";
            format!("too many open files: {limit}; allow more (ulimit -n, LimitNOFILE=)")
        }
        Some(ENFILE) => "too many open files in the system: allow more (sysctl fs.file-max)".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(max: u64, tables: FdTables) -> Files {
        Files { max, tables, open: 14, listeners: 1 }
    }

    #[test]
    fn of_a_small_limit_most_files_are_connections() {
        // What the server itself needs, and a quarter, are none: of 256 files 160 are left.
        for (max, connections) in [(256, 256 - 32 - 64), (512, 512 - 32 - 128), (1024, 1024 - 32 - 256)] {
            let files = files(max, FdTables::Shared);
            assert_eq!(files.connections(2), connections);
            assert_eq!(files.shortage(2), None);
        }
    }

    #[test]
    fn of_a_large_limit_a_fixed_part_is_kept() {
        let files = files(20_000, FdTables::Shared);
        assert_eq!(files.connections(2), 20_000 - 32 - (128 + 2 * 64));
        assert_eq!(files.turned_away_max(2), TURNED_AWAY_MAX);
        assert_eq!(Files { max: u64::MAX, ..files }.turned_away_max(2), TURNED_AWAY_MAX);
    }

    #[test]
    fn the_least_limit_for_a_number_of_connections_is_enough_and_one_less_is_not() {
        for tables in [FdTables::Shared, FdTables::PerCore] {
            for (connections, cores) in [(1, 1), (2, 2), (160, 2), (999, 8), (1_000, 8), (20_000, 56), (1_000_000, 2)] {
                let limit = files(0, tables).limit_for(connections, cores);
                assert!(files(limit, tables).connections(cores) >= connections, "{connections} {cores} {limit}");
                let less = files(limit - 1, tables).connections(cores);
                assert!(less < connections || connections == 1, "{connections} {cores} {limit}");
            }
        }
    }

    #[test]
    fn what_is_beside_the_cores_is_in_the_table_that_they_share_and_in_none_of_their_own() {
        let sides = Sides { admin_files: 72, takeover_addresses: Some(3) };
        assert_eq!(files(9, FdTables::Shared).with_sides(sides, 2).open, 14 + 72 + 8 + 3 * 2);
        assert_eq!(files(9, FdTables::PerCore).with_sides(sides, 2).open, 14);
        assert_eq!(files(9, FdTables::Shared).with_sides(Sides::default(), 2).open, 14);
    }

    #[test]
    fn whoever_is_turned_away_fits_into_what_is_kept() {
        for (max, cores) in [(16, 1), (64, 2), (256, 2), (1024, 56), (20_000, 56)] {
            let files = files(max, FdTables::Shared);
            let at_once = files.turned_away_max(cores) as u64 * cores;
            assert!(at_once <= files.spare(cores).max(cores), "{at_once} of {}", files.spare(cores));
        }
    }

    #[test]
    fn a_limit_that_the_server_uses_up_itself_is_called_so_with_what_would_do() {
        for tables in [FdTables::Shared, FdTables::PerCore] {
            let small = files(32, tables);
            assert_eq!(small.connections(8), 1);
            let said = small.shortage(8).unwrap();
            let enough = said.split("at least ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
            assert_eq!(files(enough, tables).shortage(8), None, "{said}");
            assert!(files(enough, tables).connections(8) >= enough / 4, "{said}");
            assert!(files(enough - 1, tables).shortage(8).is_some(), "{said}");
            assert!(said.contains("ulimit -n") && said.contains("LimitNOFILE=") && said.contains("WORKERS"), "{said}");
        }
    }

    #[test]
    fn a_lack_of_files_is_explained_with_the_limit_and_nothing_else_is_called_so() {
        let said = explain(&io::Error::from_raw_os_error(EMFILE));
        assert!(said.contains("ulimit -n") && said.contains("LimitNOFILE="), "{said}");
        #[cfg(all(target_os = "linux", not(baiwan_portable)))]
        assert!(said.contains(&baiwan_driver::FileLimit::now().soft.to_string()), "{said}");
        assert!(explain(&io::Error::from_raw_os_error(ENFILE)).contains("fs.file-max"));
        let other = io::Error::from_raw_os_error(12);
        assert_eq!(explain(&other), other.to_string());
    }
}
