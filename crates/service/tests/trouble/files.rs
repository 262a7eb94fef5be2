//! The database file is taken away, replaced or locked by another process while the service runs.

use std::fs::{remove_file, rename};

use rusqlite::Connection;
use rustix::process::Signal;

use crate::running::{Running, command};
use crate::{alone, ask, assert_the_rest_is_served, assert_unavailable, create, get};

/// Nothing is acknowledged, it says that it is not well, and what can be served is.
fn assert_it_is_away(service: &Running) {
    for round in 0..3 {
        assert_unavailable(&create(service, &format!("lost {round}")));
        let health = ask(service, "GET", "/health", "");
        assert_eq!((health.status, &health.json()["checks"]["store"]), (503, &"failed".into()), "{health:?}");
        assert_eq!(get(service, "/health/ready"), 503, "asked to be ready with its store only");
        assert_eq!(get(service, "/api/users"), 200, "what is open is read");
        assert_the_rest_is_served(service);
    }
}

fn lines_with(log: &str, part: &str) -> usize {
    log.lines().filter(|line| line.contains(part)).count()
}

#[test]
fn row_112_a_file_that_was_removed_or_replaced_is_said_once_and_nothing_acknowledged_is_missing_later() {
    let _alone = alone();
    for (is_replaced, per_core, end) in [
        (false, false, Signal::TERM),
        (false, true, Signal::TERM),
        (true, false, Signal::TERM),
        (true, false, Signal::KILL),
        (true, true, Signal::KILL),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let (file, away) = (directory.path().join("baiwan.db"), directory.path().join("away"));
        let backup = directory.path().join("backup");
        let start = || {
            let mut command = command(directory.path());
            command.env("FD_TABLES", if per_core { "per-core" } else { "shared" });
            Running::start_with_store(command)
        };
        let service = start();
        assert_eq!(create(&service, "first").status, 201);
        if is_replaced {
            Connection::open(&file).unwrap().execute("VACUUM INTO ?1", [backup.to_str().unwrap()]).unwrap();
            assert_eq!(create(&service, "not in the backup").status, 201);
            rename(&backup, &file).unwrap();
        } else {
            rename(&file, &away).unwrap();
        }
        assert_it_is_away(&service);
        if !is_replaced {
            rename(&away, &file).unwrap();
            assert_eq!(create(&service, "after").status, 201);
            assert_eq!(get(&service, "/health"), 200);
        }
        service.signal(end);
        let (_, log) = service.wait();
        assert_eq!(lines_with(&log, "the store is not what was opened"), 1, "{log}");
        assert_eq!(lines_with(&log, "in their places again"), usize::from(!is_replaced), "{log}");
        assert!(log.contains(file.to_str().unwrap()) && log.contains("restart"), "{log}");
        let service = start();
        let names: Vec<_> = service.connect().users().iter().map(|user| user["name"].clone()).collect();
        match is_replaced {
            true => assert_eq!(names, ["first"], "that of the backup"),
            false => assert!(names.contains(&"first".into()) && names.contains(&"after".into()), "{names:?}"),
        }
        let check: String =
            Connection::open(&file).unwrap().query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(check, "ok");
    }
}

#[test]
fn row_112_where_nobody_writes_health_says_that_the_file_was_removed() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let service = Running::start_with_store(command(directory.path()));
    for name in ["baiwan.db", "baiwan.db-wal", "baiwan.db-shm"] {
        remove_file(directory.path().join(name)).unwrap();
    }
    assert_eq!(ask(&service, "GET", "/health", "").json()["checks"]["store"], "failed");
    assert_eq!(get(&service, "/health/ready"), 503);
    service.signal(Signal::TERM);
    let (status, log) = service.wait();
    assert!(status.success(), "{log}");
    assert_eq!(lines_with(&log, "baiwan.db was removed or moved away"), 1, "{log}");
}

#[test]
fn row_101_a_lock_that_another_process_holds_is_said_with_the_way_to_find_it() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("baiwan.db");
    let service = Running::start_with_store(command(directory.path()));
    let other = Connection::open(&file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for round in 0..2 {
        assert_unavailable(&create(&service, &format!("refused {round}")));
    }
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(create(&service, "after").status, 201);
    service.signal(Signal::TERM);
    let (status, log) = service.wait();
    assert!(status.success(), "{log}");
    assert_eq!(lines_with(&log, "another process has locked the database"), 1, "{log}");
    assert!(log.contains(&format!("fuser -v {}", file.display())) && log.contains("can be written again"), "{log}");
}
