//! The two logs of the real service: what is in them, and that nothing which becomes of one costs a request.
//!
//! A disk that stalls is a pipe here whose reader pauses: to the thread that writes, both are a call that does not return.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use axum::routing::get;
use baiwan::{AccessLog, RequestId};
use rustix::process::Signal;
use serde_json::Value;

use crate::running::{Answer, Client, Running, command, eventually};
use crate::streams::{broken_pipe, full_disk, full_pipe};

/// The service with its access log there.
fn with_log(directory: &Path, log: &str) -> Command {
    let mut command = command(directory);
    command.env("ACCESS_LOG", log).env("RATE_LIMIT", "off");
    command
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// How many requests the lines stand for, and how many they say were lost.
fn told(lines: &[Value]) -> [u64; 2] {
    let lost = lines.iter().filter_map(|line| line["dropped"].as_u64()).sum();
    let of_line = |line: &Value| if line["dropped"].is_null() { line["sampled"].as_u64().unwrap_or(1) } else { 0 };
    [lines.iter().map(of_line).sum(), lost]
}

/// Asks often enough for some megabytes of lines, all of which must be answered.
fn ask_often(service: &Running, times: usize) {
    let mut client = service.connect();
    let path = format!("/{}", "x".repeat(250));
    for _ in 0..times {
        assert_eq!(client.ask("GET", &path, "").unwrap().status, 404);
    }
}

fn id(answer: &Answer) -> &str {
    let field = answer.head.lines().find_map(|line| line.strip_prefix("x-request-id: "));
    field.unwrap_or_else(|| panic!("{}", answer.head))
}

#[test]
fn row_62_whatever_becomes_of_the_access_log_no_request_fails_and_it_stops_with_0() {
    let (_one, blocking) = full_pipe(false);
    let (_other, non_blocking) = full_pipe(true);
    for (what, stdout) in [
        ("a full disk", Stdio::from(full_disk())),
        ("a pipe without a reader", broken_pipe().into()),
        ("a pipe that nobody reads", blocking.into()),
        ("one that is non-blocking", non_blocking.into()),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let mut command = with_log(directory.path(), "on");
        command.env("ACCESS_LOG_SAMPLE", "off").stdout(stdout);
        let service = Running::start(command);
        ask_often(&service, 6000);
        service.signal(Signal::TERM);
        let (status, log) = service.wait();
        assert_eq!(status.code(), Some(0), "{what}: {log}");
    }
}

#[test]
fn row_62_a_file_that_is_a_full_device_or_a_pipe_without_a_reader_or_is_not_there_costs_its_lines() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for log in ["/dev/full", pipe.to_str().unwrap(), "/none/such/access.log"] {
        let service = Running::start(with_log(directory.path(), log));
        ask_often(&service, 200);
        service.signal(Signal::TERM);
        let (status, said) = service.wait();
        assert_eq!(status.code(), Some(0), "{log}: {said}");
        let warnings = said.lines().filter(|line| line.contains("the access log cannot be written")).count();
        // Whoever waits for a reader does not fail.
        assert_eq!(warnings, usize::from(!log.ends_with("pipe")), "{log}: {said}");
    }
}

#[test]
fn row_62_a_reader_that_pauses_gets_every_line_or_is_told_how_many_are_missing() {
    let directory = tempfile::tempdir().unwrap();
    let (mut reader, writer) = full_pipe(false);
    let mut command = with_log(directory.path(), "on");
    // More than the rings of two cores hold.
    command.env("ACCESS_LOG_SAMPLE", "off").env("WORKERS", "2").stdout(writer);
    let service = Running::start(command);
    ask_often(&service, 12_000);
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    });
    // Something that is written when all before it was.
    ask_often(&service, 10);
    service.signal(Signal::TERM);
    assert_eq!(service.wait().0.code(), Some(0));
    let text = reading.join().unwrap();
    let [written, lost] = told(&lines(text.trim_start_matches('\n')));
    assert_eq!(written + lost, 12_010);
    assert!(written > 1000 && lost > 0, "{written} {lost}");
}

