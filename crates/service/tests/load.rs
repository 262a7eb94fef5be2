//! `baiwan load`: what its flags mean as a plan, and what is said of those that mean nothing.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::process::{Command, Output};
use std::time::Duration;

use baiwan_load::{Phase, Plan, Sources};
use baiwan_service::cli;
use baiwan_service::load::arguments::Arguments;
use baiwan_service::load::plan::{Bodies, asks, plan};

const LOOPBACK: &str = "127.0.0.1:8080";
const SECOND: Duration = Duration::from_secs(1);

fn arguments(flags: &str) -> Arguments {
    let words = ["baiwan", "load", "http://localhost:8080/path"].into_iter().chain(flags.split_whitespace());
    match cli::parse(words.map(Into::into)) {
        Ok(cli::Command::Load(arguments)) => *arguments,
        other => panic!("{flags}: {other:?}"),
    }
}

fn planned(flags: &str, address: &str) -> Plan {
    let arguments = arguments(flags);
    arguments.check().unwrap();
    let bodies = Bodies::read(&arguments).unwrap();
    plan(&arguments, address, &bodies).unwrap()
}

fn request(flags: &str) -> String {
    String::from_utf8(planned(flags, LOOPBACK).request).unwrap()
}

const fn open(ramp: Duration, ask: bool) -> Phase {
    Phase::Open { ramp, ask, opening_max: 50 }
}

const fn closed(duration: Option<Duration>, requests: Option<u64>, warm_up: bool) -> Phase {
    Phase::Closed { duration, requests, each: None, outstanding_max: None, warm_up }
}

const fn rate(per_second: f64, duration: Duration, warm_up: bool) -> Phase {
    Phase::Rate { per_second, duration, warm_up }
}

const fn hold(duration: Duration) -> Phase {
    Phase::Hold { duration }
}

#[test]
fn flags_become_phases() {
    let at_once = open(Duration::ZERO, false);
    for (flags, phases) in [
        ("", vec![at_once.clone(), closed(Some(10 * SECOND), None, false), Phase::Close]),
        ("--duration 3s", vec![at_once.clone(), closed(Some(3 * SECOND), None, false), Phase::Close]),
        ("--requests 7", vec![at_once.clone(), closed(None, Some(7), false), Phase::Close]),
        ("--requests 7 --duration 3s", vec![at_once.clone(), closed(Some(3 * SECOND), Some(7), false), Phase::Close]),
        ("--rate 100", vec![at_once.clone(), rate(100.0, 10 * SECOND, false), Phase::Close]),
        ("--rate 0.5 --requests 2", vec![at_once.clone(), rate(0.5, 4 * SECOND, false), Phase::Close]),
        (
            "--rate 100 --requests 200 --duration 9s",
            vec![at_once.clone(), rate(100.0, 2 * SECOND, false), Phase::Close],
        ),
        (
            "--ramp 5s --warm-up 2s",
            vec![
                open(5 * SECOND, false),
                closed(Some(2 * SECOND), None, true),
                closed(Some(10 * SECOND), None, false),
                Phase::Close,
            ],
        ),
        (
            "--rate 9 --warm-up 2s --duration 3s",
            vec![at_once.clone(), rate(9.0, 2 * SECOND, true), rate(9.0, 3 * SECOND, false), Phase::Close],
        ),
        ("--hold 5m", vec![at_once.clone(), hold(300 * SECOND), Phase::Close]),
        ("--hold 5m --rate 9", vec![at_once.clone(), rate(9.0, 300 * SECOND, false), Phase::Close]),
        ("--hold 5m --active 2%", vec![at_once.clone(), closed(Some(300 * SECOND), None, false), Phase::Close]),
        (
            "--hold 5m --rate 9 --duration 2s",
            vec![at_once.clone(), rate(9.0, 2 * SECOND, false), hold(300 * SECOND), Phase::Close],
        ),
        ("--hold 5m --requests 50", vec![at_once, closed(None, Some(50), false), hold(300 * SECOND), Phase::Close]),
        ("--close", vec![closed(Some(10 * SECOND), None, false), Phase::Close]),
        ("--sse", vec![open(Duration::ZERO, true), hold(10 * SECOND), Phase::Close]),
        ("--sse --hold 5m", vec![open(Duration::ZERO, true), hold(300 * SECOND), Phase::Close]),
        ("--sse --duration 3s", vec![open(Duration::ZERO, true), hold(3 * SECOND), Phase::Close]),
    ] {
        assert_eq!(planned(flags, LOOPBACK).phases, phases, "{flags}");
    }
}

