//! Open files: of the process, of the system, and of epoll, where each connection is one.

use baiwan::FdTables;
use baiwan::machine::{ADMIN_FILES, Files, Sides};
use baiwan::settings::WORKERS_MAX;

use super::Question;
use super::report::{Check, Verdict};
use super::source::{Source, Unknown, garbage};

const LIMITS: &str = "/proc/self/limits";
const UNLIMITED: &str = "unlimited";
/// Files that `serve` has open before its cores start, and the doctor has not: its database, its runtime, its signals.
const FILES_OF_SERVICE: u64 = 9;
/// Those of a limit store in a server: a runtime and a connection.
const FILES_OF_LIMIT_STORE: u64 = 5;
/// Those of a service that systemd has started: what it says to systemd goes through a socket.
pub(super) const FILES_TO_NOTIFY: u64 = 1;
/// The kernel spreads connections over listeners by chance, so a core may have more than its share: in a normal distribution, four standard
/// deviations more are one case in 30,000.
const DEVIATIONS: u64 = 4;

pub(super) fn checks(source: &Source<'_>, question: &Question) -> [Check; 4] {
    [open_files(source, question), nr_open(source, question), file_max(source, question), epoll(source, question)]
}

/// Files that `serve` has open before its cores start, at most, and the doctor has not. Under systemd [`FILES_TO_NOTIFY`] come on top.
pub(super) fn of_service(has_limit_store: bool) -> u64 {
    FILES_OF_SERVICE + if has_limit_store { FILES_OF_LIMIT_STORE } else { 0 }
}

/// What limits the files of `serve`, which raises the soft limit to the hard one. Without a limit that can be read, none.
pub(super) fn limits(source: &Source<'_>, question: &Question) -> Files {
    let max = process_limit(source, "Max open files").map_or(u64::MAX, |[_, hard]| hard);
    // What is to be set should do for systemd, which has not started the doctor.
    let of_service = of_service(question.has_limit_store) + FILES_TO_NOTIFY;
    let open = source.entries("/proc/self/fd").unwrap_or_default() + of_service;
    let files = Files { max, tables: question.fd_tables, open, listeners: question.listeners };
    let sides = Sides {
        admin_files: if question.has_admin { ADMIN_FILES } else { 0 },
        takeover_addresses: question.has_takeover.then_some(question.listeners),
    };
    files.with_sides(sides, question.cores as u64)
}

/// The soft and the hard limit of this process in the line that begins with `name`; the greatest number is none.
pub(super) fn process_limit(source: &Source<'_>, name: &str) -> Result<[u64; 2], Unknown> {
    let text = source.text(LIMITS)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    let number = |word: &str| if word == UNLIMITED { Some(u64::MAX) } else { word.parse().ok() };
    let mut numbers = line.split_whitespace().map_while(number);
    match (numbers.next(), numbers.next()) {
        (Some(soft), Some(hard)) => Ok([soft, hard]),
        _ => Err(garbage(LIMITS, line)),
    }
}

/// A limit in words.
pub(super) fn shown(limit: u64) -> String {
    if limit == u64::MAX { UNLIMITED.to_owned() } else { limit.to_string() }
}

/// The limit that each table must have, and the part of the connections that it then holds.
fn needed(files: Files, question: &Question) -> u64 {
    let cores = question.cores as u64;
    let of_a_table = match files.tables {
        FdTables::Shared => question.connections,
        _ => question.connections.div_ceil(cores),
    };
    files.limit_for(of_a_table, cores)
}

