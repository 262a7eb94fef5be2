//! The limit on the process's memory: that of its cgroups, of version 1, 2 or both, or what the machine has. How much of it is used
//! is in `memory/usage.rs`.
//!
//! It only reads. Which groups count is in `cgroups.rs`.

mod usage;

use std::path::{Path, PathBuf};

use baiwan_driver::read_kilobytes;
use baiwan_limits::MEMORY_SHORT_PERCENT;

use crate::cgroups::{Group, Version, groups};

pub use self::usage::{LimitedGroups, Usage};

/// From here on a number means "no limit": version 1 writes the most pages that it can count.
const UNLIMITED_BYTES: u64 = 1 << 62;
/// The controller of cgroups that limits memory.
const CONTROLLER: &str = "memory";
const MACHINE: &str = "proc/meminfo";

/// How much memory there is, and which file says so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemoryLimit {
    /// The limit.
    pub bytes: u64,
    /// The file that says so.
    pub file: PathBuf,
}

impl MemoryLimit {
    /// The least limit that the files below `root` (`/`, tests apart) name. `None` if they name none.
    pub fn read(root: &Path) -> Option<Self> {
        let limits = groups(root, CONTROLLER).into_iter().filter_map(|group| {
            let file = group.folder.join(limit_file(group.version));
            Some(Self { bytes: group.limit()?, file })
        });
        limits.chain(machine(root)).min_by_key(|limit| limit.bytes)
    }

    /// Whether it is what the machine has, and not the limit of a cgroup. Memory pressure is that of cgroups alone.
    pub fn is_of_machine(&self) -> bool {
        self.file.ends_with(MACHINE)
    }

    /// Bytes that can be in use before the server closes connections for it.
    pub fn usable(&self) -> u64 {
        match self.is_of_machine() {
            true => self.bytes,
            false => usable(self.bytes),
        }
    }

    /// What the limit is, in words.
    pub fn limit(&self) -> String {
        let (mib, file) = (self.bytes >> 20, self.file.display());
        match self.is_of_machine() {
            true => format!("the machine has {mib} MiB of memory ({file})"),
            false => format!("the memory limit is {mib} MiB ({file})"),
        }
    }
}

/// Bytes of a cgroup's limit that can be in use before memory is called short, which ends idle connections sooner.
pub fn usable(limit: u64) -> u64 {
    (u128::from(limit) * u128::from(MEMORY_SHORT_PERCENT) / 100) as u64
}

/// The limit that a cgroup needs so that `bytes` of it are [`usable`].
pub fn limit_for(bytes: u64) -> u64 {
    u64::try_from((u128::from(bytes) * 100).div_ceil(u128::from(MEMORY_SHORT_PERCENT))).unwrap_or(u64::MAX)
}

/// The file of a group that says its limit.
fn limit_file(version: Version) -> &'static str {
    match version {
        Version::One => "memory.limit_in_bytes",
        Version::Two => "memory.max",
    }
}

impl Group {
    /// Bytes that the group and all groups below it may use. `None` without a limit.
    fn limit(&self) -> Option<u64> {
        self.number(limit_file(self.version)).filter(|bytes| *bytes < UNLIMITED_BYTES)
    }
}

