//! Limits of the machine that are too small: what the service makes of them, and that it says so.

use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::running::{Running, with_settings};

/// The service on two cores, started by a shell that allows it `files` files.
fn with_files(directory: &Path, files: u64) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &format!(r#"ulimit -n {files} && exec "$0" serve"#), env!("CARGO_BIN_EXE_baiwan")]);
    let mut command = with_settings(shell, directory);
    command.env("WORKERS", "2");
    command
}

/// Starts it and stops it; what it said before it was ready, and its maximum of connections.
fn start(files: u64) -> (Vec<Value>, u64) {
    let directory = tempfile::tempdir().unwrap();
    let service = Running::start(with_files(directory.path(), files));
    let (said, most) = (service.said_before.clone(), service.ready["max_connections"].as_u64().unwrap());
    assert_eq!(service.connect().ask("GET", "/api/users", "").unwrap().status, 200);
    service.signal(Signal::TERM);
    let (status, log) = service.wait();
    assert!(status.success(), "{log}");
    (said, most)
}

#[test]
fn row_114_of_few_files_at_least_a_quarter_are_connections_and_nobody_is_warned() {
    for files in [128, 256, 512, 1024] {
        let (said, most) = start(files);
        assert!(most >= files / 4, "{most} connections with {files} files");
        assert_eq!(said, Vec::<Value>::new(), "{files} files");
    }
}

#[test]
fn row_114_files_that_are_too_few_are_a_warning_that_comes_first_and_names_limit_and_need() {
    let (said, most) = start(48);
    assert!(most < 12, "{most}");
    assert_eq!(said[0]["level"], "WARN", "{said:?}");
    let message = said[0]["message"].as_str().unwrap();
    assert!(message.contains("may open 48 files") && message.contains("allow at least"), "{message}");
    assert!(message.contains("ulimit -n") && message.contains("LimitNOFILE="), "{message}");
}

#[test]
fn without_files_for_its_start_it_ends_with_a_line_that_names_the_limit() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = with_files(directory.path(), 32);
    let output = command.env("WORKERS", "8").output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    let message = last["message"].as_str().unwrap();
    assert!(last["level"] == "ERROR" && message.contains("no more than 32 files may be open"), "{log}");
}

#[test]
fn connections_that_fill_a_small_limit_are_all_answered_and_the_next_is_turned_away() {
    let directory = tempfile::tempdir().unwrap();
    let service = Running::start(with_files(directory.path(), 128));
    let most = service.ready["max_connections"].as_u64().unwrap();
    let mut clients: Vec<_> = (0..most).map(|_| service.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.ask("GET", "/api/users", "").unwrap().status, 200);
    }
    // Those who are told at the same time come out of the files that are kept for others. Each is waited for: it has asked for nothing.
    for _ in 0..8 {
        let mut beyond: Vec<_> = (0..8).map(|_| service.connect()).collect();
        assert!(beyond.iter_mut().all(|client| client.answer("GET").unwrap().status == 503));
    }
    for client in &mut clients {
        assert_eq!(client.ask("GET", "/api/users", "").unwrap().status, 200);
    }
    drop(clients);
    service.signal(Signal::TERM);
    let (status, log) = service.wait();
    assert!(status.success() && !log.contains("too many open files"), "{log}");
}
