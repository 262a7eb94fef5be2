//! What the system allows a process and tells of itself: the limit on open files, and figures in `/proc`. Parsing is apart from
//! reading.

use std::fs;
use std::path::Path;
use std::time::Duration;

#[cfg(all(target_os = "linux", not(baiwan_portable)))]
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit on open files (`RLIMIT_NOFILE`).
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileLimit {
    /// What is in force.
    pub soft: u64,
    /// What the process may raise it to.
    pub hard: u64,
}

#[cfg(all(target_os = "linux", not(baiwan_portable)))]
impl FileLimit {
    /// What is in force now.
    pub fn now() -> Self {
        let limit = getrlimit(Resource::Nofile);
        Self { soft: limit.current.unwrap_or(u64::MAX), hard: limit.maximum.unwrap_or(u64::MAX) }
    }
}

/// Raises the soft limit to the hard one and returns what is in force then. Where the system refuses, nothing changes.
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
pub fn raise_file_limit() -> FileLimit {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // A refusal shows in what is returned.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    FileLimit::now()
}

/// Has the allocator give memory that is free back to the system, as far as that lies on whole pages (malloc_trim(3), glibc's): where
/// another C library or another allocator is in use, nothing happens. It walks through all of its heaps, about 1 ms for each 4 MiB that it
/// gives back, and threads that allocate from the same one wait meanwhile.
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim may be called at any time from any thread (MT-Safe), and takes a number of bytes.
    unsafe {
        libc::malloc_trim(0)
    };
}

/// What the calling thread has used of the processor so far, in user and system mode. Not to be seen where `/proc` is not mounted, or the
/// kernel was built without these figures (`CONFIG_SCHED_INFO`): then none.
pub fn thread_cpu_time() -> Duration {
    fs::read_to_string("/proc/thread-self/schedstat").ok().and_then(|text| parse_cpu_time(&text)).unwrap_or_default()
}

/// The first of three numbers: nanoseconds.
fn parse_cpu_time(text: &str) -> Option<Duration> {
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// Files that are open in the table of this thread. Not to be seen where `/proc` is not mounted: then none.
pub fn open_files() -> u64 {
    fs::read_dir("/proc/thread-self/fd").map_or(0, |files| files.count() as u64)
}

/// The value of a line such as `MemTotal:  120 kB` in a file of `/proc`, in bytes. `name` includes the colon. `None` if the file cannot
/// be read or has no such line.
pub fn read_kilobytes(path: impl AsRef<Path>, name: &str) -> Option<u64> {
    parse_kilobytes(&fs::read_to_string(path).ok()?, name)
}

fn parse_kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_thread_is_the_first_of_three_numbers() {
        assert_eq!(parse_cpu_time("1234567 89 10\n"), Some(Duration::from_nanos(1_234_567)));
        assert_eq!(parse_cpu_time("\n"), None);
    }

    #[test]
    fn kilobytes_are_found_by_the_whole_name() {
        let text = "Rss:                1916 kB\nPss_Dirty:             3 kB\nPss:                 120 kB\n";
        assert_eq!(parse_kilobytes(text, "Pss:"), Some(120 * 1024));
        assert_eq!(parse_kilobytes(text, "Slab:"), None);
    }
}
