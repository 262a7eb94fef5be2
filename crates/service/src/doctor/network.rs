//! The network of this namespace: queues of connections that nobody has accepted, memory of messages that nobody has read, what tracks
//! connections, and ports.

use baiwan::machine::backlog_wanted;

use super::Question;
use super::report::Check;
use super::source::{Source, Unknown, garbage};

const SYNCOOKIES: &str = "/proc/sys/net/ipv4/tcp_syncookies";

pub(super) fn checks(source: &Source<'_>, question: &Question) -> Vec<Check> {
    let connections = question.connections;
    vec![
        somaxconn(source, connections),
        syn_backlog(source, connections),
        syncookies(source),
        tcp_memory(source, connections),
        conntrack(source, connections),
        ports(source, connections),
    ]
}

/// The queue of each listener.
fn somaxconn(source: &Source<'_>, connections: u64) -> Check {
    const NAME: &str = "net.core.somaxconn";
    let wanted = backlog_wanted(connections);
    let need =
        format!("{wanted}, for which each listener asks: more that come at once wait for the client to try again");
    match source.number("/proc/sys/net/core/somaxconn") {
        Err(why) => Check::unknown(NAME, &why, need),
        Ok(limit) => {
            let present = format!("{limit} in this network namespace: no listener has a longer queue");
            let check = Check::new(NAME, present, need).numbers(Some(limit), Some(wanted));
            if limit < wanted { check.warns([format!("sysctl -w {NAME}={wanted}")]) } else { check }
        }
    }
}

/// It counts only where no cookie takes the place of an entry: `tcp_conn_request` in the kernel's `net/ipv4/tcp_input.c`.
fn syn_backlog(source: &Source<'_>, connections: u64) -> Check {
    const NAME: &str = "net.ipv4.tcp_max_syn_backlog";
    let wanted = backlog_wanted(connections);
    let need = format!("{wanted} where net.ipv4.tcp_syncookies is 0; else it bounds nothing");
    let has_cookies = source.number(SYNCOOKIES) != Ok(0);
    match source.number("/proc/sys/net/ipv4/tcp_max_syn_backlog") {
        Err(why) => Check::unknown(NAME, &why, need),
        Ok(limit) => {
            let check = Check::new(NAME, limit.to_string(), need).numbers(Some(limit), Some(wanted));
            match limit < wanted && !has_cookies {
                true => check.warns([format!("sysctl -w {NAME}={wanted}")]),
                false => check,
            }
        }
    }
}

fn syncookies(source: &Source<'_>) -> Check {
    const NAME: &str = "net.ipv4.tcp_syncookies";
    let need = "1: without them, a queue that is full of halves of connections takes no more";
    match source.number(SYNCOOKIES) {
        Err(why) => Check::unknown(NAME, &why, need),
        Ok(value) => {
            let check = Check::new(NAME, value.to_string(), need).numbers(Some(value), Some(1));
            if value == 0 { check.warns([format!("sysctl -w {NAME}=1")]) } else { check }
        }
    }
}

/// An idle connection has no page. One with a message that was not read yet has one, however short the message is.
fn tcp_memory(source: &Source<'_>, connections: u64) -> Check {
    const NAME: &str = "net.ipv4.tcp_mem";
    let need = format!(
        "{connections} pages if each connection has a message at once that was not read yet; idle ones need none"
    );
    match source.numbers::<3>("/proc/sys/net/ipv4/tcp_mem") {
        Err(why) => Check::unknown(NAME, &why, need),
        Ok([low, pressure, max]) => {
            let present = format!("{max} pages at most, saving from {pressure} on ({low} {pressure} {max})");
            let check = Check::new(NAME, present, need).numbers(Some(max), Some(connections));
            match max < connections {
                true => {
                    let (low, pressure, max) = (connections / 2, connections - connections / 4, connections);
                    check.warns([format!("sysctl -w {NAME}=\"{low} {pressure} {max}\"")])
                }
                false => check,
            }
        }
    }
}

/// A table that is full drops packets of new connections. It is filled only where a rule of the firewall needs it.
fn conntrack(source: &Source<'_>, connections: u64) -> Check {
    const NAME: &str = "nf_conntrack_max";
    const MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
    let max = match source.number(MAX) {
        Ok(max) => max,
        Err(_) if !source.place(MAX.as_ref()).exists() => {
            return Check::new(NAME, "connections are not tracked here: the module is not loaded", "nothing");
        }
        Err(why) => return Check::unknown(NAME, &why, format!("at least {connections}")),
    };
    let count = source.number("/proc/sys/net/netfilter/nf_conntrack_count").unwrap_or_default();
    let needed = connections.saturating_add(count);
    let need = format!("at least {needed} where a rule of the firewall tracks connections: {count} are tracked now");
    let check = Check::new(NAME, max.to_string(), need).numbers(Some(max), Some(needed));
    let remedy = format!("sysctl -w net.netfilter.nf_conntrack_max={needed}, or a rule that does not track this port");
    match max {
        // None is a limit.
        0 => check,
        max if max >= needed => check,
        _ if count > 0 => check.fails([remedy]),
        _ => check.warns([remedy]),
    }
}

/// Connections that come in need no port of their own; those that this machine opens do, to one address from one of its own.
fn ports(source: &Source<'_>, connections: u64) -> Check {
    const NAME: &str = "ports for clients";
    let range = source.numbers::<2>("/proc/sys/net/ipv4/ip_local_port_range");
    let count = |[first, last]: [u64; 2]| last.checked_sub(first).map(|count| count + 1);
    let need = |ports: Option<u64>| {
        let addresses = connections.div_ceil(ports.unwrap_or(1).max(1));
        match ports {
            Some(_) => format!(
                "none to serve; a client on this machine needs {addresses} addresses of its own for {connections} connections (`baiwan load --source`)"
            ),
            None => "none to serve".to_owned(),
        }
    };
    match range.and_then(|range| count(range).map(|ports| (range, ports)).ok_or_else(|| out_of_order(range))) {
        Err(why) => Check::unknown(NAME, &why, need(None)),
        Ok(([first, last], ports)) => {
            Check::new(NAME, format!("{ports} ({first} to {last})"), need(Some(ports))).numbers(Some(ports), None)
        }
    }
}

fn out_of_order([first, last]: [u64; 2]) -> Unknown {
    garbage("/proc/sys/net/ipv4/ip_local_port_range", &format!("{first} {last}"))
}
