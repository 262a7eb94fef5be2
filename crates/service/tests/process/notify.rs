//! What systemd hears of the service: the tests are its end of `NOTIFY_SOCKET`.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::running::{Running, command, eventually};

/// A test that waits longer than this for a message has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// systemd's end.
pub(crate) struct Manager {
    socket: UnixDatagram,
    pub(crate) name: String,
}

impl Manager {
    pub(crate) fn in_directory(directory: &Path) -> Self {
        let path = directory.join("notify");
        Self::new(UnixDatagram::bind(&path).unwrap(), path.display().to_string())
    }

    /// With a name that is no path, made of one that no other test has.
    fn abstract_like(directory: &Path) -> Self {
        let name = format!("baiwan-test{}", directory.display());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        Self::new(UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}"))
    }

    fn new(socket: UnixDatagram, name: String) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, name }
    }

    /// The lines of the next message.
    pub(crate) fn message(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).expect("a message comes");
        String::from_utf8(bytes[..length].to_vec()).unwrap().lines().map(ToOwned::to_owned).collect()
    }

    /// The next message with this line.
    pub(crate) fn message_with(&self, line: &str) -> Vec<String> {
        loop {
            let message = self.message();
            if message.iter().any(|other| other == line) {
                return message;
            }
        }
    }
}

/// The service as a unit of that manager.
pub(crate) fn unit(directory: &Path, manager: &str) -> Command {
    let mut command = command(directory);
    command.env("NOTIFY_SOCKET", manager);
    command
}

#[test]
fn systemd_hears_that_the_service_is_ready_and_that_it_stops() {
    for make in [Manager::in_directory, Manager::abstract_like] {
        let directory = tempfile::tempdir().unwrap();
        let manager = make(directory.path());
        let mut command = unit(directory.path(), &manager.name);
        command.env("SHUTDOWN_TIMEOUT", "2h");
        let service = Running::start(command);
        let said = manager.message();
        assert_eq!(said[0], "READY=1");
        assert!(said[1].starts_with("STATUS=serving at most "), "{said:?}");
        assert!(said[1].ends_with(&format!(" connections on http://{}; admin side: off", service.address)), "{said:?}");
        assert_eq!(service.connect().ask("GET", "/health/ready", "").unwrap().status, 200);
        service.signal(Signal::TERM);
        // Two hours, and what closing the store may take.
        assert_eq!(manager.message(), ["STOPPING=1", "STATUS=stopping", "EXTEND_TIMEOUT_USEC=7215000000"]);
        let (status, log) = service.wait();
        assert_eq!(status.code(), Some(0), "{log}");
    }
}

#[test]
fn systemd_hears_when_the_settings_are_read_anew_and_when_that_is_over_whatever_came_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let manager = Manager::in_directory(directory.path());
    let file = directory.path().join("baiwan.toml");
    std::fs::write(&file, "").unwrap();
    let mut command = unit(directory.path(), &manager.name);
    command.env("CONFIG_FILE", &file);
    let service = Running::start(command);
    let started = manager.message();
    for (text, outcome) in [("server_header = 'ours'", "in force"), ("rate_limit = 'fast'", "refused")] {
        std::fs::write(&file, text).unwrap();
        service.signal(Signal::HUP);
        let said = manager.message();
        assert_eq!((said.len(), said[0].as_str()), (2, "RELOADING=1"), "{outcome}: both in one message");
        assert!(said[1].starts_with("MONOTONIC_USEC="), "{said:?}");
        assert_eq!(manager.message(), started, "{outcome}");
        eventually(outcome, || service.log().contains(outcome));
    }
}

#[test]
fn the_watchdog_is_fed_whichever_process_systemd_has_started() {
    let directory = tempfile::tempdir().unwrap();
    let manager = Manager::in_directory(directory.path());
    let mut command = unit(directory.path(), &manager.name);
    command.env("WATCHDOG_USEC", "20000").env("WATCHDOG_PID", "1");
    let service = Running::start(command);
    manager.message_with("READY=1");
    for _ in 0..10 {
        assert_eq!(manager.message_with("WATCHDOG=1").len(), 1);
    }
    service.signal(Signal::TERM);
    manager.message_with("STOPPING=1");
    assert_eq!(service.wait().0.code(), Some(0));
}

#[test]
fn a_start_that_takes_long_is_given_more_time() {
    let directory = tempfile::tempdir().unwrap();
    let manager = Manager::in_directory(directory.path());
    // Its queue takes the connection, and nobody answers.
    let database = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://user:password@{}/db", database.local_addr().unwrap());
    let mut command = unit(directory.path(), &manager.name);
    let mut service = command.env("DATABASE_URL", url).env("WATCHDOG_USEC", "20000").spawn().unwrap();
    let said = [manager.message(), manager.message()];
    service.kill().unwrap();
    service.wait().unwrap();
    assert_eq!(said, [["EXTEND_TIMEOUT_USEC=30000000"], ["EXTEND_TIMEOUT_USEC=30000000"]]);
}

#[test]
fn systemd_shows_why_a_start_failed() {
    let directory = tempfile::tempdir().unwrap();
    let manager = Manager::in_directory(directory.path());
    let occupied = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = occupied.local_addr().unwrap().port().to_string();
    let output = unit(directory.path(), &manager.name).env("PORT", &port).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = manager.message();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("STATUS=") && said[0].contains(&port), "{said:?}");
}

#[test]
fn a_manager_that_is_not_there_is_one_line_and_harms_nothing() {
    for (name, words) in [("/nowhere/notify", "systemd could not be told"), ("vsock:2:1234", "systemd is told nothing")]
    {
        let directory = tempfile::tempdir().unwrap();
        let mut command = unit(directory.path(), name);
        command.env("WATCHDOG_USEC", "2000");
        let service = Running::start(command);
        assert_eq!(service.connect().ask("GET", "/health/ready", "").unwrap().status, 200);
        let before: Vec<_> = service.said_before.iter().map(ToString::to_string).collect();
        service.signal(Signal::TERM);
        let (status, log) = service.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        let said = before.iter().map(String::as_str).chain(log.lines()).filter(|line| line.contains(words)).count();
        assert_eq!(said, 1, "{before:?} {log}");
    }
}

#[test]
fn a_manager_that_reads_nothing_stops_neither_the_server_nor_its_stop() {
    let directory = tempfile::tempdir().unwrap();
    let manager = Manager::in_directory(directory.path());
    let full = UnixDatagram::unbound().unwrap();
    full.set_nonblocking(true).unwrap();
    while full.send_to(b"X=1", directory.path().join("notify")).is_ok() {}
    let mut command = unit(directory.path(), &manager.name);
    command.env("WATCHDOG_USEC", "20000");
    let service = Running::start(command);
    assert_eq!(service.connect().ask("GET", "/health/ready", "").unwrap().status, 200);
    service.signal(Signal::TERM);
    let (status, log) = service.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}
