//! How much memory the process takes for so and so many keys.

use anyhow::Context;
use serde_json::{Value, json};

use crate::stores::{client, store};

/// The growth of the resident set while `keys` clients come.
pub(crate) fn measure(name: &str, keys: u32) -> anyhow::Result<Value> {
    let before = resident_bytes()?;
    let store = store(name)?;
    for number in 0..keys {
        store.check(client(number));
    }
    let grown = resident_bytes()?.saturating_sub(before);
    Ok(json!({ "store": store.name(), "keys": keys, "bytes": grown }))
}

/// As the kernel counts it (proc_pid_status(5)).
pub(crate) fn resident_bytes() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the kernel tells no VmRSS")?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes * 1024)
}