#[test]
fn each_request_is_a_line_whose_id_its_answer_has_and_those_of_the_end_are_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    for tables in ["shared", "per-core"] {
        let mut command = with_log(directory.path(), path.to_str().unwrap());
        command.env("FD_TABLES", tables);
        let service = Running::start(command);
        let mut ids = Vec::new();
        for _ in 0..20 {
            let mut client = service.connect();
            for (method, target) in
                [("GET", "/api/users/7"), ("GET", "/none?secret"), ("DELETE", "/"), ("GET", "/health")]
            {
                let answer = client.ask(method, target, "").unwrap();
                ids.push((id(&answer).to_owned(), answer.status));
            }
        }
        service.signal(Signal::TERM);
        assert_eq!(service.wait().0.code(), Some(0));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("secret"), "{text}");
        let of_line = |line: &Value| {
            let status = line["http.response.status_code"].as_u64().unwrap() as u16;
            (line["request_id"].as_str().unwrap().to_owned(), status)
        };
        let mut written: Vec<_> = lines(&text).iter().map(of_line).collect();
        ids.sort();
        written.sort();
        assert_eq!(written, ids, "{tables}");
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn it_goes_to_standard_output_unless_it_is_told_otherwise() {
    for (log, expected) in [(None, 3), (Some("on"), 3), (Some("off"), 0)] {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("output");
        let mut command = command(directory.path());
        command.stdout(File::create(&output).unwrap());
        match log {
            Some(log) => command.env("ACCESS_LOG", log),
            None => command.env_remove("ACCESS_LOG"),
        };
        let service = Running::start(command);
        let mut client = service.connect();
        (0..3).for_each(|_| assert_eq!(client.ask("GET", "/", "").unwrap().status, 200));
        service.signal(Signal::TERM);
        assert_eq!(service.wait().0.code(), Some(0));
        assert_eq!(lines(&std::fs::read_to_string(output).unwrap()).len(), expected, "{log:?}");
    }
}

/// Tells the process of the test below that it is the one whose handlers log.
const LOGS: &str = "A_HANDLER_LOGS";

#[test]
fn lines_of_a_handler_name_its_request_and_the_level_changes_while_it_runs() {
    if std::env::var_os(LOGS).is_some() {
        return serve_a_handler_that_logs();
    }
    let name = "access_log::lines_of_a_handler_name_its_request_and_the_level_changes_while_it_runs";
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture"]).env(LOGS, "1").env_remove("RUST_BACKTRACE");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let said: Vec<String> = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap).collect();
    assert!(child.wait().unwrap().success(), "{said:?}");
    let said = lines(&said.join("\n"));
    let of = |message: &str| said.iter().filter(|line| line["message"] == message).collect::<Vec<_>>();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    for message in ["before it waits", "after it has waited"] {
        let [named, traced] = of(message)[..] else { panic!("{said:?}") };
        assert_eq!((&named["request_id"], &named["trace_id"]), (&"abc".into(), &Value::Null));
        assert_eq!((&traced["request_id"], &traced["trace_id"]), (&trace.into(), &trace.into()));
        assert_eq!((&named["count"], &named["level"]), (&3.into(), &"INFO".into()));
    }
    assert_eq!(of("spawned")[0]["request_id"], Value::Null);
    let panicked = said.iter().find(|line| line["message"].as_str().unwrap().ends_with("on purpose")).unwrap();
    assert_eq!(panicked["request_id"], "panics");
    assert_eq!(of("debug").len(), 1, "only while the level was debug: {said:?}");
}

fn serve_a_handler_that_logs() {
    use baiwan_service::logs;

    let last_lines = logs::LastLines;
    logs::start("info", baiwan_service::config::LogFormat::Json).unwrap();
    let logging = || async {
        tracing::info!(count = 3, "before it waits");
        tokio::task::yield_now().await;
        tracing::info!(count = 3, "after it has waited");
        tokio::spawn(async { tracing::info!("spawned") }).await.unwrap();
    };
    let panics = || async {
        if RequestId::current().is_some() {
            panic!("on purpose")
        }
    };
    let app = axum::Router::new().route("/", get(logging)).route("/panics", get(panics));
    let builder = baiwan::Server::builder().bind("127.0.0.1:0").workers(1).request_ids(true);
    let running = builder.access_log(AccessLog::off()).start(app).unwrap();
    let ask = |path: &str, field: &str| {
        let mut client = Client::connect(running.addresses()[0].parse().unwrap()).unwrap();
        client.send(format!("GET {path} HTTP/1.1\r\nhost: test\r\n{field}\r\n\r\n").as_bytes()).unwrap();
        client.answer("GET").unwrap()
    };
    assert_eq!(id(&ask("/", "x-request-id: abc")), "abc");
    let traced = ask("/", "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    assert_eq!(id(&traced), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(ask("/panics", "x-request-id: panics").status, 500);
    tracing::debug!("debug");
    logs::set_log_level("debug").unwrap();
    assert_eq!(logs::log_level().as_deref(), Some("debug"));
    tracing::debug!("debug");
    assert!(logs::set_log_level("verbose").is_err());
    logs::set_log_level("info").unwrap();
    tracing::debug!("debug");
    drop((running, last_lines));
}

#[test]
fn lines_are_written_while_it_runs_and_not_at_its_end_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let service = Running::start(with_log(directory.path(), path.to_str().unwrap()));
    for count in 1..4 {
        ask_often(&service, 1);
        eventually("the line is there", || std::fs::read_to_string(&path).unwrap_or_default().lines().count() == count);
    }
}
