//! `baiwan load` ends on time, and what it has measured is told, whatever dies meanwhile: the server, a worker, the disk, a reader.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::honest::{Answers, load, number, ok};
use crate::running::{Running, command, eventually};

/// In place of the time limit for answers: no run of these tests ends in time by waiting for that.
const LONG: &str = "--timeout 1m";

/// A run that is told phase by phase on its standard error, and writes its report to a file.
struct Run {
    child: Child,
    told: BufReader<std::process::ChildStderr>,
    json: PathBuf,
}

impl Run {
    fn start(address: SocketAddr, flags: &str, directory: &Path) -> Self {
        let json = directory.join("run.json");
        let mut command = Command::new(env!("CARGO_BIN_EXE_baiwan"));
        command.args(["load", &format!("http://{address}/health/live"), "--json"]).arg(&json);
        command.args(LONG.split(' ').chain(flags.split_whitespace())).env_clear();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let told = BufReader::new(child.stderr.take().unwrap());
        Self { child, told, json }
    }

    fn until(&mut self, phase: &str) {
        let mut line = String::new();
        while !line.starts_with(phase) {
            line.clear();
            assert!(self.told.read_line(&mut line).unwrap() > 0, "it ended before {phase}");
        }
    }

    fn workers(&self) -> Vec<Pid> {
        let pid = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.split_whitespace().filter_map(|child| Pid::from_raw(child.parse().unwrap())).collect()
    }

    /// The report, the exit code, and all that was told, on standard output first.
    fn end(mut self) -> (Value, Option<i32>, String) {
        let mut told = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut told).unwrap();
        self.told.read_to_string(&mut told).unwrap();
        let code = self.child.wait().unwrap().code();
        (serde_json::from_str(&std::fs::read_to_string(&self.json).unwrap()).unwrap(), code, told)
    }
}

fn assert_all_are_accounted_for(report: &Value, due: f64) {
    let (answered, errors) = (number(report, "/requests/answered"), number(report, "/errors/total"));
    assert_eq!(answered + errors, due, "{report}");
}

/// The loop did not wait for `--timeout`, which is a minute.
fn assert_it_ended_by_its_time(report: &Value) {
    assert!(number(report, "/seconds") < 30.0, "{report}");
}

#[test]
fn a_loop_ends_by_its_time_though_its_server_was_killed_and_each_request_is_an_answer_or_one_error() {
    for (flags, due) in
        [("--rate 100", Some(100.0)), ("--rate 100 --close", Some(100.0)), ("", None), ("--close", None)]
    {
        let directory = tempfile::tempdir().unwrap();
        let service = Running::start(command(directory.path()));
        let mut run = Run::start(service.address, &format!("--duration 1s --connections 5 {flags}"), directory.path());
        run.until(if due.is_some() { "open loop" } else { "closed loop" });
        service.signal(Signal::KILL);
        let (report, _, told) = run.end();
        assert_it_ended_by_its_time(&report);
        assert_all_are_accounted_for(&report, due.unwrap_or_else(|| number(&report, "/requests/sent")));
        assert!(number(&report, "/connections/attempts_failed") >= 1.0, "{flags}: {report}");
        assert!(told.contains("attempts to connect failed"), "{flags}: {told}");
    }
}

/// The one who looks whether anybody listens takes the only place in the line; whoever comes after is not answered at all.
#[test]
fn a_loop_ends_by_its_time_though_connections_hang() {
    let listener =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&listener, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = TcpListener::from(listener.try_clone().unwrap()).local_addr().unwrap();
    let report = load(address, &format!("--close --connections 5 --rate 100 --duration 1s {LONG}"));
    assert_it_ended_by_its_time(&report);
    assert_all_are_accounted_for(&report, 100.0);
    assert_eq!(number(&report, "/errors/unsent"), 100.0, "{report}");
}

#[test]
fn a_unix_socket_whose_line_is_full_is_one_line() {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("full");
    let listener = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    listen(&listener, 0).unwrap();
    let _first = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_baiwan"));
    let output = command.args(["load", "http://localhost/", "--unix"]).arg(&path).env_clear().output().unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), line.lines().count()), (Some(1), 1), "{line}");
    assert!(line.starts_with("baiwan: nothing answers at unix:") && line.ends_with("timed out\n"), "{line}");
}

#[test]
fn a_ramp_against_a_server_that_refuses_ends_by_its_time_with_one_line() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Only the one who looks whether anybody listens is taken.
    let server = std::thread::spawn(move || drop(listener.accept()));
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::start(address, "--ramp 1s --hold 100ms --connections 20", directory.path());
    run.until("open");
    server.join().unwrap();
    let (report, code, told) = run.end();
    assert!(report["phases"][0]["seconds"].as_f64().unwrap() < 30.0, "{report}");
    assert_eq!((code, number(&report, "/errors/total")), (Some(1), 0.0), "{told}");
    let last = told.lines().last().unwrap();
    assert!(last.starts_with("baiwan: no connection was opened (connect: Connection refused"), "{told}");
}

