//! Disks that are full, and files that are damaged: writes are refused and nothing is acknowledged in vain, reads go on.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;
use rustix::process::Signal;
use serde_json::Value;

use crate::postgres::{Differences, Server};
use crate::running::{Running, command, eventually, with_settings};
use crate::{alone, ask, assert_the_rest_is_served, assert_unavailable, command_with, create, get};

/// Users that find a place where the disk is full: what was reserved before may be filled up.
const LAST_USERS_MAX: usize = 2_000;

/// A service whose state is on a disk of its own, of one MiB, which goes with the process.
const ON_SMALL_DISK: &str = r#"mount -t tmpfs -o size=1m tmpfs "$STATE_DIRECTORY" && exec "$0" serve"#;

/// Fills the disk of that folder to the last byte.
fn fill(folder: &Path) -> PathBuf {
    let path = folder.join("filling");
    let mut file = File::create(&path).unwrap();
    let error = std::io::copy(&mut std::io::repeat(b'x'), &mut file).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    path
}

/// A name that takes room.
fn name(number: usize) -> String {
    format!("{number:0>200}")
}

/// Creates users from that number on until one is refused; the numbers of those that were acknowledged.
fn create_until_refused(service: &Running, first: usize) -> std::ops::Range<usize> {
    for number in first..first + LAST_USERS_MAX {
        let created = create(service, &name(number));
        if created.status != 201 {
            assert_unavailable(&created);
            return first..number;
        }
    }
    panic!("a full disk took {LAST_USERS_MAX} users");
}

/// The users of those numbers can be read.
fn assert_all_there(service: &Running, acknowledged: &[usize]) {
    let (mut after, mut names) = ("0".to_owned(), Vec::new());
    loop {
        let page = ask(service, "GET", &format!("/api/users?limit=100&after={after}"), "").json();
        let shown = page["users"].as_array().unwrap().iter();
        names.extend(shown.map(|user| user["name"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    let missing: Vec<_> = acknowledged.iter().filter(|number| !names.contains(&name(**number))).collect();
    assert!(missing.is_empty(), "acknowledged and not there: {missing:?}");
}

/// Fills the disk in `folder`, meets the refusal, and makes room again.
fn fill_up_and_recover(service: &Running, folder: &Path) {
    assert_eq!(create(service, "first").json()["id"], 1);
    let filling = fill(folder);
    let mut acknowledged = Vec::new();
    let mut next = 0;
    for _ in 0..3 {
        let stored = create_until_refused(service, next);
        next = stored.end + 1;
        acknowledged.extend(stored);
        assert_all_there(service, &acknowledged);
        assert_the_rest_is_served(service);
    }
    std::fs::remove_file(filling).unwrap();
    eventually("users can be written again", || {
        next += 1;
        create(service, &name(next)).status == 201
    });
    acknowledged.push(next);
    assert_all_there(service, &acknowledged);
    let replaced = ask(service, "PUT", "/api/users/1", r#"{"name":"another"}"#);
    assert_eq!(replaced.status, 200, "{replaced:?}");
    assert_eq!(ask(service, "DELETE", "/api/users/1", "").status, 204);
}

#[test]
#[cfg_attr(not(has_namespaces), ignore = "unshare(1) may not make namespaces here; root may")]
fn row_101_a_full_disk_costs_writes_503_and_reads_nothing_and_needs_no_restart() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "sh", "-c", ON_SMALL_DISK, env!("CARGO_BIN_EXE_baiwan")]);
    let service = Running::start(with_settings(unshare, directory.path()));
    // The disk can be seen where the process sees it, and nowhere else.
    let root = PathBuf::from(format!("/proc/{}/root", service.pid().as_raw_nonzero()));
    let disk = root.join(directory.path().strip_prefix("/").unwrap());
    assert!(disk.join("baiwan.db").exists() && !directory.path().join("baiwan.db").exists());
    fill_up_and_recover(&service, &disk);
    let database = Connection::open(disk.join("baiwan.db")).unwrap();
    let verdict: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    drop(database);
    service.signal(Signal::TERM);
    let (status, log) = service.wait();
    assert!(status.success(), "{log}");
    assert!(log.contains("cannot be written") && log.contains("can be written again"), "{log}");
    assert!(log.lines().count() < 20, "{log}");
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "initdb and postgres are not installed; Debian: apt-get install postgresql")]
#[cfg_attr(not(has_namespaces), ignore = "unshare(1) may not make namespaces here; root may")]
fn row_102_a_postgresql_whose_disk_is_full_costs_writes_503_and_reads_nothing_and_needs_no_restart() {
    /// An empty database takes 8 MiB of it.
    const DISK_MIB: u32 = 24;
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(Differences { disk_mib: Some(DISK_MIB), ..Differences::default() });
    let database = server.database();
    let service = Running::start_with_store(command_with(&database, directory.path()));
    fill_up_and_recover(&service, &server.root().join(server.disk().strip_prefix("/").unwrap()));
    assert!(server.log().contains("No space left on device"), "it was the disk: {}", server.log());
}

/// A file of so many users, and one page of it that holds some of them: its place in bytes, its size, and how many.
fn users_in_a_file(file: &Path, users: usize) -> (u64, usize, usize) {
    let connection = Connection::open(file).unwrap();
    let fill = format!(
        "INSERT INTO users (name, email, created_at)
         WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {users})
         SELECT 'user ' || n, NULL, '2026-11-22T10:15:00.123Z' FROM numbers"
    );
    connection.execute_batch(&fill).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let size: i64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
    let sql = "SELECT pageno, ncell FROM dbstat WHERE name = 'users' AND pagetype = 'leaf' ORDER BY path";
    let mut statement = connection.prepare(sql).unwrap();
    let pages = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let pages: Vec<(i64, i64)> = pages.collect::<Result<_, _>>().unwrap();
    assert!(pages.len() > 10, "{} pages", pages.len());
    let (page, held) = pages[pages.len() / 2];
    (((page - 1) * size).try_into().unwrap(), size.try_into().unwrap(), held.try_into().unwrap())
}

