//! What systemd hears of the service: the tests are its end of `NOTIFY_SOCKET`.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::running::{Running, command, eventually, with_settings};

/// A test that waits longer than this for a message has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// systemd's end.
struct Manager {
    socket: UnixDatagram,
    name: String,
}

impl Manager {
    fn in_directory(directory: &Path) -> Self {
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
    fn message(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).expect("a message comes");
        String::from_utf8(bytes[..length].to_vec()).unwrap().lines().map(ToOwned::to_owned).collect()
    }

    /// The next message with this line.
    fn message_with(&self, line: &str) -> Vec<String> {
        loop {
            let message = self.message();
            if message.iter().any(|other| other == line) {
                return message;
            }
        }
    }
}

/// The service as a unit of that manager.
fn unit(directory: &Path, manager: &str) -> Command {
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

/// What a heir says that cannot start, as its unit's manager.
#[cfg(not(baiwan_portable))]
fn statuses(manager: &Manager, failing: &mut Command) -> Vec<String> {
    let output = failing.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    UnixDatagram::unbound().unwrap().send_to(b"END=1", &manager.name).unwrap();
    let messages = std::iter::from_fn(|| Some(manager.message()).filter(|message| message != &["END=1"]));
    messages.flatten().filter(|line| line.starts_with("STATUS=")).collect()
}

#[cfg(not(baiwan_portable))]
#[test]
fn a_process_that_cannot_take_over_says_nothing_of_the_service_and_a_first_one_that_cannot_start_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let manager = Manager::in_directory(directory.path());
    let command = || {
        let mut command = unit(directory.path(), &manager.name);
        command.env("TAKEOVER", directory.path().join("takeover.sock"));
        command
    };
    // Before it asks at the door, and after.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let failing = || {
        let (mut early, mut late) = (command(), command());
        early.env("DATABASE_URL", "postgres://baiwan@localhost:1/baiwan");
        late.env("ADMIN_HOST", "127.0.0.1").env("ADMIN_PORT", &port);
        [early, late]
    };
    let first = Running::start(command());
    manager.message_with("READY=1");
    for mut heir in failing() {
        assert_eq!(statuses(&manager, &mut heir), [""; 0]);
    }
    first.signal(Signal::TERM);
    assert_eq!(first.wait().0.code(), Some(0));
    manager.message_with("STOPPING=1");
    for mut first in failing() {
        assert_eq!(statuses(&manager, &mut first).len(), 1);
    }
}

/// What the drop-in of the documents has `systemctl reload` do, as the shell gets it.
#[cfg(not(baiwan_portable))]
fn documented_reload() -> String {
    let documents = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/service.md");
    let text = std::fs::read_to_string(documents).unwrap().replace("\\\n", " ");
    let line = text.lines().find_map(|line| line.strip_prefix("ExecReload=/bin/sh -c '")?.strip_suffix('\'')).unwrap();
    // systemd makes one of two (systemd.service(5)).
    assert!(
        !line.replace("$$", "").contains('$') && !line.contains('%') && line.contains("/usr/bin/baiwan "),
        "{line}"
    );
    line.replace("$$", "$").replace("/usr/bin/baiwan", env!("CARGO_BIN_EXE_baiwan"))
}

#[cfg(not(baiwan_portable))]
#[test]
fn the_documented_reload_waits_for_the_new_process_and_fails_when_that_one_does() {
    let directory = tempfile::tempdir().unwrap();
    let manager = Manager::in_directory(directory.path());
    // In the place of systemd, which knows the main process from its notifications.
    let (main, programs) = (directory.path().join("main"), directory.path().join("bin"));
    std::fs::create_dir(&programs).unwrap();
    let script = format!("#!/bin/sh\n[ \"$*\" = 'show -P MainPID baiwan' ] && cat '{}'\n", main.display());
    std::fs::write(programs.join("systemctl"), script).unwrap();
    std::fs::set_permissions(programs.join("systemctl"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let set = |command: &mut Command| {
        command.env("NOTIFY_SOCKET", &manager.name).env("TAKEOVER", directory.path().join("takeover.sock"));
    };
    let reload = || {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(documented_reload());
        let mut shell = with_settings(shell, directory.path());
        set(&mut shell);
        shell.env("PATH", format!("{}:/usr/bin:/bin", programs.display())).stderr(Stdio::null());
        shell
    };
    let mut command = command(directory.path());
    set(&mut command);
    let first = Running::start(command);
    manager.message_with("READY=1");
    std::fs::write(&main, first.pid().as_raw_nonzero().to_string()).unwrap();

    let failed = reload().env("DATABASE_URL", "postgres://baiwan@localhost:1/baiwan").status().unwrap();
    assert_eq!(failed.code(), Some(1));
    let mut reloading = reload().spawn().unwrap();
    let message = manager.message();
    let second = message[0].strip_prefix("MAINPID=").expect("the first message is that of the main process");
    assert_eq!(first.wait().0.code(), Some(0));
    assert!(reloading.try_wait().unwrap().is_none(), "systemd does not know it yet");
    std::fs::write(&main, second).unwrap();
    assert_eq!(reloading.wait().unwrap().code(), Some(0));
    manager.message_with("READY=1");
    kill_process(Pid::from_raw(second.parse().unwrap()).unwrap(), Signal::TERM).unwrap();
    manager.message_with("STOPPING=1");
}

// Elsewhere no process takes over from another.
#[cfg(not(baiwan_portable))]
#[test]
fn a_process_that_takes_over_becomes_the_main_one_and_the_one_before_ends_without_a_word() {
    let directory = tempfile::tempdir().unwrap();
    let manager = Manager::in_directory(directory.path());
    let start = || {
        let mut command = unit(directory.path(), &manager.name);
        command.env("TAKEOVER", directory.path().join("takeover.sock"));
        Running::start(command)
    };
    let first = start();
    manager.message_with("READY=1");
    let second = start();
    let main = format!("MAINPID={}", second.pid().as_raw_nonzero());
    let (status, log) = first.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    // Both have said it by then, and the second one that it is ready.
    let mut said: Vec<Vec<String>> = (0..3).map(|_| manager.message()).collect();
    said.sort();
    assert_eq!(said[..2], [[main.clone()], [main]], "{said:?}");
    assert_eq!(said[2][0], "READY=1", "{said:?}");
    // Nobody has told it of a watchdog.
    assert_eq!(manager.message(), ["WATCHDOG=1"]);
    second.signal(Signal::TERM);
    assert_eq!(manager.message()[0], "STOPPING=1");
    assert_eq!(second.wait().0.code(), Some(0));
}
