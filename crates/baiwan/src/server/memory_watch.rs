//! Watches how much of its memory the process uses, on a thread of its own: a core that is busy does not delay it, and it delays no core.
//!
//! Once a second, and more often when memory is about to become short, it asks the cgroups, says when the server begins to give something up, or no longer does, and leaves the rest to the
//! cores (`engine/shrink.rs`) and the gate.
//!
//! The invariant: where no cgroup has a limit, there is no thread.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use baiwan_limits::{MemoryLevel, MemoryPressure};

use super::side_thread::{Pauses, SideThread};
use crate::memory::{LimitedGroups, Usage};
use crate::say::say;
use crate::status::Status;

/// Between two looks, by the percentage from which it holds. A flood of 12,000 connections that each send 14 KiB of a head fills a sixth of
/// 128 MiB in half a second, so who is near the limit must look often. A look takes about 0.1 ms.
const PAUSES: [(u8, Duration); 3] =
    [(80, Duration::from_millis(20)), (60, Duration::from_millis(100)), (0, Duration::from_secs(1))];

/// Ends the watch when it is dropped.
#[derive(Debug)]
pub(super) struct MemoryWatch(#[expect(dead_code, reason = "that it is dropped is what matters")] SideThread);

impl MemoryWatch {
    /// Begins to watch, if the files below `root` (`/`, tests apart) name a cgroup with a limit.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub(super) fn begin(root: &Path, status: Arc<Status>) -> io::Result<Option<Self>> {
        let Some(groups) = LimitedGroups::find(root) else { return Ok(None) };
        let watch = move |pauses: Pauses| {
            loop {
                look(&groups, &status);
                if !pauses.pause(pause(status.memory_pressure().percent)) {
                    return;
                }
            }
        };
        SideThread::begin("baiwan-memory", watch).map(|thread| Some(Self(thread)))
    }
}

fn pause(percent: u8) -> Duration {
    PAUSES.into_iter().find(|(from, _)| percent >= *from).map_or(PAUSES[0].1, |(_, pause)| pause)
}

/// Looks once. Where nothing can be read, what was known before still holds.
fn look(groups: &LimitedGroups, status: &Status) {
    let Some(usage) = groups.usage() else { return };
    let before = status.memory_pressure();
    let now = before.next(usage.used, usage.limit);
    status.set_memory_pressure(now);
    if now.level != before.level {
        say_level(before, now, &usage);
    }
}

fn say_level(before: MemoryPressure, now: MemoryPressure, usage: &Usage) {
    let Usage { used, limit, folder } = usage;
    let (used_mib, limit_mib, cgroup, percent) = (used >> 20, limit >> 20, folder.display(), now.percent);
    let what = match now.level {
        MemoryLevel::Enough => "memory is no longer short",
        MemoryLevel::IdleSooner => "memory is short: idle connections end sooner",
        MemoryLevel::NoKeepAlive => "memory is short: connections end after their next answer",
        MemoryLevel::Refusing => "memory is very short: requests are answered 503 (memory-pressure)",
    };
    match now.level > before.level {
        true => say(|| tracing::warn!(percent, used_mib, limit_mib, %cgroup, "{what}")),
        false => say(|| tracing::info!(percent, used_mib, limit_mib, %cgroup, "{what}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::{MIB, MOUNT_2, Tree};

    fn tree(used_mib: u64) -> Tree {
        Tree::new("0::/own\n", MOUNT_2)
            .with("sys/fs/cgroup/own/memory.max", &(100 * MIB).to_string())
            .with("sys/fs/cgroup/own/memory.current", &(used_mib * MIB).to_string())
    }

    fn eventually(condition: impl Fn() -> bool) {
        for _ in 0..20_000 {
            if condition() {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        panic!("it did not come to pass");
    }

    #[test]
    fn row_56_each_look_tells_the_cores_and_counts_what_changes() {
        let mut tree = tree(50);
        let groups = LimitedGroups::find(tree.root()).unwrap();
        let status = Status::new(1, 1, 1);
        let mut seen = Vec::new();
        for used_mib in [50, 86, 86, 93, 99, 60] {
            tree = tree.with("sys/fs/cgroup/own/memory.current", &(used_mib * MIB).to_string());
            look(&groups, &status);
            seen.push((status.memory_pressure().percent, status.memory_pressure().level));
        }
        use MemoryLevel::{Enough, IdleSooner, NoKeepAlive, Refusing};
        let expected =
            [(50, Enough), (86, IdleSooner), (86, IdleSooner), (93, NoKeepAlive), (99, Refusing), (60, Enough)];
        assert_eq!(seen, expected);
        assert_eq!(status.memory_steps(), 4);
        // What cannot be read changes nothing.
        let _unreadable = tree.with("sys/fs/cgroup/own/memory.current", "much");
        look(&groups, &status);
        assert_eq!(status.memory_pressure().percent, 60);
    }

    #[test]
    fn row_56_the_nearer_the_limit_the_more_often_it_looks() {
        assert_eq!([0, 59, 60, 79, 80, 100].map(|percent| pause(percent).as_millis()), [1000, 1000, 100, 100, 20, 20]);
    }

    #[test]
    fn row_56_a_watch_looks_at_once_and_ends_with_its_server() {
        let (tree, status) = (tree(96), Status::new(1, 1, 1));
        let watch = MemoryWatch::begin(tree.root(), Arc::clone(&status)).unwrap().expect("there is a limit");
        eventually(|| status.memory_pressure().level == MemoryLevel::Refusing);
        drop(watch);
        assert_eq!(Arc::strong_count(&status), 1, "its thread has ended, which held the other");
        assert!(MemoryWatch::begin(Path::new("/nowhere"), status).unwrap().is_none());
    }
}
