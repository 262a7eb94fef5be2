//! Real signals to real processes: what stops a server, what ends a program, and with which exit status.
//!
//! The programs are this file's own: a test starts the binary of the tests again, which then is [`a_program_of_these_tests`] alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use baiwan::{Builder, Error, Running, Server};
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Which program the process is.
const PROGRAM: &str = "BAIWAN_TEST_PROGRAM";
/// What a program says begins with this; the rest is the test harness's.
const MARK: &str = "said: ";
/// Nothing that works takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program that a test has started.
struct Program {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Program {
    fn start(name: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_program_of_these_tests", "--nocapture"])
            .env(PROGRAM, name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, stdin, stdout }
    }

    /// The next thing that it says.
    fn hears(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert!(self.stdout.read_line(&mut line).unwrap() > 0, "it has ended without a word");
            if let Some((_, said)) = line.trim_end().split_once(MARK) {
                return said.to_owned();
            }
        }
    }

    fn tell(&mut self) {
        self.stdin.write_all(b"\n").unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn wait(mut self) -> ExitStatus {
        for _ in 0..PATIENCE.as_millis() {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        self.child.kill().unwrap();
        panic!("it did not end");
    }

    fn expect_death_by(self, signal: Signal) {
        let status = self.wait();
        assert_eq!(status.signal(), Some(signal.as_raw()), "{status}");
    }

    fn expect_success(self) {
        let status = self.wait();
        assert!(status.success(), "{status}");
    }
}

#[expect(clippy::print_stdout, reason = "the test reads it")]
fn say(what: &str) {
    println!("{MARK}{what}");
}

/// Says what the server logs.
struct Log;

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        if event.metadata().target().starts_with("baiwan") {
            let mut line = Line::default();
            event.record(&mut line);
            say(&line.0);
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The fields of an event, one after the other.
#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!("{}={value:?} ", field.name());
    }
}

/// Waits for the test.
fn listen() {
    std::io::stdin().read_exact(&mut [0]).unwrap();
}

fn server() -> Builder {
    Server::builder().bind("127.0.0.1:0").workers(2)
}

fn start(builder: Builder) -> Running {
    start_with(builder, Router::new().route("/", get(|| async { "hello" })))
}

fn start_with(builder: Builder, app: Router) -> Running {
    let running = builder.start(app).unwrap();
    say(&running.addresses()[0]);
    running
}

async fn serve(builder: Builder) -> Result<(), Error> {
    let outcome = start(builder).wait().await;
    say("stopped");
    outcome
}

/// In a process that a test has started, one of its programs; otherwise nothing.
#[test]
fn a_program_of_these_tests() {
    let Ok(program) = std::env::var(PROGRAM) else { return };
    tracing::subscriber::set_global_default(Log).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        match &*program {
            "serves twice, then goes on" => {
                serve(server()).await.unwrap();
                serve(server()).await.unwrap();
                std::future::pending::<()>().await;
            }
            "serves beside a loop of its own" => {
                tokio::spawn(serve(server().shutdown_timeout(Duration::from_secs(2))));
                std::future::pending::<()>().await;
            }
            "starts a server and forgets it" => {
                let _running = start(server().shutdown_timeout(Duration::from_secs(2)));
                std::future::pending::<()>().await;
            }
            "waits late" => {
                let running = start(server());
                listen();
                running.wait().await.unwrap();
            }
            "handles signals itself" => {
                let mut signals = signal(SignalKind::terminate()).unwrap();
                serve(server().shutdown_timeout(Duration::from_millis(100))).await.unwrap();
                for _ in 0..2 {
                    signals.recv().await.unwrap();
                    say("mine");
                }
                // Longer than a watchdog would wait.
                tokio::time::sleep(Duration::from_millis(1500)).await;
            }
            "leaves a task behind" => {
                let builder = server().shutdown_timeout(Duration::from_millis(1500));
                let app = Router::new().route("/", get(|| async { drop(tokio::spawn(std::future::pending::<()>())) }));
                start_with(builder, app).wait().await.unwrap();
            }
            "leaves a blocking call behind" => {
                let call = || drop(tokio::task::spawn_blocking(std::thread::park));
                let app = Router::new().route("/", get(move || async move { call() }));
                start_with(server().shutdown_timeout(PATIENCE * 2), app).wait().await.unwrap();
            }
            "stops by itself" => {
                let running = start(server().shutdown(std::future::pending()));
                running.wait().await.unwrap();
            }
            other => panic!("no such program: {other}"),
        }
    });
}