/// Nobody is answered before all are there.
#[test]
fn connections_that_a_ramp_could_not_open_are_opened_when_the_server_is_back() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let gone = std::thread::spawn(move || drop(listener.accept()));
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::start(address, "--ramp 100ms --requests 20 --connections 20", directory.path());
    run.until("open");
    gone.join().unwrap();
    run.until("closed loop");
    let listener = TcpListener::bind(address).unwrap();
    let mut all: Vec<_> = (0..20).map(|_| listener.accept().unwrap().0).collect();
    for stream in &mut all {
        let _ = stream.read(&mut [0; 1024]);
        stream.write_all(ok("hello").unwrap().as_bytes()).unwrap();
    }
    let (report, code, told) = run.end();
    assert_eq!((code, number(&report, "/requests/answered")), (Some(0), 20.0), "{told}");
}

#[test]
fn streams_whose_server_dies_are_lost_and_their_run_ends_by_its_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        drop(listener.accept());
        let mut streams: Vec<_> = (0..4).map(|_| listener.accept().unwrap().0).collect();
        drop(listener);
        for stream in &mut streams {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: x\n\n");
        }
    });
    let report = load(address, &format!("--connections 4 --sse --duration 1s {LONG}"));
    assert_it_ended_by_its_time(&report);
    let figures = ["opened", "lost", "alive"].map(|key| number(&report["connections"], &format!("/{key}")));
    assert_eq!((figures, number(&report, "/errors/total")), ([4.0, 4.0, 0.0], 0.0), "{report}");
}

/// What was sent and not read when a socket is closed makes the kernel reset the connection.
#[test]
fn each_request_is_an_answer_or_one_error_though_connections_are_reset_in_the_middle_of_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\ncontent-le");
        }
    });
    let report = load(address, &format!("--connections 4 --pipeline 3 --requests 120 {LONG}"));
    assert_all_are_accounted_for(&report, 120.0);
    assert!(number(&report, "/errors/reset") + number(&report, "/errors/closed") >= 1.0, "{report}");
}

#[test]
fn bytes_that_nobody_asked_for_cost_a_connection_and_no_request() {
    let server = Answers::start(|_| Some(ok("hello").unwrap() + "and more"));
    let report = server.load("--connections 1 --requests 10");
    assert_all_are_accounted_for(&report, 10.0);
    let words = report["connections"]["failures"].to_string();
    assert!(words.contains("bytes that nobody has asked for"), "{report}");
}

fn measured(outputs: &[&str], stdout: Stdio, stderr: Stdio) -> Output {
    let server = Answers::start(|_| ok("hello"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_baiwan"));
    command.args(["load", &server.url(), "--requests", "20"]).args(outputs).env_clear();
    command.stdout(stdout).stderr(stderr).spawn().unwrap().wait_with_output().unwrap()
}

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

/// A pipe whose other end is closed.
fn unread() -> Stdio {
    std::io::pipe().unwrap().1.into()
}

#[test]
fn a_report_that_cannot_be_written_costs_neither_the_other_nor_the_summary() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run");
    let path = path.to_str().unwrap();
    for (json, html) in [("/dev/full", path), (path, "/dev/full")] {
        let output = measured(&["--quiet", "--json", json, "--html", html], Stdio::piped(), Stdio::piped());
        let (summary, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(summary.contains("20 answered"), "{summary}");
        assert_eq!((output.status.code(), errors.lines().count()), (Some(1), 1), "{errors}");
        assert!(errors.starts_with("baiwan: /dev/full: No space left on device"), "{errors}");
        assert!(std::fs::read_to_string(path).unwrap().contains("answered"));
    }
    let output =
        measured(&["--quiet", "--json", "/dev/full", "--html", "/dev/../dev/full"], Stdio::piped(), Stdio::piped());
    assert_eq!(output.stderr.iter().filter(|byte| **byte == b'\n').count(), 2, "a line for each");
}

#[test]
fn reports_are_written_though_standard_output_and_standard_error_take_nothing() {
    let directory = tempfile::tempdir().unwrap();
    for (index, stream) in [full, unread].into_iter().enumerate() {
        let json = directory.path().join(format!("{index}.json"));
        let written = || {
            let text = std::fs::read_to_string(&json).unwrap();
            std::fs::remove_file(&json).unwrap();
            number(&serde_json::from_str(&text).unwrap(), "/requests/answered")
        };
        let flags = ["--json", json.to_str().unwrap()];
        let output = measured(&flags, stream(), Stdio::piped());
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!((written(), output.status.code()), (20.0, Some(1)), "{told}");
        assert!(told.contains("20 answered") && told.contains("baiwan: the summary: standard output: "), "{told}");
        let output = measured(&flags, Stdio::piped(), stream());
        let told = String::from_utf8(output.stdout).unwrap();
        assert_eq!((written(), output.status.code()), (20.0, Some(0)), "{told}");
        assert!(told.contains("20 answered"), "{told}");
        assert_eq!((measured(&flags, stream(), stream()).status.code(), written()), (Some(1), 20.0));
    }
}

/// A pipe that is full and that nobody reads, as a terminal is that stands still; and its other end.
fn standing_still() -> (std::io::PipeReader, Stdio) {
    use rustix::fs::{OFlags, fcntl_setfl};
    let (reader, mut writer) = std::io::pipe().unwrap();
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    fcntl_setfl(&writer, OFlags::empty()).unwrap();
    (reader, writer.into())
}

#[test]
fn what_is_shown_meanwhile_does_not_hold_the_run_up_where_nobody_reads_it() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("run.json");
    let (_unread, stderr) = standing_still();
    let output = measured(&["--json", json.to_str().unwrap()], Stdio::piped(), stderr);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && told.contains("20 answered"), "{told}");
    assert!(std::fs::read_to_string(json).unwrap().contains("\"answered\": 20"));
}

