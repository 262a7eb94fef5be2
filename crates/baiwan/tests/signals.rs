//! Real signals to real processes: what stops a server, what ends a program, and with which exit status.
//!
//! The programs are this file's own: a test starts the binary of the tests again, which then is [`a_program_of_these_tests`] alone.

// Elsewhere a signal stops a server, and ends nothing; and the portable loop has more to say at its start than is listened to here.
#![cfg(all(target_os = "linux", not(baiwan_portable)))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
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
        Self::start_by(Command::new(std::env::current_exe().unwrap()), name)
    }

    /// Starts a program by a command that ends with the binary of the tests.
    fn start_by(mut command: Command, name: &str) -> Self {
        let mut child = command
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

struct SaysWhenDropped(&'static str);

impl Drop for SaysWhenDropped {
    fn drop(&mut self) {
        say(self.0);
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

/// The programs that hold up the start or the stop.
async fn hold_up(program: &str) {
    match program {
        "does not come to its start" => {
            let factory = |core| {
                say(&format!("core {core}"));
                std::thread::park();
                Router::new()
            };
            let _never = server().workers(1).start_with(factory);
        }
        "forgets a server with a task" => {
            let ended = Arc::new(SaysWhenDropped("the task has ended"));
            let task = move || async move {
                let ended = Arc::clone(&ended);
                drop(tokio::spawn(async move {
                    std::future::pending::<()>().await;
                    drop(ended);
                }));
            };
            let _running = start_with(server().shutdown_timeout(PATIENCE * 2), Router::new().route("/", get(task)));
            std::future::pending::<()>().await;
        }
        "blocks a core" => {
            let mut signals = signal(SignalKind::terminate()).unwrap();
            tokio::spawn(async move {
                signals.recv().await;
                say("it has come");
            });
            let block = || async {
                say("blocked");
                std::thread::park();
            };
            let app = Router::new().route("/", get(block));
            start_with(server().shutdown_timeout(PATIENCE * 2), app).wait().await.unwrap();
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
        other => panic!("no such program: {other}"),
    }
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
                serve(server().shutdown_timeout(Duration::from_millis(100))).await.unwrap();
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
            "stops by itself" => {
                let running = start(server().shutdown(std::future::pending()));
                running.wait().await.unwrap();
            }
            other => hold_up(other).await,
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

/// SIGTERM and SIGINT, but for those that whoever runs the tests has them ignore, as `nohup` does: so do the programs then.
fn stop_signals() -> Vec<Signal> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0);
    let is_ignored = |signal: &Signal| ignored >> (signal.as_raw() - 1) & 1 == 1;
    [Signal::TERM, Signal::INT].into_iter().filter(|signal| !is_ignored(signal)).collect()
}

#[test]
fn a_signal_stops_each_server_and_ends_a_program_that_serves_no_more() {
    for sent in stop_signals() {
        let mut program = Program::start("serves twice, then goes on");
        let address = program.hears();
        assert!(get_hello(&address).unwrap().ends_with("hello"));
        program.signal(sent);
        assert_eq!(program.hears(), "stopped");
        let address = program.hears();
        // Longer than the first server's watchdog waits: the second server does not end by the first one's signal.
        std::thread::park_timeout(Duration::from_millis(1500));
        assert!(get_hello(&address).unwrap().ends_with("hello"));
        program.signal(sent);
        assert_eq!(program.hears(), "stopped");
        program.signal(sent);
        program.expect_death_by(sent);
    }
}

#[test]
fn a_program_with_a_loop_of_its_own_ends_by_the_signal_after_the_stop() {
    for sent in stop_signals() {
        let mut program = Program::start("serves beside a loop of its own");
        program.hears();
        program.signal(sent);
        assert_eq!(program.hears(), "stopped", "it stops in order before");
        assert!(program.hears().contains("the signal ends it"));
        program.expect_death_by(sent);
    }
}

#[test]
fn a_signal_during_the_start_ends_the_program() {
    for sent in stop_signals() {
        let mut program = Program::start("does not come to its start");
        assert_eq!(program.hears(), "core 0");
        program.signal(sent);
        program.expect_death_by(sent);
    }
}

#[test]
fn a_second_signal_ends_tasks_where_nobody_waits_for_the_server() {
    let mut program = Program::start("forgets a server with a task");
    let address = program.hears();
    get_hello(&address).unwrap();
    program.signal(Signal::TERM);
    assert!(program.hears().contains("waits for tasks"));
    program.signal(Signal::TERM);
    // Another core may be the last that says so.
    let said = [program.hears(), program.hears()];
    assert!(said.iter().any(|line| line == "the task has ended"), "{said:?}");
    assert!(said.iter().any(|line| line.contains("were ended with it")), "{said:?}");
    program.child.kill().unwrap();
    program.wait();
}

#[test]
fn after_a_second_signal_a_core_that_a_handler_blocks_is_given_up() {
    let mut program = Program::start("blocks a core");
    let address = program.hears();
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    assert_eq!(program.hears(), "blocked");
    program.signal(Signal::TERM);
    assert_eq!(program.hears(), "it has come");
    // Two signals at once may be one.
    std::thread::park_timeout(Duration::from_millis(50));
    program.signal(Signal::TERM);
    assert!(program.hears().contains("block their threads"));
    program.expect_success();
}

/// Needs a Linux that lets the tests have a PID namespace; elsewhere it says so.
#[test]
fn the_first_process_of_a_container_exits_with_the_signals_status() {
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--fork", "--pid", "--map-root-user"]);
        command
    };
    if !unshare().arg("true").status().is_ok_and(|status| status.success()) {
        eprintln!("not tested: no PID namespace can be had here");
        return;
    }
    for name in ["serves twice, then goes on", "serves beside a loop of its own", "does not come to its start"] {
        let mut command = unshare();
        command.arg(std::env::current_exe().unwrap());
        let mut program = Program::start_by(command, name);
        program.hears();
        let parent = program.child.id();
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
        let pid = Pid::from_raw(children.trim().parse().unwrap()).unwrap();
        let signal = || kill_process(pid, Signal::TERM).unwrap();
        signal();
        if name == "serves twice, then goes on" {
            assert_eq!(program.hears(), "stopped");
            program.hears();
            signal();
            assert_eq!(program.hears(), "stopped");
            signal();
        }
        assert_eq!(program.wait().code(), Some(128 + Signal::TERM.as_raw()), "{name}");
    }
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
    assert!(line.contains("were ended with it") && line.contains("tasks=3 blocking_calls=0"), "{line}");
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