fn open_files(source: &Source<'_>, question: &Question) -> Check {
    const NAME: &str = "open files";
    let (files, cores) = (limits(source, question), question.cores as u64);
    let needed = needed(files, question);
    let whose = match files.tables {
        FdTables::Shared => "in the table that all cores share",
        _ => "in the table of each core (FD_TABLES=per-core)",
    };
    let need = format!("{needed} {whose}, for {} connections and {cores} cores", question.connections);
    let [soft, hard] = match process_limit(source, "Max open files") {
        Ok(limits) => limits,
        Err(why) => return Check::unknown(NAME, &why, need),
    };
    let present = format!("soft limit {}, which `serve` raises to the hard one, {}", shown(soft), shown(hard));
    let check = Check::new(NAME, present, need).numbers(Some(hard).filter(|hard| *hard != u64::MAX), Some(needed));
    if hard < needed {
        return check.fails(more_files(files, needed, question));
    }
    let spread = spread(question.connections, cores);
    if files.tables == FdTables::PerCore && files.connections(cores) < spread {
        let of_a_core = files.limit_for(spread, cores);
        let remedy = format!(
            "LimitNOFILE={of_a_core}: the kernel spreads connections by chance, and the cores with most are full first"
        );
        return check.warns([remedy]);
    }
    check
}

fn more_files(files: Files, needed: u64, question: &Question) -> Vec<String> {
    let mut remedies = vec![
        format!("LimitNOFILE={needed} in the unit, where systemd starts it"),
        format!("ulimit -n {needed} in a shell of root that starts it, or --ulimit nofile={needed} where Docker does"),
    ];
    if files.tables == FdTables::Shared {
        let tables = Files { tables: FdTables::PerCore, ..files };
        let enough = |cores: &u64| tables.connections(*cores) >= spread(question.connections, *cores);
        let cores = (question.cores as u64..=WORKERS_MAX).find(enough);
        remedies.extend(
            cores.map(|cores| format!("FD_TABLES=per-core and WORKERS={cores}: each core has the limit for itself")),
        );
        let processes = question.connections.div_ceil(files.connections(question.cores as u64));
        remedies.push(format!("{processes} processes on one port, in an app of one's own (`reuse_port`)"));
    }
    remedies
}

/// The connections of the core that has most of them.
fn spread(connections: u64, cores: u64) -> u64 {
    let share = connections.div_ceil(cores);
    if cores == 1 { share } else { share + DEVIATIONS * share.isqrt() }
}

fn nr_open(source: &Source<'_>, question: &Question) -> Check {
    let needed = needed(limits(source, question), question);
    let need = format!("at least {needed}: no limit of open files can be higher");
    at_least(source, "fs.nr_open", "/proc/sys/fs/nr_open", needed, need)
}

/// The files of all processes together.
fn file_max(source: &Source<'_>, question: &Question) -> Check {
    const NAME: &str = "fs.file-max";
    let open = source.numbers::<1>("/proc/sys/fs/file-nr").map_or(0, |[open]| open);
    let needed = question.connections.saturating_add(open);
    let need =
        format!("at least {needed}: {open} files of all processes are open now, and each connection is one more");
    let check = at_least(source, NAME, "/proc/sys/fs/file-max", needed, need);
    match check.verdict == Verdict::Fails && is_administrator(source) {
        true => Check { verdict: Verdict::Warning, ..check },
        false => check,
    }
}

/// Whether this process has `CAP_SYS_ADMIN`: the kernel asks no such process how many files the system has open (`alloc_empty_file`).
fn is_administrator(source: &Source<'_>) -> bool {
    const CAP_SYS_ADMIN: u32 = 21;
    let capabilities = source.named("/proc/self/status", "CapEff:").ok();
    capabilities.and_then(|text| u64::from_str_radix(&text, 16).ok()).is_some_and(|set| set >> CAP_SYS_ADMIN & 1 == 1)
}

/// What one user may have in epoll instances.
fn epoll(source: &Source<'_>, question: &Question) -> Check {
    let needed = question.connections.saturating_add(question.cores as u64);
    let need = format!("at least {needed}: each connection is registered once");
    at_least(source, "fs.epoll.max_user_watches", "/proc/sys/fs/epoll/max_user_watches", needed, need)
}

/// A number of the kernel that must not be less.
fn at_least(source: &Source<'_>, name: &'static str, path: &str, needed: u64, need: String) -> Check {
    match source.number(path) {
        Err(why) => Check::unknown(name, &why, need),
        Ok(value) => {
            let check = Check::new(name, value.to_string(), need).numbers(Some(value), Some(needed));
            if value < needed { check.fails([format!("sysctl -w {name}={needed}")]) } else { check }
        }
    }
}
