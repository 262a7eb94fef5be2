//! `baiwan doctor` and `check-config --here` as processes: their exit codes, and that what `serve` would refuse is refused before, in the same
//! words.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use rustix::process::getuid;

use crate::running::{Running, with_settings};

/// Somebody who may write nothing.
const NOBODY: u32 = 65_534;

fn asked(words: &[&str], directory: &Path, variables: &[(&str, &str)]) -> Output {
    let mut command = with_settings(Command::new(env!("CARGO_BIN_EXE_baiwan")), directory);
    command.env("LOG_FORMAT", "text").envs(variables.iter().copied()).args(words).output().unwrap()
}

/// A port on which nobody listens.
fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What `serve` says when it cannot start with these settings, which `check-config --here` must have said, too.
fn refused_before(directory: &Path, variables: &[(&str, &str)]) -> String {
    let (here, serve) =
        (asked(&["check-config", "--here"], directory, variables), asked(&["serve"], directory, variables));
    let (before, said) = (text(&here.stderr), text(&serve.stderr));
    assert_eq!((here.status.code(), serve.status.code()), (Some(1), Some(1)), "{before}\n{said}");
    assert_eq!(before, said);
    assert!(text(&here.stdout).contains("\nMAX_CONNECTIONS "), "the settings are shown all the same");
    said
}

#[test]
fn the_exit_code_says_whether_the_connections_can_be_held() {
    let directory = tempfile::tempdir().unwrap();
    let ask = |words: &[&str], variables: &[(&str, &str)]| asked(words, directory.path(), variables);
    let few = ask(&["doctor", "--for", "10"], &[]);
    assert_eq!(few.status.code(), Some(0), "{}", text(&few.stdout));
    assert!(text(&few.stdout).ends_with("\n10 connections can be held\n"), "{}", text(&few.stdout));
    let many = ask(&["doctor", "--for", "100000000", "--json"], &[]);
    assert_eq!(many.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&many.stdout).unwrap();
    assert_eq!((&report["connections"], &report["can_be_held"]), (&100_000_000.into(), &false.into()));
    assert!(report["checks"].as_array().unwrap().len() > 15, "{report}");
    let of_settings = ask(&["doctor"], &[("MAX_CONNECTIONS", "10")]);
    assert!(text(&of_settings.stdout).ends_with("\n10 connections can be held\n"), "{}", text(&of_settings.stdout));
    for (words, variables) in [
        (&["doctor", "--for", "many"][..], [("PORT", "0")]),
        (&["doctor", "many"], [("PORT", "0")]),
        (&["doctor"], [("PORT", "many")]),
    ] {
        let wrong = ask(words, &variables);
        assert_eq!((wrong.status.code(), wrong.stdout.len()), (Some(2), 0), "{}", text(&wrong.stderr));
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing was made");
}

#[test]
fn what_the_start_would_refuse_is_refused_before_in_the_same_words() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let said = refused_before(directory.path(), &[("PORT", &port)]);
    assert!(said.contains("the port is in use"), "{said}");
    let said = refused_before(directory.path(), &[("ADMIN_HOST", "127.0.0.1"), ("ADMIN_PORT", &port)]);
    assert!(said.contains("the admin side cannot listen") && said.contains(&port), "{said}");
    let own = free_port();
    for host in ["127.0.0.1", "0.0.0.0", "::"] {
        let variables = [("HOST", host), ("PORT", &own), ("ADMIN_HOST", "127.0.0.1"), ("ADMIN_PORT", &own)];
        let said = refused_before(directory.path(), &variables);
        assert!(said.contains("the server itself listens there") && said.contains(&own), "{said}");
    }
    let said = refused_before(directory.path(), &[("MAX_CONNECTIONS", "100000000")]);
    assert!(said.contains("MAX_CONNECTIONS=100000000 cannot be had"), "{said}");
    let said = refused_before(directory.path(), &[("HOST", "192.0.2.1")]);
    assert!(said.contains("192.0.2.1"), "{said}");
    for (url, expected) in [
        ("sqlite:/none/such/baiwan.db", "the directory /none/such does not exist"),
        ("sqlite:/", "is a directory"),
        ("sqlite:/dev/null", "is no file"),
    ] {
        let said = refused_before(directory.path(), &[("DATABASE_URL", url)]);
        assert!(said.contains(expected), "{said}");
    }
    std::fs::write(directory.path().join("baiwan.db"), [&b"SQLite format 3\0"[..], &[1; 100]].concat()).unwrap();
    let said = refused_before(directory.path(), &[]);
    assert!(said.contains("the database of another program"), "{said}");
}

