//! How much of the memory is used that the process's cgroups may have.
//!
//! What the kernel takes back by itself before it lacks memory does not count: pages of files (`inactive_file` and `active_file`), and its
//! caches of names and inodes (`slab_reclaimable`). Kubernetes leaves out the inactive pages only. But files that are read again and again
//! keep their pages active, and fill any limit in time: a server that refused requests for that would never be free of it.
//! It only reads, and trusts no file to be there.

use std::fs;
use std::path::{Path, PathBuf};

use super::CONTROLLER;
use crate::cgroups::{Group, Version, groups};

/// The cgroups of the process that limit its memory, each with all groups below it.
#[derive(Debug)]
pub struct LimitedGroups(Vec<Group>);

/// What one group uses, in bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Usage {
    /// What the group and those below it use.
    pub used: u64,
    /// What they may use.
    pub limit: u64,
    /// The group.
    pub folder: PathBuf,
}

impl LimitedGroups {
    /// Those that the files below `root` (`/`, tests apart) name. `None` if no group has a limit.
    pub fn find(root: &Path) -> Option<Self> {
        let limited: Vec<_> = groups(root, CONTROLLER).into_iter().filter(|group| group.limit().is_some()).collect();
        (!limited.is_empty()).then_some(Self(limited))
    }

    /// The use of the group that is nearest to its limit, which may have changed. `None` if no group can be asked.
    pub fn usage(&self) -> Option<Usage> {
        let usages = self.0.iter().filter_map(|group| {
            let (used, limit) = (group.used()?, group.limit()?);
            Some(Usage { used, limit, folder: group.folder.clone() })
        });
        usages.max_by_key(|usage| u128::from(usage.used) * 10_000 / u128::from(usage.limit.max(1)))
    }
}

impl Group {
    /// What the groups from this one on use, less what can be had back.
    fn used(&self) -> Option<u64> {
        // Only the names that begin with `total_` count the groups below in version 1, which does not tell of its slabs.
        let (file, reclaimable): (_, &[&str]) = match self.version {
            Version::One => ("memory.usage_in_bytes", &["total_inactive_file", "total_active_file"]),
            Version::Two => ("memory.current", &["inactive_file", "active_file", "slab_reclaimable"]),
        };
        let statistics = fs::read_to_string(self.folder.join("memory.stat")).unwrap_or_default();
        let bytes = statistics.lines().filter_map(|line| {
            let (name, bytes) = line.split_once(' ')?;
            reclaimable.contains(&name).then(|| bytes.trim().parse::<u64>().ok())?
        });
        Some(self.number(file)?.saturating_sub(bytes.fold(0, u64::saturating_add)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{MIB, MOUNT_1, MOUNT_2, NONE, Tree};
    use super::*;

    /// The use in MiB, the limit, and the end of the folder's path.
    fn usage(tree: &Tree) -> Option<(u64, u64, String)> {
        let Usage { used, limit, folder } = LimitedGroups::find(tree.root())?.usage()?;
        let folder = folder.strip_prefix(tree.root()).unwrap().to_str().unwrap().trim_end_matches('/').to_owned();
        Some((used / MIB, limit / MIB, folder))
    }

    #[test]
    fn row_56_pages_of_files_and_caches_of_the_kernel_are_not_counted() {
        let two = Tree::new("0::/own\n", MOUNT_2)
            .with("sys/fs/cgroup/own/memory.max", "104857600\n")
            .with("sys/fs/cgroup/own/memory.current", "94371840\n")
            .with(
                "sys/fs/cgroup/own/memory.stat",
                "anon 31457280\nactive_file 20971520\ninactive_file 31457280\nslab_reclaimable 5242880\nslab 9999999\n",
            );
        assert_eq!(usage(&two), Some((35, 100, "sys/fs/cgroup/own".to_owned())));
        let one = Tree::new("4:memory:/own\n", MOUNT_1)
            .with("sys/fs/cgroup/memory/own/memory.limit_in_bytes", "104857600\n")
            .with("sys/fs/cgroup/memory/own/memory.usage_in_bytes", "94371840\n")
            .with(
                "sys/fs/cgroup/memory/own/memory.stat",
                "inactive_file 1048576\nactive_file 1048576\ntotal_inactive_file 31457280\ntotal_active_file 20971520\n",
            );
        assert_eq!(usage(&one), Some((40, 100, "sys/fs/cgroup/memory/own".to_owned())));
        // Without statistics, everything counts.
        let bare = two.with("sys/fs/cgroup/own/memory.stat", "");
        assert_eq!(usage(&bare), Some((90, 100, "sys/fs/cgroup/own".to_owned())));
    }

    #[test]
    fn row_56_of_several_groups_the_one_nearest_to_its_limit_counts() {
        let tree = Tree::new("0::/above/own\n", MOUNT_2)
            .with("sys/fs/cgroup/above/own/memory.max", "104857600\n")
            .with("sys/fs/cgroup/above/own/memory.current", "52428800\n")
            .with("sys/fs/cgroup/above/memory.max", "1048576000\n")
            .with("sys/fs/cgroup/above/memory.current", "943718400\n");
        assert_eq!(usage(&tree), Some((900, 1000, "sys/fs/cgroup/above".to_owned())));
    }

    #[test]
    fn without_a_limit_or_a_use_nothing_is_known() {
        assert_eq!(
            usage(&Tree::new("4:memory:/own\n", MOUNT_1).with("sys/fs/cgroup/memory/own/memory.limit_in_bytes", NONE)),
            None
        );
        assert_eq!(usage(&Tree::new("0::/own\n", MOUNT_2).with("sys/fs/cgroup/own/memory.max", "max\n")), None);
        assert_eq!(usage(&Tree::new("0::/own\n", MOUNT_2).with("sys/fs/cgroup/own/memory.max", "1048576\n")), None);
        assert!(LimitedGroups::find(Path::new("/nowhere")).is_none());
    }
}
