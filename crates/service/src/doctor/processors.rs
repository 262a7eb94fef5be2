//! Processors and threads: what a cgroup allows of both, and the interface of the kernel that Baiwan does not need.

use baiwan::FdTables;
use baiwan::machine::{Group, Version, groups};

use super::Question;
use super::files::{process_limit, shown};
use super::report::Check;
use super::source::Source;

/// Threads that a start makes beside the workers: of the log, the access log, the store, the admin side with a check of its own, and those that
/// watch signals, cores and memory.
const THREADS_OF_START: u64 = 8;
/// Threads for blocking calls, which come when they are needed.
const THREADS_LATER: u64 = 8;

pub(super) fn checks(source: &Source<'_>, question: &Question) -> [Check; 3] {
    [quota(source, question), threads(source, question), io_uring(source)]
}

/// Thousandths of a CPU that a group may use.
fn thousandths(group: &Group) -> Option<u64> {
    let (quota, period): (u64, u64) = match group.version {
        Version::One => (group.number("cpu.cfs_quota_us")?, group.number("cpu.cfs_period_us")?),
        Version::Two => {
            let text = group.text("cpu.max")?;
            let mut words = text.split_whitespace();
            (words.next()?.parse().ok()?, words.next()?.parse().ok()?)
        }
    };
    quota.checked_mul(1000)?.checked_div(period)
}

/// A quota that is used up stops all threads for the rest of its period, a tenth of a second as a rule.
fn quota(source: &Source<'_>, question: &Question) -> Check {
    let cores = question.cores as u64;
    let need = format!("{cores} CPUs, one for each worker thread; idle connections need none");
    let quotas =
        groups(source.root(), "cpu").into_iter().filter_map(|group| Some((thousandths(&group)?, group.folder)));
    let Some((quota, folder)) = quotas.min_by_key(|(quota, _)| *quota) else {
        return Check::new("CPU quota", "no cgroup has one", need);
    };
    let present = format!("{}.{:03} CPUs ({})", quota / 1000, quota % 1000, folder.display());
    let check = Check::new("CPU quota", present, need).numbers(Some(quota.div_ceil(1000)), Some(cores));
    let whole = (quota / 1000).max(1);
    match question.fd_tables == FdTables::Shared && quota < cores * 1000 {
        true if quota < 1000 => {
            check.warns(["a quota of at least one CPU: when it is used up, all threads pause".to_owned()])
        }
        true => {
            check.warns([format!("WORKERS={whole}, or a quota of {cores} CPUs: when it is used up, all threads pause")])
        }
        false => check,
    }
}

fn threads(source: &Source<'_>, question: &Question) -> Check {
    const NAME: &str = "threads";
    let cores = question.cores as u64;
    let (of_start, needed) = (cores + THREADS_OF_START, cores + THREADS_OF_START + THREADS_LATER);
    let need = format!(
        "{needed}: {cores} worker threads, {THREADS_OF_START} others from the start on, and {THREADS_LATER} for blocking calls"
    );
    let left =
        |group: &Group| Some(group.number("pids.max")?.saturating_sub(group.number("pids.current").unwrap_or(0)));
    let of_groups = groups(source.root(), "pids").into_iter().filter_map(|group| Some((left(&group)?, group.folder)));
    let of_groups = of_groups.min_by_key(|(left, _)| *left);
    let of_user = process_limit(source, "Max processes");
    let words = of_user
        .as_ref()
        .map_or_else(ToString::to_string, |[soft, _]| format!("{} for this user (ulimit -u)", shown(*soft)));
    let present = match &of_groups {
        Some((left, folder)) => format!("{left} more in the cgroup ({}); {words}", folder.join("pids.max").display()),
        None => words,
    };
    let of_groups = of_groups.map(|(left, _)| left);
    let soft = of_user.as_ref().ok().map(|[soft, _]| *soft);
    let least = of_groups.into_iter().chain(soft).min().filter(|least| *least != u64::MAX);
    let check = Check::new(NAME, present, need.clone()).numbers(least, Some(needed));
    let mut remedies = Vec::new();
    if of_groups.is_some_and(|left| left < needed) {
        remedies.push("TasksMax=infinity in the unit, where systemd starts it".to_owned());
        remedies.push("--pids-limit -1 where Docker does".to_owned());
    }
    if soft.is_some_and(|soft| soft < needed) {
        remedies.push(format!("ulimit -u {needed}, or LimitNPROC={needed} in the unit"));
    }
    match of_user {
        // What the user may have is not asked of root, and counts the threads of all its processes.
        _ if of_groups.is_some_and(|left| left < of_start) => check.fails(remedies),
        _ if !remedies.is_empty() => check.warns(remedies),
        Err(why) => Check::unknown(NAME, &why, need),
        Ok(_) => check,
    }
}

fn io_uring(source: &Source<'_>) -> Check {
    let need = "nothing: connections wait in epoll";
    let present = match source.number("/proc/sys/kernel/io_uring_disabled") {
        Ok(0) => "allowed".to_owned(),
        Ok(1) => "allowed for a group only (kernel.io_uring_disabled = 1)".to_owned(),
        Ok(value) => format!("forbidden (kernel.io_uring_disabled = {value})"),
        Err(why) => return Check::unknown("io_uring", &why, need),
    };
    Check::new("io_uring", present, need)
}