fn get_hello(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_signal_stops_each_server_and_ends_a_program_that_serves_no_more() {
    for sent in [Signal::TERM, Signal::INT] {
        let mut program = Program::start("serves twice, then goes on");
        for _ in 0..2 {
            let address = program.hears();
            assert!(get_hello(&address).unwrap().ends_with("hello"));
            program.signal(sent);
            assert_eq!(program.hears(), "stopped");
        }
        program.signal(sent);
        program.expect_death_by(sent);
    }
}

#[test]
fn a_program_with_a_loop_of_its_own_ends_by_the_signal_after_the_stop() {
    let mut program = Program::start("serves beside a loop of its own");
    program.hears();
    program.signal(Signal::INT);
    assert_eq!(program.hears(), "stopped", "it stops in order before");
    assert!(program.hears().contains("the signal ends it"));
    program.expect_death_by(Signal::INT);
}

#[test]
fn a_server_that_nobody_waits_for_stops_and_its_program_ends() {
    let mut program = Program::start("starts a server and forgets it");
    let address = program.hears();
    program.signal(Signal::TERM);
    for _ in 0..PATIENCE.as_millis() {
        if TcpStream::connect(&address).is_err() {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    assert!(program.child.try_wait().unwrap().is_none(), "it has the time of the stop");
    program.expect_death_by(Signal::TERM);
}

#[test]
fn a_signal_between_the_start_and_the_wait_stops_the_server_in_order() {
    let mut program = Program::start("waits late");
    program.hears();
    program.signal(Signal::TERM);
    program.tell();
    program.expect_success();
}

#[test]
fn a_program_that_handles_signals_itself_goes_on() {
    let mut program = Program::start("handles signals itself");
    program.hears();
    program.signal(Signal::TERM);
    assert_eq!([program.hears(), program.hears()], ["stopped", "mine"]);
    program.signal(Signal::TERM);
    assert_eq!(program.hears(), "mine");
    program.expect_success();
}

#[test]
fn a_server_that_stops_by_itself_leaves_signals_alone() {
    let mut program = Program::start("stops by itself");
    let address = program.hears();
    assert!(get_hello(&address).unwrap().ends_with("hello"));
    program.signal(Signal::TERM);
    program.expect_death_by(Signal::TERM);
}

#[test]
fn what_is_waited_for_and_what_is_given_up_is_said() {
    let mut program = Program::start("leaves a task behind");
    let address = program.hears();
    for _ in 0..3 {
        get_hello(&address).unwrap();
    }
    program.signal(Signal::TERM);
    let line = program.hears();
    assert!(line.contains("waits for tasks") && line.contains("tasks=3"), "{line}");
    let line = program.hears();
    assert!(line.contains("were ended with it") && line.contains("tasks=3"), "{line}");
    program.expect_success();
}

#[test]
fn a_second_signal_gives_blocking_calls_up() {
    let mut program = Program::start("leaves a blocking call behind");
    let address = program.hears();
    get_hello(&address).unwrap();
    program.signal(Signal::TERM);
    // The call alone is waited for then.
    while TcpStream::connect(&address).is_ok() {
        std::thread::park_timeout(Duration::from_millis(1));
    }
    std::thread::park_timeout(Duration::from_millis(50));
    assert!(program.child.try_wait().unwrap().is_none());
    program.signal(Signal::TERM);
    program.expect_success();
}