#[test]
fn flags_become_the_rest_of_a_plan() {
    let plan = planned("", LOOPBACK);
    assert_eq!((plan.connections, plan.pipeline, plan.active, plan.timeout), (50, 1, 1.0, Some(10 * SECOND)));
    assert_eq!(
        (plan.address.as_str(), plan.connect_each, plan.head_request, plan.events),
        (LOOPBACK, false, false, false)
    );
    assert!(plan.reconnect && asks(&plan) && plan.sources.is_none() && plan.expect_status.is_none());
    let plan =
        planned("--connections 200 --active 1 --pipeline 4 --timeout 0 --expect-status 404 --reconnect off", LOOPBACK);
    assert_eq!((plan.active, plan.pipeline, plan.timeout, plan.expect_status), (0.005, 4, None, Some(404)));
    assert!(!plan.reconnect);
    assert_eq!(planned("--active 0.5%", LOOPBACK).active, 0.005);
    assert_eq!(planned("--expect-body hello", LOOPBACK).expect_body.unwrap(), b"hello");
    assert!(planned("--close", LOOPBACK).connect_each && planned("-X HEAD", LOOPBACK).head_request);
    let held = planned("--hold 1m", LOOPBACK);
    assert!(!held.reconnect && !asks(&held), "nobody asks, so what is lost stays lost");
    assert!(planned("--hold 1m --reconnect on", LOOPBACK).reconnect);
    let streams = planned("--sse", LOOPBACK);
    assert!(streams.events && !streams.reconnect && !asks(&streams));
}

#[test]
fn flags_become_one_request() {
    let host = "host: localhost:8080\r\n";
    assert_eq!(request(""), format!("GET /path HTTP/1.1\r\n{host}\r\n"));
    assert_eq!(request("-X PUT"), format!("PUT /path HTTP/1.1\r\n{host}\r\n"));
    assert_eq!(request("-d hello"), format!("POST /path HTTP/1.1\r\n{host}content-length: 5\r\n\r\nhello"));
    assert_eq!(request("-H a:1 -H a:2 -H Host:b"), "GET /path HTTP/1.1\r\nhost: b\r\na: 1\r\na: 2\r\n\r\n");
    assert_eq!(request("--sse"), format!("GET /path HTTP/1.1\r\n{host}accept: text/event-stream\r\n\r\n"));
    assert_eq!(request("--close"), format!("GET /path HTTP/1.1\r\n{host}connection: close\r\n\r\n"));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("body");
    std::fs::write(&path, [0, 255, 10]).unwrap();
    let path = path.display();
    let plan = planned(&format!("--body-file {path} -X PATCH --expect-body-file {path}"), LOOPBACK);
    assert!(plan.request.starts_with(b"PATCH /path") && plan.request.ends_with(b"content-length: 3\r\n\r\n\0\xff\n"));
    assert_eq!(plan.expect_body.unwrap(), [0, 255, 10]);
}

#[test]
fn many_connections_to_loopback_come_from_many_addresses() {
    let all: Sources = "127.0.0.0/8".parse().unwrap();
    assert_eq!(planned("--connections 10001", LOOPBACK).sources, Some(all));
    assert_eq!(planned("--connections 10000", LOOPBACK).sources, None);
    for address in ["10.0.0.1:80", "[::1]:80", "unix:/run/app.sock"] {
        assert_eq!(planned("--connections 10001", address).sources, None, "{address}");
    }
    let one = planned("--connections 10001 --source 127.0.0.9", LOOPBACK).sources.unwrap();
    assert_eq!((one.first.to_string().as_str(), one.count), ("127.0.0.9", 1));
}

/// The binary with nothing of this test's environment; its exit code must be `code`, its message one line.
fn refused(words: &[&str], code: i32) -> String {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_baiwan")).arg("load").args(words).env_clear().output().unwrap();
    let line = String::from_utf8(stderr).unwrap();
    assert_eq!((status.code(), stdout.len()), (Some(code), 0), "{words:?}: {line}");
    assert!(line.starts_with("baiwan: ") && line.ends_with('\n') && line.lines().count() == 1, "{words:?}: {line}");
    line
}