const THREE_WORKERS: &str = "--workers 3 --connections 6 --rate 300 --duration 1s";

#[test]
fn a_worker_that_is_killed_costs_its_share_and_not_the_run() {
    let directory = tempfile::tempdir().unwrap();
    let server = Answers::start(|_| ok("hello"));
    let mut run = Run::start(server.address(), THREE_WORKERS, directory.path());
    run.until("open loop");
    kill_process(run.workers()[1], Signal::KILL).unwrap();
    let (report, code, told) = run.end();
    assert_eq!((code, number(&report, "/client/workers_died")), (Some(1), 1.0), "{told}");
    assert!(number(&report, "/requests/answered") >= 200.0, "the shares of the two others: {report}");
    assert_eq!(
        (number(&report, "/connections/alive"), report["interrupted"].as_bool()),
        (4.0, Some(false)),
        "{report}"
    );
    let line = "1 of 3 workers died (signal: 9 (SIGKILL)): their counts from then on are lost";
    assert_eq!(told.matches(line).count(), 2, "in the summary, and as the reason of the exit code: {told}");
}

#[test]
fn a_run_whose_workers_are_all_killed_is_told_as_far_as_it_came() {
    let directory = tempfile::tempdir().unwrap();
    let server = Answers::start(|_| ok("hello"));
    let mut run = Run::start(server.address(), THREE_WORKERS, directory.path());
    run.until("open loop");
    for worker in run.workers() {
        kill_process(worker, Signal::KILL).unwrap();
    }
    let (report, code, told) = run.end();
    assert_eq!((code, number(&report, "/client/workers_died")), (Some(1), 3.0), "{told}");
    assert_eq!(report["interrupted"].as_bool(), Some(true), "{report}");
    assert!(told.contains("stopped before its end"), "{told}");
}

#[test]
fn a_run_that_is_interrupted_is_told_as_far_as_it_came() {
    let directory = tempfile::tempdir().unwrap();
    let server = Answers::start(|_| ok("hello"));
    let mut run = Run::start(server.address(), "--rate 100 --duration 1h", directory.path());
    run.until("open loop");
    eventually("some were answered", || server.asked() > 20);
    kill_process(Pid::from_child(&run.child), Signal::INT).unwrap();
    let (report, code, told) = run.end();
    assert_eq!((code, report["interrupted"].as_bool()), (Some(0), Some(true)), "{told}");
    assert!(number(&report, "/requests/answered") >= 1.0 && told.contains("stopped before its end"), "{told}");
}

fn with_files(limit: u32, flags: &str) -> Output {
    let server = Answers::start(|_| ok("hello"));
    let (program, url) = (env!("CARGO_BIN_EXE_baiwan"), server.url());
    let script = format!("ulimit -n {limit}; exec {program} load {url} --connections 300 --requests 300 {flags}");
    Command::new("/bin/sh").args(["-c", &script]).env_clear().output().unwrap()
}

#[test]
fn a_limit_of_files_that_is_too_low_is_named_with_the_one_that_will_do_before_anything_begins() {
    for (limit, flags, needed) in [(64, "", 83), (200, "--workers 2", 214)] {
        let output = with_files(limit, flags);
        let line = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len(), line.lines().count()), (Some(2), 0, 1), "{line}");
        let words = format!("need ulimit -n {needed}, and it is {limit}: ");
        assert!(line.starts_with("baiwan: 300 connections from ") && line.contains(&words), "{line}");
    }
}

#[test]
fn the_limit_of_files_that_was_named_will_do() {
    let output = with_files(83, "");
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("300 of 300 opened") && told.contains("300 answered"), "{told}");
}
