//! The cgroups that the process is in, of version 1, 2 or both, as far as they can be seen. What their files say of memory is in
//! `memory.rs`.
//!
//! It only reads: `/proc/self/cgroup` says which group of each hierarchy the process is in, `/proc/self/mountinfo` where those
//! hierarchies are mounted and from which group on they can be seen (cgroups(7), proc_pid_mountinfo(5)). A group's limit counts
//! for all groups below it.

use std::fs;
use std::path::{Component, Path, PathBuf};

pub(crate) const CGROUP: &str = "proc/self/cgroup";
pub(crate) const MOUNTS: &str = "proc/self/mountinfo";

/// A cgroup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Of its hierarchy.
    pub version: Version,
    /// Where its files are.
    pub folder: PathBuf,
}

impl Group {
    /// What a file of the group says.
    pub fn text(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.folder.join(file)).ok()
    }

    /// The number that is all that a file of the group says.
    pub fn number(&self, file: &str) -> Option<u64> {
        self.text(file)?.trim().parse().ok()
    }
}

/// The groups whose limits count for the process: of each hierarchy that may have the `controller` (such as `memory`), the process's own and
/// then those above it. Files are below `root`, which is `/`, tests apart.
pub fn groups(root: &Path, controller: &str) -> Vec<Group> {
    let of_process = fs::read_to_string(root.join(CGROUP)).unwrap_or_default();
    let mounts = fs::read_to_string(root.join(MOUNTS)).unwrap_or_default();
    let mut groups = Vec::new();
    for version in [Version::One, Version::Two] {
        let Some((mount, group)) = version.place(controller, &of_process, &mounts) else { continue };
        let mount = root.join(mount.strip_prefix("/").unwrap_or(&mount));
        groups.extend(group.ancestors().map(|group| Group { version, folder: mount.join(group) }));
    }
    groups
}

/// The version of a hierarchy of cgroups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// Version 1: a hierarchy for each controller, or for a few.
    One,
    /// Version 2: one hierarchy for all controllers.
    Two,
}

impl Version {
    /// Where the hierarchy with the controller is mounted, and the process's group as a path from there.
    fn place(self, controller: &str, groups: &str, mounts: &str) -> Option<(PathBuf, PathBuf)> {
        let group = groups.lines().find_map(|line| self.group(controller, line))?;
        let mounts: Vec<(&str, &str)> = mounts.lines().filter_map(|line| self.mount(controller, line)).collect();
        let below = mounts.iter().find_map(|(seen_from, mount)| {
            let path = Path::new(group).strip_prefix(seen_from).ok()?;
            let is_seen = path.components().all(|part| matches!(part, Component::Normal(_)));
            is_seen.then(|| (PathBuf::from(mount), path.to_owned()))
        });
        // A namespace may hide where the process is. What is mounted is then its own group, as in containers, or one above it.
        below.or_else(|| Some((PathBuf::from(mounts.first()?.1), PathBuf::new())))
    }

    /// The group in a line `NUMBER:CONTROLLERS:GROUP`, if it is of this version and may have the controller.
    fn group<'a>(self, controller: &str, line: &'a str) -> Option<&'a str> {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, group) = (fields.next()?, fields.next()?);
        let is_it = match self {
            Self::One => controllers.split(',').any(|one| one == controller),
            Self::Two => controllers.is_empty(),
        };
        is_it.then_some(group)
    }

    /// From which group on the hierarchy is seen, and where, in a line
    /// `ID PARENT DEVICE SEEN_FROM WHERE OPTIONS… - TYPE SOURCE OPTIONS`.
    fn mount<'a>(self, controller: &str, line: &'a str) -> Option<(&'a str, &'a str)> {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (seen_from, mount) = (place.next()?, place.next()?);
        let mut kind = kind.split(' ');
        let (kind, options) = (kind.next()?, kind.nth(1)?);
        let is_it = match self {
            Self::One => kind == "cgroup" && options.split(',').any(|option| option == controller),
            Self::Two => kind == "cgroup2",
        };
        is_it.then_some((seen_from, mount))
    }
}
