//! The doctor on machines that there are not: what it finds, what it says where it finds nothing, and whether its remedies help.

use std::fs;
use std::path::Path;

use baiwan_limits::{MemoryLevel, MemoryPressure};

use super::*;

/// Files of a machine that holds two million connections with two cores.
const GOOD: [(&str, &str); 22] = [
    ("proc/self/limits", "Max processes 96365 96365 processes\nMax open files 1024 4000000 files\n"),
    ("proc/self/fd/0", ""),
    ("proc/self/cgroup", "0::/above/own\n"),
    ("proc/self/mountinfo", "35 31 0:32 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"),
    ("proc/meminfo", "MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable:   15000000 kB\n"),
    ("proc/sys/fs/nr_open", "4000000\n"),
    ("proc/sys/fs/file-max", "9000000\n"),
    ("proc/sys/fs/file-nr", "607\t0\t9000000\n"),
    ("proc/sys/fs/epoll/max_user_watches", "5000000\n"),
    ("proc/sys/net/core/somaxconn", "65535\n"),
    ("proc/sys/net/ipv4/tcp_max_syn_backlog", "65535\n"),
    ("proc/sys/net/ipv4/tcp_syncookies", "1\n"),
    ("proc/sys/net/ipv4/tcp_mem", "1000000\t2000000\t3000000\n"),
    ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
    ("proc/sys/net/netfilter/nf_conntrack_max", "4000000\n"),
    ("proc/sys/net/netfilter/nf_conntrack_count", "7\n"),
    ("proc/sys/kernel/io_uring_disabled", "2\n"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
    ("sys/fs/cgroup/above/own/memory.max", "max\n"),
    ("sys/fs/cgroup/above/own/cpu.max", "max 100000\n"),
    ("sys/fs/cgroup/above/own/pids.max", "max\n"),
    ("data/here", ""),
];

struct Machine(tempfile::TempDir);

impl Machine {
    fn good() -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        GOOD.iter().for_each(|(file, text)| machine.set(file, text));
        machine
    }

    fn set(&self, file: &str, text: &str) {
        let file = self.0.path().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    fn with(file: &str, text: &str) -> Self {
        let machine = Self::good();
        machine.set(file, text);
        machine
    }

    fn without(file: &str) -> Self {
        let machine = Self::good();
        fs::remove_file(machine.0.path().join(file)).unwrap();
        machine
    }

    fn ask(&self, question: &Question) -> Report {
        examine(self.0.path(), question)
    }

    fn million(&self) -> Report {
        self.ask(&question(1_000_000))
    }

    /// The verdict of a check, and what is said of it.
    fn verdict(&self, name: &str) -> (Verdict, String) {
        let report = self.million();
        let check = check(&report, name);
        (check.verdict, check.lines())
    }
}

fn question(connections: u64) -> Question {
    Question {
        connections,
        connections_max: None,
        cores: 2,
        fd_tables: FdTables::Shared,
        has_admin: true,
        has_takeover: false,
        has_limit_store: false,
        listeners: 1,
        database: Location::Sqlite("/data/baiwan.db".into()),
    }
}

fn check<'a>(report: &'a Report, name: &str) -> &'a Check {
    report.checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("{name} is looked at"))
}

#[test]
fn a_machine_that_allows_it_holds_the_connections_and_nothing_is_to_be_set() {
    let report = Machine::good().million();
    assert!(report.checks.iter().all(|check| check.verdict == Verdict::Ok), "{}", report.text());
    assert!(report.checks.iter().all(|check| check.remedies.is_empty()), "{}", report.text());
    assert_eq!((report.can_be_held(), report.possible), (true, 1_000_000));
    assert!(report.text().ends_with("\n1,000,000 connections can be held\n"), "{}", report.text());
}

