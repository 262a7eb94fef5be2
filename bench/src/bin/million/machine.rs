//! Whether this machine can hold a number of connections, both ends of each, and which setting stops it.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use anyhow::{Context, Result, bail};
use baiwan_driver::read_kilobytes;

/// Memory of both ends of an idle connection, kernel and user, rounded up from what was measured.
const BYTES_PER_CONNECTION: u64 = 8_000;
/// Memory for everything else.
const BYTES_RESERVED: u64 = 1 << 30;
/// Files of everything else.
const FILES_RESERVED: u64 = 50_000;
/// Connections that may wait to be accepted: those that are opened at the same time.
const BACKLOG: u64 = 1_024;

const CONNTRACK: &str = "net.netfilter.nf_conntrack_max";

/// A setting of the kernel that must have at least the value `least`.
struct Setting {
    name: &'static str,
    least: u64,
    why: &'static str,
}

/// Checks the machine. What is too low is named, or raised with `tune`; says what was raised.
pub(crate) fn check(connections: u64, tune: bool) -> Result<Vec<String>> {
    let needed = connections * BYTES_PER_CONNECTION + BYTES_RESERVED;
    let available = available_bytes().context("there is no MemAvailable in /proc/meminfo")?;
    if available < needed {
        bail!(
            "{connections} connections, both ends, need about {} MiB of memory; {} MiB are available",
            needed >> 20,
            available >> 20
        );
    }
    let (mut raised, mut missing) = (Vec::new(), Vec::new());
    for setting in settings(connections) {
        let path = format!("/proc/sys/{}", setting.name.replace('.', "/"));
        // A kernel without this part has no such limit, and a firewall that tracks nothing needs no room for it.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        if setting.name == CONNTRACK && !tracks() {
            continue;
        }
        let value: u64 = text.trim().parse().with_context(|| format!("{path} is no number"))?;
        if value >= setting.least {
            continue;
        }
        let Setting { name, least, why } = setting;
        if tune {
            fs::write(&path, least.to_string()).with_context(|| format!("cannot raise {name} to {least}"))?;
            raised.push(format!("{name} from {value} to {least} ({why})"));
        } else {
            missing.push(format!("{name} is {value}, and must be {least} ({why}): sysctl -w {name}={least}"));
        }
    }
    if !missing.is_empty() {
        bail!("this machine's limits are too low; raise them, or have --tune do it:\n  {}", missing.join("\n  "));
    }
    Ok(raised)
}

/// Memory that programs may still take.
pub(crate) fn available_bytes() -> Option<u64> {
    read_kilobytes("/proc/meminfo", "MemAvailable:")
}

/// Whether the firewall tracks connections here: a connection of our own shows.
fn tracks() -> bool {
    let connection = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| Ok((TcpStream::connect(listener.local_addr()?)?, listener)));
    let count = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count");
    connection.is_err() || count.is_ok_and(|count| count.trim() != "0")
}

fn settings(connections: u64) -> [Setting; 6] {
    [
        Setting { name: "fs.file-max", least: 2 * connections + FILES_RESERVED, why: "files of all processes" },
        Setting { name: "fs.epoll.max_user_watches", least: 2 * connections + FILES_RESERVED, why: "both ends wait" },
        Setting { name: "net.core.somaxconn", least: BACKLOG, why: "connections that wait to be accepted" },
        Setting { name: "net.ipv4.tcp_max_syn_backlog", least: BACKLOG, why: "connections that are half open" },
        Setting { name: CONNTRACK, least: connections + FILES_RESERVED, why: "connections that the firewall tracks" },
        Setting { name: "kernel.threads-max", least: 2_048, why: "threads of server and load" },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_any_machine_holds_is_refused_and_says_how_much_it_takes() {
        let message = check(1 << 40, false).unwrap_err().to_string();
        assert!(message.contains("MiB are available"), "{message}");
    }
}