#[test]
fn a_wrong_value_is_named_in_one_line() {
    const URL: &str = "http://127.0.0.1:1/";
    for (flags, parts) in [
        ("--connections 0", &["--connections is \"0\"", "from 1 to"] as &[_]),
        ("--connections 1.5", &["--connections is \"1.5\"", "from 1 to"]),
        ("--ramp 5", &["--ramp is \"5\"", "500ms, 10s or 2m; 0 is"]),
        ("--source localhost", &["--source is \"localhost\"", "127.0.0.0/8"]),
        ("--source ::1", &["--source is ::1", "same version of IP as 127.0.0.1:1"]),
        ("--workers 0", &["--workers is \"0\"", "from 1 to"]),
        ("--hold 0", &["--hold is \"0\"", "from 1ms to 24h"]),
        ("--requests 0", &["--requests is \"0\"", "from 1 on"]),
        ("--duration 10", &["--duration is \"10\"", "from 1ms to 24h"]),
        ("--rate 1e3", &["--rate is \"1e3\"", "above 0"]),
        ("--rate 0", &["--rate is \"0\"", "above 0"]),
        ("--rate inf", &["--rate is \"inf\"", "above 0"]),
        ("--active 0%", &["--active is \"0%\"", "100%"]),
        ("--active 101%", &["--active is \"101%\"", "100%"]),
        ("--active 51", &["--active is 51", "--connections, which is 50"]),
        ("--method G(T", &["--method is \"G(T\"", "GET or POST"]),
        ("--method CONNECT", &["no such request", "CONNECT"]),
        ("--header accept", &["--header is \"accept\"", "name and a value"]),
        ("--body-file /none/such", &["--body-file is \"/none/such\"", "can be read"]),
        ("--expect-body-file /none/such", &["--expect-body-file is \"/none/such\"", "can be read"]),
        ("--pipeline 1025", &["--pipeline is \"1025\"", "1 to 1024"]),
        ("--warm-up x", &["--warm-up is \"x\"", "from 1ms"]),
        ("--reconnect yes", &["--reconnect is \"yes\"", "on or off"]),
        ("--timeout 25h", &["--timeout is \"25h\"", "or off"]),
        ("--expect-status 101", &["--expect-status is \"101\"", "200 to 599"]),
        ("--json /none/such/x", &["--json is \"/none/such/x\"", "can be written"]),
        ("--html /none/such/x", &["--html is \"/none/such/x\"", "can be written"]),
        ("--json - --html -", &["--json and --html", "two"]),
        ("--server-pid 0", &["--server-pid is \"0\"", "number of a process"]),
        ("--server-pid 4294967295", &["--server-pid is 4294967295", "none has this number"]),
        ("--expect p95<1s", &["--expect is \"p95<1s\"", "p90, p99"]),
        ("--expect user_bytes<256", &["\"user_bytes<256\"", "--server-pid"]),
        ("--expect events_missing=0", &["\"events_missing=0\"", "--sse"]),
        ("--body a --body-file b", &["--body is \"a\"", "one of --body and --body-file"]),
        ("--expect-body a --expect-body-file b", &["--expect-body is", "one of"]),
        ("--unix /run/x --source 127.0.0.1", &["--source is 127.0.0.1", "--unix"]),
    ] {
        let words: Vec<&str> = std::iter::once(URL).chain(flags.split_whitespace()).collect();
        let line = refused(&words, 2);
        for part in parts {
            assert!(line.contains(part), "{flags}: {line}");
        }
    }
    let line = refused(&["https://localhost/"], 2);
    assert!(line.contains("URL is \"https://localhost/\"") && line.contains("not supported yet"), "{line}");
    let line = refused(&["http://me:secret@localhost/"], 2);
    assert!(line.contains("authorization") && !line.contains("secret"), "{line}");
}

#[test]
fn what_means_nothing_together_is_refused_in_one_line() {
    for (flags, flag, beside) in [
        ("--sse --requests 5", "--requests is 5", "--sse"),
        ("--sse --rate 5", "--rate is 5", "--sse"),
        ("--sse --active 1%", "--active is 1%", "--sse"),
        ("--sse --pipeline 2", "--pipeline is 2", "--sse"),
        ("--sse --warm-up 1s", "--warm-up is 1s", "--sse"),
        ("--sse --close", "--close is given", "--sse"),
        ("--sse --expect-body x", "--expect-body is \"x\"", "--sse"),
        ("--sse --hold 1s --duration 1s", "--hold is 1s", "--duration"),
        ("--close --ramp 1s", "--ramp is 1s", "--close"),
        ("--close --hold 1s", "--hold is 1s", "--close"),
        ("--close --active 5", "--active is 5", "--close"),
        ("--close --pipeline 2", "--pipeline is 2", "--close"),
        ("--close --reconnect off", "--reconnect is off", "--close"),
        ("--hold 1s --warm-up 1s", "--warm-up is 1s", "--hold alone"),
        ("--hold 1s --pipeline 2", "--pipeline is 2", "--hold alone"),
        ("--hold 1s --expect-status 200", "--expect-status is 200", "--hold alone"),
        ("--hold 1s -d x", "--body is \"x\"", "--hold alone"),
        ("--hold 1s -X PUT", "--method is PUT", "--hold alone"),
    ] {
        let words: Vec<&str> = std::iter::once("http://127.0.0.1:1/").chain(flags.split_whitespace()).collect();
        let line = refused(&words, 2);
        assert!(line.contains(flag) && line.contains(beside), "{flags}: {line}");
    }
}

#[test]
fn what_cannot_be_reached_is_one_line_and_exit_code_1() {
    let line = refused(&["http://no-such-host.invalid/", "--quiet"], 1);
    assert!(line.contains("no-such-host.invalid is not known"), "{line}");
}
