//! Memory: the limits of cgroups and of the machine, what of it others use, and huge pages.

use baiwan::machine::{
    BYTES_PER_CONNECTION, LimitedGroups, MEMORY_SHORT_PERCENT, MemoryLimit, Version, bytes_of_server, groups,
    limit_for, usable,
};

use super::Question;
use super::report::Check;
use super::source::{Source, Unknown, garbage};

const MACHINE: &str = "/proc/meminfo";

pub(super) fn checks(source: &Source<'_>, question: &Question) -> Vec<Check> {
    let checks =
        [Some(limit(source, question)), Some(free(source, question)), high(source, question), Some(huge_pages(source))];
    checks.into_iter().flatten().collect()
}

/// Bytes that the connections need, by the law of the start, and beside them the server.
fn needed(question: &Question) -> (u64, u64) {
    (question.connections.saturating_mul(BYTES_PER_CONNECTION), bytes_of_server(question.cores as u64))
}

/// For people: whole MiB, rounded up.
fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

fn limit(source: &Source<'_>, question: &Question) -> Check {
    const NAME: &str = "memory";
    let (of_connections, of_server) = needed(question);
    let law = format!(
        "{BYTES_PER_CONNECTION} bytes for each idle connection (3,640 of sockets, 208 of epoll, a slot of 64, rounded up)"
    );
    let Some(limit) = MemoryLimit::read(source.root()) else {
        let why = Unknown::new("not known: neither cgroups nor /proc/meminfo say how much there is");
        return Check::unknown(NAME, &why, format!("{} MiB: {law}", mib(of_connections)));
    };
    let (needed, need) = match limit.is_of_machine() {
        true => {
            let of_server = mib(of_server);
            (of_connections, format!("{} MiB: {law}; the server itself has some {of_server} MiB", mib(of_connections)))
        }
        false => {
            let needed = limit_for(of_connections.saturating_add(of_server));
            let beside =
                format!("{} MiB for the server, and from {MEMORY_SHORT_PERCENT} % of the limit on", mib(of_server));
            (needed, format!("{} MiB: {law}, {beside} it closes idle connections sooner", mib(needed)))
        }
    };
    let check = Check::new(NAME, limit.limit(), need).numbers(Some(limit.bytes), Some(needed));
    if limit.bytes >= needed {
        return check;
    }
    let enough = mib(needed);
    check.fails(match limit.is_of_machine() {
        true => vec!["more memory, or several machines".to_owned()],
        false => vec![
            format!("MemoryMax={enough}M in the unit, where systemd starts it"),
            format!("--memory {enough}m where Docker does, or resources.limits.memory: {enough}Mi in Kubernetes"),
        ],
    })
}

/// What is left now, of the cgroup that is nearest to its limit and of the machine.
fn free(source: &Source<'_>, question: &Question) -> Check {
    const NAME: &str = "free memory";
    let (of_connections, of_server) = needed(question);
    let needed = of_connections.saturating_add(of_server);
    let need = format!("{} MiB for connections and server", mib(needed));
    let of_machine = source.named(MACHINE, "MemAvailable:").and_then(|text| {
        let kib: u64 = text.parse().map_err(|_| garbage(MACHINE, &text))?;
        Ok((kib.saturating_mul(1024), MACHINE.to_owned()))
    });
    let of_groups = LimitedGroups::find(source.root()).and_then(|groups| groups.usage());
    let of_groups = of_groups.map(|usage| {
        let place = format!("below {MEMORY_SHORT_PERCENT} % of the limit in {}", usage.folder.display());
        (usable(usage.limit).saturating_sub(usage.used), place)
    });
    match of_machine.ok().into_iter().chain(of_groups).min_by_key(|(bytes, _)| *bytes) {
        None => Check::unknown(NAME, &Unknown::new(format!("not known: {MACHINE} does not say it")), need),
        Some((bytes, place)) => {
            let present = format!("{} MiB are left now ({place})", bytes >> 20);
            let check = Check::new(NAME, present, need).numbers(Some(bytes), Some(needed));
            match bytes < needed {
                true => check.warns(["stop what uses it now, or leave it more of the machine".to_owned()]),
                false => check,
            }
        }
    }
}

/// Beyond `memory.high`, version 2 slows a group down instead of refusing it memory.
fn high(source: &Source<'_>, question: &Question) -> Option<Check> {
    let (of_connections, of_server) = needed(question);
    let needed = of_connections.saturating_add(of_server);
    let of_two = groups(source.root(), "memory").into_iter().filter(|group| group.version == Version::Two);
    let highs = of_two.filter_map(|group| Some((group.number("memory.high")?, group.folder.join("memory.high"))));
    let (bytes, file) = highs.min_by_key(|(bytes, _)| *bytes)?;
    let present = format!("{} MiB ({})", bytes >> 20, file.display());
    let need = format!("{} MiB: with more in use, the kernel slows the process down", mib(needed));
    let check = Check::new("memory.high", present, need).numbers(Some(bytes), Some(needed));
    Some(match bytes < needed {
        true => check.warns([format!("MemoryHigh={}M in the unit, or infinity", mib(needed))]),
        false => check,
    })
}

fn huge_pages(source: &Source<'_>) -> Check {
    const NAME: &str = "huge pages";
    const FILE: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
    let need = "madvise or never: with always, small parts of memory take 2 MiB each, and come back late after a peak";
    let chosen = source.text(FILE).and_then(|text| {
        let chosen = text.split_once('[').and_then(|(_, rest)| Some(rest.split_once(']')?.0.to_owned()));
        chosen.ok_or_else(|| garbage(FILE, &text))
    });
    match chosen {
        Err(_) if !source.place(FILE.as_ref()).exists() => Check::new(NAME, "this kernel has none", need),
        Err(why) => Check::unknown(NAME, &why, need),
        Ok(chosen) if chosen == "always" => Check::new(NAME, chosen, need).warns([format!("echo madvise > {FILE}")]),
        Ok(chosen) => Check::new(NAME, chosen, need),
    }
}
