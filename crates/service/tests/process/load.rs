//! `baiwan load` against the service: both are real processes.

use std::process::{Command, Output};

use serde_json::Value;

use crate::running::{Running, command};

fn load(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_baiwan")).arg("load").args(words).env_clear().output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_load_run_is_reported_in_every_form() {
    let directory = tempfile::tempdir().unwrap();
    let service = Running::start(command(directory.path()));
    let url = format!("http://{}/health/live", service.address);
    let html = directory.path().join("run.html");
    let words =
        [&url, "--requests", "500", "--connections", "20", "--json", "-", "--html", html.to_str().unwrap(), "--expect"];
    let Output { status, stdout, stderr } = load(&[&words[..], &["errors=0,alive=20,p99<1m"]].concat());
    let (report, told): (Value, String) = (serde_json::from_slice(&stdout).unwrap(), text(&stderr));
    assert_eq!(status.code(), Some(0), "{told}");
    assert_eq!((&report["requests"]["answered"], &report["connections"]["opened"]), (&500.into(), &20.into()));
    assert_eq!(report["expectations"][1]["met"], true);
    assert!(told.starts_with("open: 20 connections\nclosed loop: 500 requests\nclose\nhttp://"), "{told}");
    assert!(told.contains("500 answered") && told.contains("p99<1m                  met"), "{told}");
    assert!(std::fs::read_to_string(html).unwrap().contains("500 answered"));
}

#[test]
fn the_exit_code_says_whether_the_run_was_as_expected() {
    let directory = tempfile::tempdir().unwrap();
    let service = Running::start(command(directory.path()));
    let base = format!("http://{}", service.address);
    for (path, flags, code, part) in [
        ("/health/live", "--requests 10 --expect rps<0", 1, "rps<0                   NOT MET"),
        ("/health/live", "--requests 10 --close", 0, "10 opened, up to 5 at a time"),
        ("/health/live", "--requests 10 --expect-body no", 1, "nothing was answered as expected"),
        ("/nope", "--requests 10", 1, "nothing was answered as expected"),
        ("/nope", "--requests 10 --expect-status 404", 0, "10 answered"),
        ("/health/live", "--rate 100 --requests 20", 0, "open loop"),
        ("/echo", "-d hello --requests 10", 0, "10 answered"),
        ("/", "--hold 50ms", 0, "5 of 5 opened"),
    ] {
        let url = format!("{base}{path}");
        let words = [&url, "--quiet", "--connections", "5"].into_iter().chain(flags.split(' '));
        let Output { status, stdout, stderr } = load(&words.collect::<Vec<_>>());
        let told = text(&stdout) + &text(&stderr);
        assert_eq!(status.code(), Some(code), "{flags}: {told}");
        assert!(told.contains(part), "{flags}: {told}");
    }
}

#[test]
fn where_nobody_listens_a_load_run_is_one_line() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let Output { status, stdout, stderr } = load(&[&format!("http://{unused}/")]);
    let line = text(&stderr);
    assert_eq!((status.code(), stdout.len(), line.lines().count()), (Some(1), 0, 1), "{line}");
    assert!(line.starts_with(&format!("baiwan: nothing answers at {unused}: ")), "{line}");
}