#[test]
fn row_101_a_damaged_page_costs_its_own_users_503_and_is_never_a_wrong_answer() {
    const USERS: usize = 2_000;
    let _alone = alone();
    for rubbish in [0x00, 0xff] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("baiwan.db");
        let service = Running::start(command(directory.path()));
        service.signal(Signal::TERM);
        assert!(service.wait().0.success());
        let (place, size, held) = users_in_a_file(&file, USERS);
        let mut damaged = OpenOptions::new().write(true).open(&file).unwrap();
        damaged.seek(SeekFrom::Start(place)).unwrap();
        damaged.write_all(&vec![rubbish; size]).unwrap();

        let service = Running::start(command(directory.path()));
        let mut client = service.connect();
        let mut refused = Vec::new();
        for id in 1..=USERS {
            let answer = client.ask("GET", &format!("/api/users/{id}"), "").unwrap();
            match answer.status {
                200 => assert_eq!(answer.json()["name"], format!("user {id}")),
                _ => {
                    assert_unavailable(&answer);
                    refused.push(id);
                }
            }
        }
        assert_eq!(refused.len(), held, "the damaged page held {held} users: {refused:?}");
        let (first, last) = (refused[0], refused[held - 1]);
        assert_eq!(last - first + 1, held, "users of one page stand one after the other");
        // Pages beside it are shown, and one that needs it is not: what follows a user is looked for from that user on.
        assert_eq!(get(&service, &format!("/api/users?limit=20&after={}", last + 1)), 200);
        assert_eq!(get(&service, "/api/users?limit=20"), 200);
        assert_unavailable(&ask(&service, "GET", &format!("/api/users?limit=20&after={}", first - 10), ""));
        assert_unavailable(&ask(&service, "PUT", &format!("/api/users/{first}"), r#"{"name":"new"}"#));
        assert_eq!(create(&service, "one more").json()["id"], Value::from(USERS + 1));
        assert_the_rest_is_served(&service);
    }
}

#[test]
#[cfg_attr(not(has_namespaces), ignore = "unshare(1) may not make namespaces here; root may")]
fn row_101_a_file_system_that_is_read_only_is_one_line_and_exit_code_1() {
    let directory = tempfile::tempdir().unwrap();
    let service = Running::start(command(directory.path()));
    service.signal(Signal::KILL);
    assert!(!service.wait().0.success());
    let before = std::fs::read(directory.path().join("baiwan.db")).unwrap();
    let read_only = r#"mount --bind "$STATE_DIRECTORY" "$STATE_DIRECTORY" &&
        mount -o remount,bind,ro "$STATE_DIRECTORY" && exec "$0" serve"#;
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "sh", "-c", read_only, env!("CARGO_BIN_EXE_baiwan")]);
    let output = with_settings(unshare, directory.path()).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1), "{text}");
    assert!(text.contains("cannot be written") && text.contains("DATABASE_URL"), "{text}");
    assert_eq!(std::fs::read(directory.path().join("baiwan.db")).unwrap(), before);
}
