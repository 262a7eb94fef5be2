//! Which process systemd takes for the service's main one when one takes over from another, and whose state it shows.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::notify::{Manager, unit};
use crate::running::{Running, command, with_settings};

/// What a heir says that cannot start, as its unit's manager.
fn statuses(manager: &Manager, failing: &mut Command) -> Vec<String> {
    let output = failing.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    UnixDatagram::unbound().unwrap().send_to(b"END=1", &manager.name).unwrap();
    let messages = std::iter::from_fn(|| Some(manager.message()).filter(|message| message != &["END=1"]));
    messages.flatten().filter(|line| line.starts_with("STATUS=")).collect()
}

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
