//! How many connections may wait in the queue of a listener until a core accepts them: what is asked for, and what the kernel makes of it.

use std::fs;
use std::path::Path;

#[cfg(all(target_os = "linux", not(baiwan_portable)))]
pub use baiwan_driver::BACKLOG_MAX;
/// What the standard library asks for, or more.
#[cfg(not(all(target_os = "linux", not(baiwan_portable))))]
pub const BACKLOG_MAX: u32 = 4096;

const SOMAXCONN: &str = "proc/sys/net/core/somaxconn";

/// How long a listener's queue must be for a server that may hold this number of connections: all of them may come at once, and no listener
/// asks for more than [`BACKLOG_MAX`].
pub fn backlog_wanted(connections: u64) -> u64 {
    connections.min(BACKLOG_MAX.into())
}

/// A note for the start where the kernel gives each listener less than that. `root` is `/`, tests apart; nothing is said where the limit
/// cannot be read.
pub(crate) fn note(root: &Path, connections: u64) -> Option<String> {
    let limit: u64 = fs::read_to_string(root.join(SOMAXCONN)).ok()?.trim().parse().ok()?;
    let wanted = backlog_wanted(connections);
    (limit < wanted).then(|| {
        format!(
            "the queue of each listener was lowered from {wanted} to {limit} connections: net.core.somaxconn allows no more"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::Tree;

    #[test]
    fn a_queue_that_the_kernel_shortens_is_noted_with_both_lengths() {
        let tree = |text| Tree::new("", "").with(SOMAXCONN, text);
        let said = note(tree("128\n").root(), 1_000_000).unwrap();
        let expected = format!("from {BACKLOG_MAX} to 128 connections: net.core.somaxconn");
        assert!(said.contains(&expected), "{said}");
        assert!(note(tree("128\n").root(), 1_000).unwrap().contains("from 1000 to 128"));
        for (limit, connections) in [("128\n", 128), ("65535\n", 1_000_000), ("many\n", 1_000_000), ("", 1_000_000)] {
            assert_eq!(note(tree(limit).root(), connections), None, "{limit} {connections}");
        }
        assert_eq!(note(Path::new("/nowhere"), 1_000_000), None);
    }
}
