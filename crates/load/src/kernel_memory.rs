//! What connections cost the kernel: the objects of those caches of which a connection has some.
//!
//! Caches are read from `/sys/kernel/slab`, which resolves caches that the kernel has merged and leaves out what other programs
//! grow, such as inodes. That needs root; without it, all of `Slab` in `/proc/meminfo` is taken, which other programs disturb.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use baiwan_driver::read_kilobytes;

const FOLDER: &str = "/sys/kernel/slab";

/// The socket, its inode, file and directory entry, its registration in epoll, its port.
const CACHES: [&str; 9] = [
    "TCP",
    "sock_inode_cache",
    "filp",
    "lsm_file_cache",
    "dentry",
    "eventpoll_epi",
    "eventpoll_pwq",
    "tcp_bind_bucket",
    "tcp_bind2_bucket",
];

/// Bytes that they take now.
///
/// # Errors
/// When neither source can be read.
pub fn bytes() -> Result<u64> {
    match cache_bytes() {
        Some(bytes) => Ok(bytes),
        None => read_kilobytes("/proc/meminfo", "Slab:").context("there is no Slab in /proc/meminfo"),
    }
}

/// Where the figure comes from, for the report.
pub fn source() -> &'static str {
    match cache_bytes() {
        Some(_) => {
            "the growth of the kernel's socket, file and epoll caches (/sys/kernel/slab, objects times their size)"
        }
        None => "the growth of `Slab` in /proc/meminfo, because /sys/kernel/slab could not be read",
    }
}

fn cache_bytes() -> Option<u64> {
    let mut caches: BTreeMap<PathBuf, u64> = BTreeMap::new();
    for name in CACHES {
        // Not every kernel has every cache; merged ones are one folder with several names.
        let Ok(folder) = fs::canonicalize(format!("{FOLDER}/{name}")) else { continue };
        let number = |file: &str| first_number(&fs::read_to_string(folder.join(file)).ok()?);
        let bytes = number("objects")? * number("slab_size")?;
        caches.insert(folder, bytes);
    }
    (!caches.is_empty()).then(|| caches.values().sum())
}

/// `1383 N0=1383` is 1383 in all, and how they are spread over memory nodes.
fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_over_all_nodes_comes_first() {
        assert_eq!(first_number("1383 N0=1000 N1=383\n"), Some(1383));
        assert_eq!(first_number("2368\n"), Some(2368));
        assert_eq!(first_number(""), None);
    }
}
