//! What becomes of the service when its standard streams are closed, full, slow, or have no reader.

use std::fs::{File, OpenOptions};
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use axum::routing::get;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::running::{Client, command, eventually};

/// A service that cannot say where it listens.
pub(crate) struct Mute {
    child: Child,
    address: Option<SocketAddr>,
}

impl Mute {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut service = Self { child: command.spawn().unwrap(), address: None };
        eventually("it listens", || {
            service.address = listens_at(service.child.id());
            service.address.is_some()
        });
        service
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address.unwrap()).unwrap()
    }

    /// Has a core refuse a request, which is a line at level debug, and then answer one.
    fn refuse_and_answer(&self) {
        let mut client = self.connect();
        client.send(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(client.answer("GET").unwrap().status, 400);
        let mut client = self.connect();
        assert_eq!(client.ask("GET", "/health/live", "").unwrap().status, 200);
    }

    pub(crate) fn stop(mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a process listens, as the kernel tells it.
fn listens_at(process: u32) -> Option<SocketAddr> {
    // Each thread may have files of its own.
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let files = threads.filter_map(|thread| std::fs::read_dir(thread.ok()?.path().join("fd")).ok()).flatten();
    let links = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    let sockets: Vec<String> = links.map(|link| link.to_string_lossy().into_owned()).collect();
    let table = std::fs::read_to_string(format!("/proc/{process}/net/tcp")).ok()?;
    table.lines().find_map(|row| {
        let fields: Vec<&str> = row.split_whitespace().collect();
        // 0A is the state of a socket that listens.
        let is_it = fields[3] == "0A" && sockets.contains(&format!("socket:[{}]", fields[9]));
        let port = u16::from_str_radix(fields[1].split_once(':')?.1, 16).ok()?;
        is_it.then_some(SocketAddr::from(([127, 0, 0, 1], port)))
    })
}

pub(crate) fn full_disk() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// A pipe without a reader.
pub(crate) fn broken_pipe() -> PipeWriter {
    pipe().unwrap().1
}

/// A pipe that takes no more, though it has a reader. `stays_non_blocking` is whether a write to it fails, or waits.
pub(crate) fn full_pipe(stays_non_blocking: bool) -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    while writer.write(b"\n").is_ok() {}
    if !stays_non_blocking {
        fcntl_setfl(&writer, flags).unwrap();
    }
    (reader, writer)
}

/// `baiwan` with some of its standard streams closed, as a shell closes them.
fn closed(directory: &Path, redirections: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &format!(r#"exec "$0" serve {redirections}"#), env!("CARGO_BIN_EXE_baiwan")]);
    crate::running::with_settings(shell, directory)
}

#[test]
fn row_111_whatever_becomes_of_standard_error_the_service_starts_serves_and_stops_with_0() {
    let readers = [full_pipe(false), full_pipe(true)];
    let [(_one, blocking), (_other, non_blocking)] = readers;
    let outputs = [
        ("a full disk", Stdio::from(full_disk())),
        ("a pipe without a reader", broken_pipe().into()),
        ("a pipe that nobody reads", blocking.into()),
        ("one that is non-blocking", non_blocking.into()),
    ];
    for (what, stderr) in outputs {
        let directory = tempfile::tempdir().unwrap();
        let mut command = command(directory.path());
        command.env("LOG_LEVEL", "debug").stderr(stderr);
        let service = Mute::start(command);
        (0..20).for_each(|_| service.refuse_and_answer());
        let status = service.stop();
        assert_eq!(status.code(), Some(0), "{what}: {status}");
    }
}

#[test]
fn row_111_with_a_table_for_each_core_it_serves_whatever_becomes_of_standard_error() {
    let (_reader, full) = full_pipe(false);
    for stderr in [Stdio::from(full), broken_pipe().into()] {
        let directory = tempfile::tempdir().unwrap();
        let mut command = command(directory.path());
        command.env("LOG_LEVEL", "debug").env("FD_TABLES", "per-core").stderr(stderr);
        let service = Mute::start(command);
        (0..20).for_each(|_| service.refuse_and_answer());
        assert_eq!(service.stop().code(), Some(0));
    }
}

#[test]
fn row_111_lines_wait_for_a_reader_that_is_slow_and_come_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let (mut reader, writer) = full_pipe(false);
    let mut command = command(directory.path());
    command.env("LOG_LEVEL", "debug").stderr(writer);
    let service = Mute::start(command);
    (0..20).for_each(|_| service.refuse_and_answer());
    kill_process(Pid::from_child(&service.child), Signal::TERM).unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    let lines: Vec<Value> = text.trim_start().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let messages: Vec<&str> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
    assert!(messages[0].contains("baiwan is ready"), "{text}");
    assert_eq!(messages.iter().filter(|message| **message == "refused a request").count(), 20, "{text}");
    assert_eq!(messages.last(), Some(&"stopped"), "{text}");
    assert_eq!(service.stop().code(), Some(0));
}

#[test]
fn row_111_a_standard_stream_that_is_closed_at_the_start_is_no_other_file_later() {
    for redirections in ["2>&-", "<&- >&- 2>&-"] {
        let directory = tempfile::tempdir().unwrap();
        let service = Mute::start(closed(directory.path(), redirections));
        service.refuse_and_answer();
        for file in 0..3 {
            let link = std::fs::read_link(format!("/proc/{}/fd/{file}", service.child.id())).unwrap();
            let given = !redirections.contains('<') && file < 2;
            assert!(given || link == Path::new("/dev/null"), "{redirections}: {file} is {}", link.display());
        }
        assert_eq!(service.stop().code(), Some(0), "{redirections}");
    }
}

#[test]
fn row_111_why_it_does_not_start_is_the_exit_code_even_where_nobody_reads_the_line() {
    let (_reader, full) = full_pipe(false);
    for stderr in [Stdio::from(full_disk()), broken_pipe().into(), full.into()] {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing");
        let mut command = command(&missing);
        let status = command.stderr(stderr).status().unwrap();
        assert_eq!(status.code(), Some(1), "{status}");
    }
}

#[test]
fn an_answer_whose_reader_has_gone_is_a_success_and_one_that_cannot_be_written_a_failure() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [&["check-config"][..], &["--help"], &["--version"], &["serve", "--help"], &["load", "--help"]] {
        let run = |stdout: Stdio| {
            let output = command(directory.path()).args(arguments).stdout(stdout).output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        assert_eq!(run(broken_pipe().into()), (Some(0), String::new()), "{arguments:?}");
        let (code, said) = run(full_disk().into());
        assert_eq!((code, said.lines().count()), (Some(1), 1), "{arguments:?}: {said}");
        assert!(said.starts_with("baiwan: standard output: "), "{said}");
    }
}

/// Tells the process of the test below that it is the one that panics.
const PANICS: &str = "A_HANDLER_PANICS";

#[test]
fn row_111_a_panic_is_a_line_of_the_log_and_harms_nothing_where_that_is_gone() {
    if std::env::var_os(PANICS).is_some() {
        return serve_a_handler_that_panics();
    }
    let name = "streams::row_111_a_panic_is_a_line_of_the_log_and_harms_nothing_where_that_is_gone";
    let again = |stderr: Stdio| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", name, "--nocapture"]).env(PANICS, "1").env_remove("RUST_BACKTRACE");
        let child = command.stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", output.status);
        String::from_utf8(output.stderr).unwrap()
    };
    let log = again(Stdio::piped());
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{log}");
    for line in lines {
        let message = line["message"].as_str().unwrap();
        assert!(message.starts_with("thread 'baiwan-core-0' panicked at "), "{log}");
        assert!(message.ends_with(": number 7"), "{log}");
        assert_eq!(line["level"], "ERROR");
    }
    let (_reader, full) = full_pipe(false);
    for stderr in [full_disk().into(), broken_pipe().into(), full.into()] {
        again(stderr);
    }
}

fn serve_a_handler_that_panics() {
    let last_lines = baiwan_service::logs::LastLines;
    baiwan_service::logs::start("info", baiwan_service::config::LogFormat::Json).unwrap();
    let app = axum::Router::new().route("/panic", get(panic_in_a_handler)).route("/", get(|| async { "lives" }));
    let running = baiwan::Server::builder().bind("127.0.0.1:0").workers(1).start(app).unwrap();
    let address = running.addresses()[0].parse().unwrap();
    for _ in 0..2 {
        assert_eq!(Client::connect(address).unwrap().ask("GET", "/panic", "").unwrap().status, 500);
        assert_eq!(Client::connect(address).unwrap().ask("GET", "/", "").unwrap().body, b"lives");
    }
    drop((running, last_lines));
}

async fn panic_in_a_handler() -> &'static str {
    panic!("number {}", 7)
}
