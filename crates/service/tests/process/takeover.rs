//! A process that takes over from another one, as an operator starts it.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;

use rustix::process::Signal;
use serde_json::json;

use crate::running::{Client, Running, command, eventually};

fn with_takeover(directory: &Path) -> Command {
    let mut command = command(directory);
    command.env("TAKEOVER", directory.join("takeover.sock")).env("SHUTDOWN_IDLE", "100ms");
    command
}

/// Clients that ask all the time, each on its own thread; they stop at the end of the test, or when one of them fails.
struct Crowd {
    ends: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<()>>,
}

impl Crowd {
    const CLIENTS: usize = 4;

    /// Half of them ask on connections that are kept, half connect for each request. All create users.
    fn begin(address: SocketAddr) -> Self {
        let (ends, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let client = |number: usize| {
            let (ends, answers) = (Arc::clone(&ends), Arc::clone(&answers));
            std::thread::spawn(move || {
                let keeps = number.is_multiple_of(2);
                let mut connection = None;
                let mut created = 0;
                while !ends.load(SeqCst) {
                    let mut client = connection.take().unwrap_or_else(|| Client::connect(address).unwrap());
                    let user = json!({"name": format!("user {number}.{created}")}).to_string();
                    let Ok(answer) = client.ask("POST", "/api/users", &user) else {
                        // A connection that was idle for a moment may be closed while the request is on its way.
                        assert!(keeps, "one that connects for each request is answered");
                        continue;
                    };
                    // One that was asked again may have been stored the first time.
                    assert!(answer.status == 201 || keeps && answer.status == 409, "{answer:?}");
                    created += 1;
                    answers.fetch_add(1, SeqCst);
                    connection = Some(client).filter(|_| keeps && !answer.head.contains("connection: close"));
                }
            })
        };
        let clients = (0..Self::CLIENTS).map(client).collect();
        Self { ends, answers, clients }
    }

    /// Waits until they have been answered some more.
    fn goes_on(&self) {
        let before = self.answers.load(SeqCst);
        eventually("clients are answered", || {
            assert!(!self.clients.iter().any(JoinHandle::is_finished), "a client has failed");
            self.answers.load(SeqCst) >= before + 40
        });
    }

    /// Ends them; returns how often they were answered.
    fn end(self) -> usize {
        self.ends.store(true, SeqCst);
        self.clients.into_iter().for_each(|client| client.join().unwrap());
        self.answers.load(SeqCst)
    }
}

/// Takes over a few times under load, with what each start sets, and looks at how each process ended.
fn take_over_with(set: impl Fn(&mut Command, usize)) {
    let directory = tempfile::tempdir().unwrap();
    let start = |number: usize| {
        let mut command = with_takeover(directory.path());
        set(&mut command, number);
        Running::start(command)
    };
    let mut service = start(0);
    let crowd = Crowd::begin(service.address);
    crowd.goes_on();
    for number in 1..=4 {
        let next = start(number);
        assert_eq!(next.address, service.address);
        let (pid, of_next) = (service.pid().as_raw_nonzero().get(), next.pid().as_raw_nonzero().get());
        let said =
            |line: &serde_json::Value, text: &str| line["message"].as_str().is_some_and(|said| said.starts_with(text));
        let taken = next.said_before.iter().find(|line| said(line, "has taken over")).unwrap();
        assert_eq!(taken["pid"], pid, "{taken}");
        assert_eq!(service.line("another process has taken over")["pid"], of_next);
        let (status, log) = std::mem::replace(&mut service, next).wait();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.lines().last().unwrap().contains("stopped") && !log.contains("ERROR"), "{log}");
        crowd.goes_on();
    }
    let answers = crowd.end();
    let created = service.connect().ask("GET", "/api/users?limit=1", "").unwrap();
    assert_eq!(created.status, 200);
    service.signal(Signal::TERM);
    let (status, log) = service.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    let database = rusqlite::Connection::open(directory.path().join("baiwan.db")).unwrap();
    let stored: i64 = database.query_row("SELECT count(*) FROM users", [], |row| row.get(0)).unwrap();
    assert!(stored as usize >= answers, "{stored} users are stored of {answers} that were acknowledged");
}

#[test]
fn one_process_after_the_other_takes_over_and_clients_notice_nothing() {
    take_over_with(|_, _| {});
}

#[test]
fn the_portable_event_loop_hands_over_as_well() {
    take_over_with(|command, _| {
        command.env("EVENT_LOOP", "portable");
    });
}

#[test]
fn cores_may_have_tables_of_their_own_and_their_number_may_change() {
    take_over_with(|command, number| {
        let tables = if number == 2 { "shared" } else { "per-core" };
        command.env("FD_TABLES", tables).env("WORKERS", ["2", "3", "1", "4", "2"][number]);
    });
}

#[test]
fn a_process_that_cannot_start_says_why_and_the_one_that_serves_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let service = Running::start(with_takeover(directory.path()));
    let crowd = Crowd::begin(service.address);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for _ in 0..3 {
        let mut command = with_takeover(directory.path());
        command.env("ADMIN_HOST", "127.0.0.1").env("ADMIN_PORT", &port);
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("the admin side cannot listen on"), "{text}");
        service.line("the other process does not take over: this one serves on");
        crowd.goes_on();
    }
    // Not even one that is killed in the middle of its start.
    let mut killed = with_takeover(directory.path()).spawn().unwrap();
    let mut said = String::new();
    let mut stderr = killed.stderr.take().unwrap();
    while !said.contains("starts with the listening sockets") {
        let mut buffer = [0; 64];
        let taken = stderr.read(&mut buffer).unwrap();
        assert!(taken > 0, "{said}");
        said += std::str::from_utf8(&buffer[..taken]).unwrap();
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    crowd.goes_on();
    crowd.end();
}

#[test]
fn the_admin_side_goes_to_the_process_that_serves() {
    let directory = tempfile::tempdir().unwrap();
    let start = || {
        let mut command = with_takeover(directory.path());
        command.env("ADMIN_HOST", "127.0.0.1").env("ADMIN_PORT", "0");
        Running::start(command)
    };
    let first = start();
    let admin: SocketAddr = first.ready["admin"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
    let second = start();
    assert_eq!(second.ready["admin"], first.ready["admin"]);
    let (status, log) = first.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(Client::connect(admin).unwrap().ask("GET", "/health/ready", "").unwrap().status, 200);
    drop(second);
    assert!(TcpStream::connect(admin).is_err());
}

#[test]
fn an_admin_side_that_is_not_wanted_any_more_is_left_in_no_core() {
    let directory = tempfile::tempdir().unwrap();
    let start = |admin_host: &str| {
        let mut command = with_takeover(directory.path());
        command.env("FD_TABLES", "per-core").env("ADMIN_HOST", admin_host).env("ADMIN_PORT", "0");
        Running::start(command)
    };
    let first = start("127.0.0.1");
    let admin: SocketAddr = first.ready["admin"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
    let second = start("off");
    assert_eq!(second.address, first.address);
    let (status, log) = first.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    let refused = TcpStream::connect(admin).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{refused}");
    drop(second);
}