#[test]
fn each_value_that_is_too_small_is_named_with_what_to_set() {
    use Verdict::{Fails, Warning};
    let somaxconn = format!("sysctl -w net.core.somaxconn={}", baiwan::machine::BACKLOG_MAX);
    for (file, text, name, verdict, remedy) in [
        ("proc/self/limits", "Max open files 1024 20000 files\n", "open files", Fails, "LimitNOFILE=1000"),
        (
            "proc/self/limits",
            "Max open files 1024 20000 files\n",
            "open files",
            Fails,
            "FD_TABLES=per-core and WORKERS=",
        ),
        ("proc/self/limits", "Max open files 1024 20000 files\n", "open files", Fails, "51 processes"),
        (
            "proc/self/limits",
            "Max processes 9 9 x\nMax open files 1 4000000 files\n",
            "threads",
            Warning,
            "ulimit -u 18",
        ),
        ("proc/sys/fs/nr_open", "1000000\n", "fs.nr_open", Fails, "sysctl -w fs.nr_open=1000"),
        ("proc/sys/fs/file-max", "1000606\n", "fs.file-max", Fails, "sysctl -w fs.file-max=1000607"),
        ("proc/sys/fs/epoll/max_user_watches", "1000001\n", "fs.epoll.max_user_watches", Fails, "=1000002"),
        ("proc/sys/net/core/somaxconn", "128\n", "net.core.somaxconn", Warning, &somaxconn),
        ("proc/sys/net/ipv4/tcp_syncookies", "0\n", "net.ipv4.tcp_syncookies", Warning, "tcp_syncookies=1"),
        ("proc/sys/net/ipv4/tcp_mem", "1 2 999999", "net.ipv4.tcp_mem", Warning, "tcp_mem=\"500000 750000 1000000\""),
        ("proc/sys/net/netfilter/nf_conntrack_max", "1000006", "nf_conntrack_max", Fails, "nf_conntrack_max=1000007"),
        ("proc/meminfo", "MemTotal: 2097152 kB\n", "memory", Fails, "more memory"),
        ("proc/meminfo", "MemTotal: 9999999 kB\nMemAvailable: 9 kB\n", "free memory", Warning, "stop what uses it"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never", "huge pages", Warning, "echo madvise"),
        ("sys/fs/cgroup/above/own/memory.max", "67108864\n", "memory", Fails, "MemoryMax=4610M"),
        ("sys/fs/cgroup/above/memory.max", "67108864\n", "memory", Fails, "--memory 4610m"),
        ("sys/fs/cgroup/above/memory.high", "67108864\n", "memory.high", Warning, "MemoryHigh=3919M"),
        ("sys/fs/cgroup/above/cpu.max", "150000 100000\n", "CPU quota", Warning, "WORKERS=1, or a quota of 2 CPUs"),
        ("sys/fs/cgroup/above/own/cpu.max", "50000 100000\n", "CPU quota", Warning, "at least one CPU"),
        ("sys/fs/cgroup/above/pids.max", "9\n", "threads", Fails, "TasksMax=infinity"),
        ("sys/fs/cgroup/above/pids.max", "10\n", "threads", Warning, "TasksMax=infinity"),
        ("sys/fs/cgroup/above/pids.max", "17\n", "threads", Warning, "--pids-limit -1"),
    ] {
        let machine = Machine::with(file, text);
        let (found, said) = machine.verdict(name);
        assert!(found == verdict && said.contains(remedy), "{file}: {said}");
        let report = machine.million();
        assert_eq!(report.can_be_held(), verdict != Fails, "{file}: {}", report.text());
        let others =
            report.checks.iter().filter(|check| check.verdict != Verdict::Ok && check.verdict != Verdict::Unknown);
        // A cgroup with little memory has little left, too.
        let others: Vec<_> =
            others.map(|check| check.name).filter(|other| ![name, "free memory"].contains(other)).collect();
        assert!(others.is_empty(), "{file}: {others:?}");
    }
}

#[test]
fn what_does_not_matter_here_is_no_fault() {
    for (file, text, name) in [
        ("proc/sys/net/ipv4/tcp_max_syn_backlog", "128\n", "net.ipv4.tcp_max_syn_backlog"),
        ("proc/sys/net/netfilter/nf_conntrack_max", "0\n", "nf_conntrack_max"),
        ("proc/sys/net/ipv4/ip_local_port_range", "40000 40000\n", "ports for clients"),
        ("proc/sys/kernel/io_uring_disabled", "0\n", "io_uring"),
    ] {
        let (verdict, said) = Machine::with(file, text).verdict(name);
        assert_eq!(verdict, Verdict::Ok, "{said}");
    }
    // A table that tracks nothing now may track nothing at all.
    let machine = Machine::with("proc/sys/net/netfilter/nf_conntrack_max", "262144\n");
    machine.set("proc/sys/net/netfilter/nf_conntrack_count", "0\n");
    assert_eq!(machine.verdict("nf_conntrack_max").0, Verdict::Warning);
    // Without cookies the queue of halves counts.
    let machine = Machine::with("proc/sys/net/ipv4/tcp_syncookies", "0\n");
    machine.set("proc/sys/net/ipv4/tcp_max_syn_backlog", "128\n");
    assert_eq!(machine.verdict("net.ipv4.tcp_max_syn_backlog").0, Verdict::Warning);
    let absent = Machine::without("proc/sys/net/netfilter/nf_conntrack_max").verdict("nf_conntrack_max");
    assert!(absent.0 == Verdict::Ok && absent.1.contains("not loaded"), "{}", absent.1);
}

#[test]
fn what_is_absent_or_garbage_is_said_so_and_fails_nothing() {
    for (file, _) in GOOD {
        for machine in [Machine::without(file), Machine::with(file, "much\n"), Machine::with(file, "")] {
            let report = machine.million();
            assert!(report.can_be_held(), "{file}: {}", report.text());
            let unknown = report.with(Verdict::Unknown).map(|check| &check.present);
            unknown.for_each(|present| assert!(present.starts_with("not known: "), "{file}: {present}"));
        }
    }
    let (verdict, said) = Machine::with("proc/sys/fs/nr_open", "many\u{1b}[2J\n").verdict("fs.nr_open");
    assert!(verdict == Verdict::Unknown && said.contains(r#"/proc/sys/fs/nr_open says "many\u{1b}[2J""#), "{said}");
    let (verdict, said) = Machine::without("proc/sys/fs/nr_open").verdict("fs.nr_open");
    assert!(verdict == Verdict::Unknown && said.contains("there is no /proc/sys/fs/nr_open"), "{said}");
    // Neither UTF-8 nor a number.
    let machine = Machine::good();
    fs::write(machine.0.path().join("proc/sys/fs/file-max"), [0xff, 0xfe]).unwrap();
    assert_eq!(machine.verdict("fs.file-max").0, Verdict::Unknown);
    // Nothing of it is there: as on other systems.
    let nothing =
        examine(Path::new("/nowhere"), &Question { database: "postgres://a@b/c".parse().unwrap(), ..question(5) });
    assert!(nothing.can_be_held() && nothing.with(Verdict::Unknown).count() >= 12, "{}", nothing.text());
}

#[test]
fn of_two_limits_of_threads_both_are_named() {
    let machine = Machine::with("proc/self/limits", "Max processes 9 9 x\nMax open files 1 4000000 files\n");
    machine.set("sys/fs/cgroup/above/pids.max", "9\n");
    let (verdict, said) = machine.verdict("threads");
    assert_eq!(verdict, Verdict::Fails);
    for expected in ["9 more in the cgroup", "9 for this user", "TasksMax=infinity", "ulimit -u 18"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn the_files_of_the_system_do_not_stop_who_has_cap_sys_admin() {
    let machine = Machine::with("proc/sys/fs/file-max", "1000606\n");
    for (capabilities, verdict) in [
        ("000001ffffffffff", Verdict::Warning),
        ("0000000000200000", Verdict::Warning),
        ("000001ffffdfffff", Verdict::Fails),
        ("0000000000000000", Verdict::Fails),
        ("much", Verdict::Fails),
    ] {
        machine.set("proc/self/status", &format!("Name:\tbaiwan\nCapEff:\t{capabilities}\n"));
        assert_eq!(machine.verdict("fs.file-max").0, verdict, "{capabilities}");
    }
}

#[test]
fn limits_of_version_1_and_of_groups_above_count() {
    let mounts = ["memory", "cpu", "pids"].map(|controller| {
        format!("35 31 0:32 / /sys/fs/cgroup/{controller} rw,relatime - cgroup cgroup rw,{controller}\n")
    });
    for above in ["above/own", "above", "."] {
        let machine = Machine::with("proc/self/mountinfo", &mounts.concat());
        machine.set("proc/self/cgroup", "4:memory:/above/own\n3:cpu:/above/own\n2:pids:/above/own\n");
        assert!(machine.million().checks.iter().all(|check| check.verdict == Verdict::Ok), "nothing is limited");
        machine.set(&format!("sys/fs/cgroup/memory/{above}/memory.limit_in_bytes"), "67108864\n");
        machine.set(&format!("sys/fs/cgroup/cpu/{above}/cpu.cfs_quota_us"), "100000\n");
        machine.set(&format!("sys/fs/cgroup/cpu/{above}/cpu.cfs_period_us"), "100000\n");
        machine.set(&format!("sys/fs/cgroup/pids/{above}/pids.max"), "99\n");
        machine.set(&format!("sys/fs/cgroup/pids/{above}/pids.current"), "90\n");
        let report = machine.million();
        assert_eq!(report.possible, 10_854);
        for (name, verdict, present) in [
            ("memory", Verdict::Fails, "64 MiB"),
            ("CPU quota", Verdict::Warning, "1.000 CPUs"),
            ("threads", Verdict::Fails, "9 more"),
        ] {
            let check = check(&report, name);
            assert!(check.verdict == verdict && check.present.contains(present), "{above}: {}", check.lines());
        }
        // No quota is -1.
        machine.set(&format!("sys/fs/cgroup/cpu/{above}/cpu.cfs_quota_us"), "-1\n");
        assert_eq!(machine.verdict("CPU quota").0, Verdict::Ok);
    }
}

#[test]
fn what_the_doctor_says_to_set_is_enough() {
    let machine = Machine::with("proc/self/limits", "Max open files 1024 20000 files\n");
    machine.set("proc/sys/fs/nr_open", "20000\n");
    let report = machine.million();
    assert_eq!(report.with(Verdict::Fails).map(|check| check.name).collect::<Vec<_>>(), ["open files", "fs.nr_open"]);
    let number = |text: &str, after: &str| -> u64 {
        let digits = text.split(after).nth(1).unwrap_or_else(|| panic!("{text} has {after}"));
        digits.split(|letter: char| !letter.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    let said = check(&report, "open files").lines();
    // Each core with its own table.
    let cores = number(&said, "FD_TABLES=per-core and WORKERS=");
    let per_core = Question { fd_tables: FdTables::PerCore, cores: cores as usize, ..question(1_000_000) };
    assert_eq!(check(&machine.ask(&per_core), "open files").verdict, Verdict::Ok);
    assert!(machine.ask(&per_core).can_be_held());
    let fewer = Question { cores: cores as usize - 1, ..per_core };
    assert_ne!(check(&machine.ask(&fewer), "open files").verdict, Verdict::Ok);
    // A higher limit, to the last file.
    let (limit, nr_open) =
        (number(&said, "LimitNOFILE="), number(&check(&report, "fs.nr_open").lines(), "fs.nr_open="));
    machine.set("proc/sys/fs/nr_open", &nr_open.to_string());
    for (limit, can_be_held) in [(limit, true), (limit - 1, false)] {
        machine.set("proc/self/limits", &format!("Max open files 1024 {limit} files\n"));
        let report = machine.million();
        assert_eq!(
            (report.can_be_held(), report.possible == 1_000_000),
            (can_be_held, can_be_held),
            "{}",
            report.text()
        );
    }
}

#[test]
fn memory_that_is_enough_is_below_the_servers_own_memory_pressure() {
    let (report, file) = (|machine: &Machine| machine.million(), "sys/fs/cgroup/above/own/memory.max");
    for (mib, can_be_held) in [(3907_u64, false), (4609, false), (4610, true)] {
        let report = report(&Machine::with(file, &(mib << 20).to_string()));
        assert_eq!(
            (report.can_be_held(), report.possible == 1_000_000),
            (can_be_held, can_be_held),
            "{}",
            report.text()
        );
    }
    // Slots, sockets, epoll and the server itself, all of it charged to the group.
    let used = 1_000_000 * 3_912 + (12 << 20);
    assert_eq!(MemoryPressure::default().next(used, 4610 << 20).level, MemoryLevel::Enough);
    assert_ne!(MemoryPressure::default().next(used, 3919 << 20).level, MemoryLevel::Enough);
    // What is free is free below the pressure, too.
    let machine = Machine::with(file, &(4610_u64 << 20).to_string());
    machine.set("sys/fs/cgroup/above/own/memory.current", &(8 << 20).to_string());
    machine.set("sys/fs/cgroup/above/own/memory.stat", "inactive_file 0\nactive_file 0\n");
    assert_eq!(machine.verdict("free memory").0, Verdict::Warning);
}

#[test]
fn the_maximum_that_was_set_counts() {
    let machine = Machine::good();
    let lower = Question { connections_max: Some(10), ..question(1_000_000) };
    let report = machine.ask(&lower);
    assert_eq!((report.can_be_held(), report.possible), (false, 10));
    assert!(check(&report, "MAX_CONNECTIONS").lines().contains("MAX_CONNECTIONS=1000000"));
    assert!(machine.ask(&Question { connections: 10, ..lower }).can_be_held());
}

#[test]
fn the_database_needs_a_directory_and_room() {
    let absent = Question { database: Location::Sqlite("/none/baiwan.db".into()), ..question(5) };
    let report = Machine::good().ask(&absent);
    assert!(
        !report.can_be_held() && check(&report, "database").lines().contains("mkdir -p /none"),
        "{}",
        report.text()
    );
    // `/proc` is a file system without room.
    let full = Question { database: Location::Sqlite("/proc/self/baiwan.db".into()), ..question(5) };
    #[cfg(target_os = "linux")]
    assert_eq!(check(&examine(Path::new("/"), &full), "database").verdict, Verdict::Fails);
    let relative = Question { database: Location::Sqlite("data/here/baiwan.db".into()), ..full.clone() };
    let report = Machine::good().ask(&relative);
    assert!(
        !report.can_be_held() && check(&report, "database").lines().contains("working directory"),
        "{}",
        report.text()
    );
    let server = Question { database: "postgres://ada:secret@h/x".parse().unwrap(), ..full };
    let said = check(&Machine::good().ask(&server), "database").lines();
    assert!(said.contains("postgres://ada@h:5432/x") && !said.contains("secret"), "{said}");
}

#[test]
fn programs_get_each_check_with_its_numbers() {
    let machine = Machine::with("proc/sys/fs/nr_open", "1000\n");
    let report: serde_json::Value = serde_json::from_str(&machine.million().json()).unwrap();
    assert_eq!((&report["connections"], &report["can_be_held"]), (&1_000_000.into(), &false.into()));
    let checks = report["checks"].as_array().unwrap();
    let nr_open = checks.iter().find(|check| check["name"] == "fs.nr_open").unwrap();
    assert_eq!((&nr_open["verdict"], &nr_open["value"]), (&"fails".into(), &1000.into()));
    let needed = nr_open["needed"].as_u64().unwrap();
    assert!(needed > 1_000_000);
    assert_eq!(nr_open["remedies"], serde_json::json!([format!("sysctl -w fs.nr_open={needed}")]));
}

#[test]
fn people_read_first_what_fails() {
    let machine = Machine::with("proc/self/limits", "Max open files 1024 20000 files\n");
    let text = machine.million().text();
    let end = text.lines().last().unwrap();
    assert!(text.starts_with("fails    open files "), "{text}");
    assert!(end.starts_with("1,000,000 connections cannot be held, but 19,") && end.ends_with(": open files"), "{end}");
}
