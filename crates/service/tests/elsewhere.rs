//! What the binary says on systems without the engine, or built as if for one: in one line each, what needs Linux.
#![cfg(not(all(target_os = "linux", not(baiwan_portable))))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::process::{Command, Output};

/// The message of the binary, which is one line; its exit code must be `code`.
fn refused(words: &[&str], variables: &[(&str, &str)], code: i32) -> String {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_baiwan"));
    command.args(words).env_clear().envs(variables.iter().copied());
    command.env("STATE_DIRECTORY", directory.path()).env("PORT", "0").env("LOG_FORMAT", "text");
    let Output { status, stderr, .. } = command.output().unwrap();
    let line = String::from_utf8(stderr).unwrap();
    assert_eq!((status.code(), line.lines().count()), (Some(code), 1), "{words:?}: {line}");
    line
}

#[test]
fn load_is_made_on_linux_only() {
    let line = refused(&["load", "http://localhost:1/"], &[], 2);
    assert!(line.contains("runs on Linux only") && line.contains("epoll"), "{line}");
}

#[test]
fn the_engine_is_there_on_linux_only() {
    let line = refused(&["serve"], &[("EVENT_LOOP", "epoll")], 1);
    assert!(line.contains("epoll"), "{line}");
}