fn machine(root: &Path) -> Option<MemoryLimit> {
    let file = root.join(MACHINE);
    Some(MemoryLimit { bytes: read_kilobytes(&file, "MemTotal:")?, file })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use super::*;
    use crate::cgroups::{CGROUP, MOUNTS};

    pub(crate) const MIB: u64 = 1 << 20;
    /// What version 1 says where there is no limit.
    pub(crate) const NONE: &str = "9223372036854771712";

    /// What `/` looks like to a process, as far as it matters here.
    pub(crate) struct Tree(tempfile::TempDir);

    impl Tree {
        pub(crate) fn new(groups: &str, mounts: &str) -> Self {
            let tree = Self(tempfile::tempdir().unwrap());
            tree.with(CGROUP, groups).with(MOUNTS, mounts).with(MACHINE, "MemTotal:        8388608 kB\n")
        }

        pub(crate) fn root(&self) -> &Path {
            self.0.path()
        }

        pub(crate) fn with(self, file: &str, text: &str) -> Self {
            let file = self.0.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
            self
        }

        /// The limit in MiB, and the file that says so.
        fn limit(&self) -> (u64, String) {
            let limit = MemoryLimit::read(self.0.path()).unwrap();
            let file = limit.file.strip_prefix(self.0.path()).unwrap();
            (limit.bytes / MIB, file.display().to_string())
        }
    }

    fn is(mib: u64, file: &str) -> (u64, String) {
        (mib, file.to_owned())
    }

    pub(crate) const MOUNT_1: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n";
    pub(crate) const MOUNT_2: &str =
        "35 31 0:32 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn without_a_limit_it_is_the_machines_memory() {
        let tree = Tree::new("0::/a\n", MOUNT_2).with("sys/fs/cgroup/a/memory.max", "max\n");
        assert_eq!(tree.limit(), is(8192, "proc/meminfo"));
        let tree = Tree::new("4:memory:/a\n", MOUNT_1).with("sys/fs/cgroup/memory/a/memory.limit_in_bytes", NONE);
        assert_eq!(tree.limit(), is(8192, "proc/meminfo"));
        assert_eq!(Tree::new("", "").limit(), is(8192, "proc/meminfo"));
        let said = MemoryLimit::read(Tree::new("", "").0.path()).unwrap().limit();
        assert!(said.starts_with("the machine has 8192 MiB of memory"), "{said}");
        assert_eq!(MemoryLimit::read(Path::new("/nowhere")), None);
    }

    #[test]
    fn a_limit_of_version_2_counts_for_the_groups_below() {
        let tree = Tree::new("0::/above/own\n", MOUNT_2)
            .with("sys/fs/cgroup/above/own/memory.max", "268435456\n")
            .with("sys/fs/cgroup/above/memory.max", "max\n");
        assert_eq!(tree.limit(), is(256, "sys/fs/cgroup/above/own/memory.max"));
        let tree = tree.with("sys/fs/cgroup/above/memory.max", "67108864\n");
        assert_eq!(tree.limit(), is(64, "sys/fs/cgroup/above/memory.max"));
    }

    #[test]
    fn a_limit_of_version_1_counts_for_the_groups_below() {
        let groups = "5:devices:/elsewhere\n4:cpu,memory:/above/own\n1:name=systemd:/elsewhere\n";
        let mounts = format!(
            "34 31 0:31 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n{}",
            MOUNT_1.replace("rw,memory", "rw,cpu,memory")
        );
        let tree = Tree::new(groups, &mounts)
            .with("sys/fs/cgroup/memory/above/own/memory.limit_in_bytes", NONE)
            .with("sys/fs/cgroup/memory/above/memory.limit_in_bytes", "67108864\n");
        assert_eq!(tree.limit(), is(64, "sys/fs/cgroup/memory/above/memory.limit_in_bytes"));
    }

    #[test]
    fn of_both_versions_at_once_the_least_limit_counts() {
        let mounts = format!("{MOUNT_1}41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n");
        let tree = Tree::new("4:memory:/one\n0::/two\n", &mounts)
            .with("sys/fs/cgroup/memory/one/memory.limit_in_bytes", "67108864\n")
            .with("sys/fs/cgroup/unified/two/cgroup.procs", "");
        assert_eq!(tree.limit(), is(64, "sys/fs/cgroup/memory/one/memory.limit_in_bytes"));
        let tree = tree.with("sys/fs/cgroup/unified/two/memory.max", "33554432\n");
        assert_eq!(tree.limit(), is(32, "sys/fs/cgroup/unified/two/memory.max"));
    }

    #[test]
    fn in_a_container_the_limit_is_where_its_hierarchy_is_mounted() {
        // With a namespace of its own the group is `/`, or above what can be seen.
        for group in ["/", "/../..", "/../other"] {
            let tree = Tree::new(&format!("0::{group}\n"), MOUNT_2).with("sys/fs/cgroup/memory.max", "67108864\n");
            assert_eq!(tree.limit(), is(64, "sys/fs/cgroup/memory.max"), "{group}");
        }
        // Without one the group is the host's, and what is mounted begins there.
        let mount = MOUNT_1.replace("0:32 /", "0:32 /docker/4f5e");
        for (group, folder) in [("/docker/4f5e", ""), ("/docker/4f5e/part", "part/"), ("/docker/4f5e6", ""), ("/", "")]
        {
            let file = format!("sys/fs/cgroup/memory/{folder}memory.limit_in_bytes");
            let tree = Tree::new(&format!("4:memory:{group}\n"), &mount).with(&file, "67108864\n");
            assert_eq!(tree.limit(), is(64, &file), "{group}");
        }
        // From within a namespace, a hierarchy that was mounted outside begins above.
        let mount = MOUNT_2.replace("0:32 /", "0:32 /..");
        let tree = Tree::new("0::/../own\n", &mount).with("sys/fs/cgroup/own/memory.max", "67108864\n");
        assert_eq!(tree.limit(), is(64, "sys/fs/cgroup/own/memory.max"));
    }
}
