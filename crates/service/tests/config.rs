//! The settings, as an operator meets them: the real binary, its environment, its exit code and its one line.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::collections::BTreeSet;
use std::process::{Command, Output};

/// Every variable that is served, with a wrong value and a piece of what its line says is allowed.
const WRONG: &[(&str, &str, &str)] = &[
    ("HOST", "example.org", "an IP address"),
    ("PORT", "65536", "0 to 65535"),
    ("WORKERS", "0", "1 to 1024"),
    ("MAX_CONNECTIONS", "many", "a whole number"),
    ("DATABASE_URL", "mysql://host/db", "sqlite:PATH"),
    ("LOG_LEVEL", "verbose", "error, warn, info, debug, trace"),
    ("LOG_FORMAT", "xml", "auto, json or text"),
    ("HEADER_TIMEOUT", "10", "500ms, 10s or 2m"),
    ("KEEP_ALIVE_TIMEOUT", "-1s", "0 is none"),
    ("REQUEST_TIMEOUT", "1.5s", "500ms, 10s or 2m"),
    ("WRITE_TIMEOUT", "1d", "500ms, 10s or 2m"),
    ("BODY_TIMEOUT", "1 h", "500ms, 10s or 2m"),
    ("BODY_MIN_RATE", "500B", "bytes a second"),
    ("SHUTDOWN_DELAY", "25s", "less than SHUTDOWN_TIMEOUT"),
    ("SHUTDOWN_TIMEOUT", "0", "from 1ms to 24h"),
    ("EVENT_LOOP", "kqueue", "auto, epoll or portable"),
    ("FD_TABLES", "per-thread", "shared or per-core"),
];

/// The binary with nothing of this test's environment.
fn baiwan(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_baiwan"))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn one_line(output: &Output, exit_code: i32) -> String {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(exit_code), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(output.stdout.is_empty());
    text
}

#[test]
fn a_wrong_value_is_one_line_that_names_variable_value_and_what_is_allowed() {
    for &(variable, value, allowed) in WRONG {
        let line = one_line(&baiwan(&["serve"], &[(variable, value)]), 2);
        let shown = if variable == "DATABASE_URL" { "mysql:…" } else { value };
        assert!(line.starts_with(&format!("baiwan: {variable} (or --")), "{line}");
        assert!(line.contains(shown) && line.contains(allowed), "{line}");
    }
}

#[test]
fn tables_that_the_event_loop_cannot_have_are_refused() {
    let line = one_line(&baiwan(&["serve"], &[("FD_TABLES", "per-core"), ("EVENT_LOOP", "portable")]), 2);
    assert_eq!(
        line,
        "baiwan: FD_TABLES (or --fd-tables) is \"per-core\"; allowed with EVENT_LOOP=portable is shared\n"
    );
}

#[test]
fn a_wrong_flag_gets_the_same_line() {
    let line = one_line(&baiwan(&["serve", "--port", "http"], &[("PORT", "8080")]), 2);
    assert_eq!(line, "baiwan: PORT (or --port) is \"http\"; allowed is a port from 0 to 65535 (0 takes a free one)\n");
}

#[test]
fn a_port_that_kubernetes_injected_is_recognised() {
    let line = one_line(&baiwan(&["serve"], &[("PORT", "tcp://10.0.0.1:80")]), 2);
    assert!(line.contains("PORT") && line.contains("Kubernetes") && line.contains("enableServiceLinks"), "{line}");
}

#[test]
fn postgresql_is_named_as_not_served_and_its_password_is_not_repeated() {
    for scheme in ["postgres", "postgresql"] {
        let url = format!("{scheme}://ada:secret@host/db");
        let line = one_line(&baiwan(&["serve"], &[("DATABASE_URL", &url)]), 2);
        assert!(line.contains("PostgreSQL is not served yet"), "{line}");
        assert!(!line.contains("secret"), "{line}");
    }
}

#[cfg(unix)]
#[test]
fn a_value_that_is_not_text_is_named() {
    use std::os::unix::ffi::OsStrExt;
    let output = Command::new(env!("CARGO_BIN_EXE_baiwan"))
        .env_clear()
        .env("WORKERS", std::ffi::OsStr::from_bytes(b"\xff"))
        .output()
        .unwrap();
    assert!(one_line(&output, 2).contains("WORKERS"));
}

#[test]
fn an_empty_variable_is_unset_and_a_flag_wins() {
    let nowhere = "sqlite:/dev/null/baiwan.db";
    let mut variables: Vec<(&str, &str)> = WRONG.iter().map(|&(variable, ..)| (variable, "")).collect();
    // With every variable empty the settings are right, and the start fails where this test wants it to.
    let line = one_line(&baiwan(&["serve", "--database-url", nowhere], &variables), 1);
    assert!(line.contains("/dev/null"), "{line}");
    variables = vec![("DATABASE_URL", "mysql://host/db")];
    let line = one_line(&baiwan(&["serve", "--database-url", nowhere], &variables), 1);
    assert!(line.contains("/dev/null"), "{line}");
}

#[test]
fn help_lists_exactly_the_variables_that_are_served() {
    let output = baiwan(&["serve", "--help"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8(output.stdout).unwrap();
    let listed: BTreeSet<&str> =
        help.split("[env: ").skip(1).filter_map(|rest| rest.split(['=', ']']).next()).collect();
    assert_eq!(listed, WRONG.iter().map(|&(variable, ..)| variable).collect());
    assert_eq!(help.matches("[default: ").count(), WRONG.len(), "{help}");
    for default in ["0.0.0.0", "8080", "1000000", "sqlite:baiwan.db", "info", "auto", "10s", "75s", "30s", "0s", "25s"]
    {
        assert!(help.contains(&format!("[default: {default}")), "{default}");
    }
}

#[test]
fn help_keeps_the_values_of_the_environment_to_itself() {
    let output = baiwan(&["serve", "--help"], &[("DATABASE_URL", "postgres://ada:secret@host/db")]);
    assert!(!String::from_utf8(output.stdout).unwrap().contains("secret"));
}

#[test]
fn an_unknown_flag_is_a_usage_error() {
    let output = baiwan(&["serve", "--prot", "80"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--port"), "the likely one is named");
}

#[test]
fn a_database_that_cannot_be_opened_is_one_line_and_exit_code_1() {
    let directory = tempfile::tempdir().unwrap();
    let is_directory = format!("sqlite:{}", directory.path().display());
    let absent = format!("sqlite:{}/absent/baiwan.db", directory.path().display());
    let foreign = directory.path().join("foreign.db");
    std::fs::write(&foreign, "no database at all\n".repeat(100)).unwrap();
    let foreign = format!("sqlite:{}", foreign.display());
    for (url, expected) in [
        (is_directory.as_str(), "is a directory: set DATABASE_URL"),
        (&absent, "does not exist: create it"),
        ("sqlite:/proc/baiwan.db", "cannot be written"),
        (&foreign, "is not an SQLite database or is damaged"),
    ] {
        let line = one_line(&baiwan(&["serve"], &[("DATABASE_URL", url), ("PORT", "0")]), 1);
        assert!(line.contains(expected), "{line}");
    }
}

#[test]
fn a_relative_database_lies_in_the_first_state_directory() {
    let variables = [("STATE_DIRECTORY", "/dev/null/first:/dev/null/second"), ("PORT", "0")];
    let line = one_line(&baiwan(&["serve"], &variables), 1);
    assert!(line.contains("/dev/null/first ") && !line.contains("second"), "{line}");
}