#[test]
fn a_working_directory_that_is_gone_is_refused_before_in_the_same_words() {
    let directory = tempfile::tempdir().unwrap();
    let said = |words: &str| {
        let script = format!("mkdir gone && cd gone && rmdir ../gone && exec {} {words}", env!("CARGO_BIN_EXE_baiwan"));
        let mut command = with_settings(Command::new("sh"), directory.path());
        command.current_dir(directory.path()).env("LOG_FORMAT", "text").env("STATE_DIRECTORY", "");
        let output = command.args(["-c", &script]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}{}", text(&output.stdout), text(&output.stderr));
        (text(&output.stdout), text(&output.stderr))
    };
    let (here, serve) = (said("check-config --here").1, said("serve").1);
    assert!(here == serve && here.contains("the working directory cannot be read"), "{here}\n{serve}");
    let doctor = said("doctor --for 10").0;
    assert!(doctor.contains("baiwan.db is in the working directory, which cannot be read"), "{doctor}");
}

#[test]
fn a_directory_or_file_that_may_not_be_written_is_refused_before_in_the_same_words() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    // Root may write everywhere; nobody may not even see where cargo builds.
    let program = directory.path().join("baiwan");
    std::fs::copy(env!("CARGO_BIN_EXE_baiwan"), &program).unwrap();
    let ask = |words: &[&str], database: &Path| {
        let mut command = with_settings(Command::new(&program), directory.path());
        if getuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.current_dir("/").env("LOG_FORMAT", "text").args(words);
        command.env("DATABASE_URL", format!("sqlite:{}", database.display())).output().unwrap()
    };
    let folder = directory.path().join("closed");
    std::fs::create_dir(&folder).unwrap();
    let file = directory.path().join("closed.db");
    std::fs::write(&file, "").unwrap();
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o555)).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o444)).unwrap();
    for database in [folder.join("baiwan.db"), file] {
        let before = std::fs::metadata(database.parent().unwrap()).unwrap().mtime_nsec();
        let (here, serve) = (ask(&["check-config", "--here"], &database), ask(&["serve"], &database));
        assert_eq!(text(&here.stderr), text(&serve.stderr));
        assert_eq!((here.status.code(), serve.status.code()), (Some(1), Some(1)), "{}", text(&here.stderr));
        assert!(text(&here.stderr).contains("cannot be written"), "{}", text(&here.stderr));
        assert_eq!(std::fs::metadata(database.parent().unwrap()).unwrap().mtime_nsec(), before, "nothing was made");
    }
}

#[test]
fn what_can_be_had_is_the_same_for_the_doctor_and_the_start() {
    const FILES: u64 = 1000;
    // Files of the limit store's thread, which may not have opened them yet when the start counts.
    const FILES_LATE_MAX: u64 = 5;
    let directory = tempfile::tempdir().unwrap();
    let limited = |words: &[&str], max: u64, variable: (&str, &str)| {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &format!("ulimit -n {FILES}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_baiwan")]).args(words);
        let mut command = with_settings(shell, directory.path());
        // What is said to systemd goes through a socket, and is lost here.
        command.env("NOTIFY_SOCKET", "@nobody-listens-here").env("LOG_FORMAT", "text").env("WORKERS", "2");
        command.env("MAX_CONNECTIONS", max.to_string()).env(variable.0, variable.1).output().unwrap()
    };
    let possible = |output: &Output| -> u64 {
        let said = text(&output.stderr);
        let digits = said.split("which is enough for ").nth(1).unwrap_or_else(|| panic!("{said}"));
        digits.split(|letter: char| !letter.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    let door = directory.path().join("takeover.sock");
    for (variable, late_max) in [
        (("PORT", "0"), 0),
        (("TAKEOVER", door.to_str().unwrap()), 0),
        (("RATE_LIMIT_STORE", "redis://127.0.0.1:1"), FILES_LATE_MAX),
    ] {
        let (serve, here) =
            (limited(&["serve"], FILES, variable), limited(&["check-config", "--here"], FILES, variable));
        let (serve, here) = (possible(&serve), possible(&here));
        assert!((here..=here + late_max).contains(&serve), "{variable:?}: serve {serve}, here {here}");
        let doctor = limited(&["doctor", "--json"], FILES, variable);
        let report: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
        assert_eq!(report["possible"], here, "{variable:?}");
        assert_eq!(limited(&["check-config", "--here"], here, variable).status.code(), Some(0), "{variable:?}");
    }
}

#[test]
fn a_start_that_is_possible_leaves_nothing_behind_and_says_what_is_lowered() {
    let directory = tempfile::tempdir().unwrap();
    let output = asked(&["check-config", "--here"], directory.path(), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing was made");
    // What the start says is lowered, this says too.
    let service = Running::start(with_settings(Command::new(env!("CARGO_BIN_EXE_baiwan")), directory.path()));
    let said = text(&output.stdout);
    let notes = service.ready["notes"].as_str().unwrap();
    for note in notes.split("; ").filter(|note| !note.is_empty()) {
        assert!(said.contains(&format!("note: {note}\n")), "{note}: {said}");
    }
    // A service that runs is not disturbed by a look at its own address.
    let port = service.address.port().to_string();
    assert_eq!(asked(&["check-config", "--here"], directory.path(), &[("PORT", &port)]).status.code(), Some(1));
    assert_eq!(service.connect().ask("GET", "/health", "").unwrap().status, 200);
}
