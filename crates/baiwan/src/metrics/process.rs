//! The process as the system sees it: what `/proc` says when somebody asks. Where there is no `/proc` there is nothing of this.
//!
//! The names are those that Prometheus's own libraries use.

use std::fs;
use std::path::Path;

use baiwan_driver::read_kilobytes;

/// Ticks a second in `/proc`, on every Linux that Rust runs on: USER_HZ.
const TICKS: f64 = 100.0;

/// What a scrape says of the process; what cannot be read is absent.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) start_seconds: Option<f64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
    pub(super) threads: Option<u64>,
    pub(super) listen_overflows: Option<u64>,
}

impl Process {
    /// Reads the files below `root`, which is `/` but for tests.
    pub(super) fn read(root: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let stat = text("proc/self/stat");
        // The name of the program, in brackets, may hold anything: the fields are counted from its end (proc_pid_stat(5)).
        let fields: Vec<&str> =
            stat.rsplit_once(')').map_or_else(Vec::new, |(_, rest)| rest.split_whitespace().collect());
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let boot = text("proc/stat").lines().find_map(|line| line.strip_prefix("btime ")?.parse::<f64>().ok());
        let bytes = |name| read_kilobytes(root.join("proc/self/status"), name);
        Self {
            cpu_seconds: field(14).zip(field(15)).map(|(user, system)| (user + system) as f64 / TICKS),
            resident_bytes: bytes("VmRSS:"),
            virtual_bytes: bytes("VmSize:"),
            start_seconds: boot.zip(field(22)).map(|(boot, ticks)| boot + ticks as f64 / TICKS),
            open_fds: open_fds(&root.join("proc/self/fd")),
            max_fds: text("proc/self/limits")
                .lines()
                .find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok()),
            threads: field(20),
            listen_overflows: listen_overflows(&text("proc/self/net/netstat")),
        }
    }
}

/// Since Linux 6.2 the size of the folder is the number of its files (proc_pid_fd(5)); before, somebody has to count.
fn open_fds(folder: &Path) -> Option<u64> {
    let size = fs::metadata(folder).ok()?.len();
    // The one that lists the folder is not counted.
    if size > 0 { Some(size) } else { Some((fs::read_dir(folder).ok()?.count() as u64).saturating_sub(1)) }
}

/// `TcpExt ListenOverflows`: a line of names, and below it one of numbers.
fn listen_overflows(netstat: &str) -> Option<u64> {
    let mut lines = netstat.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let place = names.split_whitespace().position(|name| name == "ListenOverflows")?;
    numbers.split_whitespace().nth(place)?.parse().ok()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_described_as_the_system_sees_it() {
        let process = Process::read(Path::new("/"));
        assert!(process.cpu_seconds.is_some_and(|seconds| seconds >= 0.0));
        let (resident, all) = (process.resident_bytes.unwrap(), process.virtual_bytes.unwrap());
        assert!(1 << 20 < resident && resident <= all);
        #[expect(clippy::disallowed_methods, reason = "the process began at some wall time")]
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let began = process.start_seconds.unwrap();
        assert!(now - 3600.0 < began && began < now + 1.0, "{began} {now}");
        assert!(process.open_fds.is_some_and(|fds| fds >= 3) && process.max_fds > process.open_fds);
        assert!(process.threads.is_some_and(|threads| threads >= 2), "the test's own");
        let nothing = Process::read(Path::new("/nowhere"));
        assert!(nothing.cpu_seconds.is_none() && nothing.open_fds.is_none() && nothing.listen_overflows.is_none());
    }

    #[test]
    fn overflows_of_listeners_are_found_by_their_name() {
        let netstat = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 23 4\nIpExt: A\nIpExt: 5\n";
        assert_eq!(listen_overflows(netstat), Some(23));
        assert_eq!(listen_overflows("TcpExt: A\nTcpExt: 1\n"), None);
    }
}
