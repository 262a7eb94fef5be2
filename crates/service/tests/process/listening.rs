//! Where the service listens: lists of addresses, Unix sockets, who may connect to them, and who is the client then.

use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::running::{Client, Running, command};

/// The service that listens on these addresses.
fn bound_to(directory: &Path, addresses: &str) -> Command {
    let mut command = command(directory);
    command.env_remove("HOST").env_remove("PORT").env("BIND", addresses);
    command
}

/// The status of the answer to a request with these fields over a Unix socket.
fn ask(mut stream: UnixStream, fields: &str) -> String {
    let request = format!("GET /api/users HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.split(' ').nth(1).unwrap().to_owned()
}

fn refused(mut command: Command) -> String {
    let output = command.env("LOG_FORMAT", "text").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1), "{text}");
    text
}

#[test]
fn a_list_of_addresses_is_served_all_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("http.sock");
    for (event_loop, tables) in [("auto", "shared"), ("auto", "per-core"), ("portable", "shared")] {
        let name = format!("baiwan-{event_loop}-{tables}-{}", std::process::id());
        let addresses = format!("127.0.0.1:0, [::1]:0,unix:{},unix:@{name}", path.display());
        let mut command = bound_to(directory.path(), &addresses);
        command.env("EVENT_LOOP", event_loop).env("FD_TABLES", tables).env("WORKERS", "2").env("BIND_MODE", "0660");
        let service = Running::start(command);
        let said: Vec<_> = service.ready["addresses"].as_str().unwrap().split(' ').map(ToOwned::to_owned).collect();
        assert_eq!(said[2..], [format!("unix:{}", path.display()), format!("unix:@{name}")]);
        for address in &said[..2] {
            let address = address.strip_prefix("http://").unwrap().parse().unwrap();
            assert_eq!(Client::connect(address).unwrap().ask("GET", "/health/live", "").unwrap().status, 200);
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!(ask(UnixStream::connect(&path).unwrap(), ""), "200");
        let name = SocketAddr::from_abstract_name(&name).unwrap();
        assert_eq!(ask(UnixStream::connect_addr(&name).unwrap(), ""), "200");
        service.signal(Signal::TERM);
        let (status, log) = service.wait();
        assert!(status.success(), "{log}");
        assert!(!path.exists(), "the file is gone");
    }
}

#[test]
fn the_socket_of_a_process_that_was_killed_is_replaced_and_one_that_lives_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("http.sock");
    let start = || bound_to(directory.path(), &format!("127.0.0.1:0,unix:{}", path.display()));
    let first = Running::start(start());
    let said = refused(start());
    assert!(said.contains("another program listens there"), "{said}");
    first.signal(Signal::KILL);
    first.wait();
    assert!(path.exists(), "nobody was left to remove it");
    let second = Running::start(start());
    assert_eq!(ask(UnixStream::connect(&path).unwrap(), ""), "200");
    // Somebody else takes the path from it, and keeps it.
    std::fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    second.signal(Signal::TERM);
    assert!(second.wait().0.success());
    drop((UnixStream::connect(&path).unwrap(), other));
}

#[test]
fn whom_nobody_can_connect_to_is_said_before_the_start_and_at_it() {
    let directory = tempfile::tempdir().unwrap();
    let unix = |path: &str| format!("unix:{}/{path}", directory.path().display());
    std::fs::write(directory.path().join("file"), "precious").unwrap();
    let owner = [("BIND_OWNER", "no-such-user")];
    for (addresses, variables, expected) in [
        (unix("nowhere/http.sock"), &[][..], "the folder for the socket does not exist: make "),
        (unix("file"), &[], "/file is a file, and no socket"),
        (unix("http.sock"), &owner, "BIND_OWNER is \"no-such-user\"; allowed is a user that this machine knows"),
        ("127.0.0.1:41,127.0.0.1:41".to_owned(), &[], "127.0.0.1:41 is given twice: leave one out"),
        ("[::]:41,127.0.0.1:41".to_owned(), &[], "[::]:41 serves IPv4 too: leave 127.0.0.1:41 out"),
    ] {
        let mut serve = bound_to(directory.path(), &addresses);
        let said = refused(std::mem::replace(serve.envs(variables.iter().copied()), Command::new("true")));
        let mut check = bound_to(directory.path(), &addresses);
        check.args(["check-config", "--here"]).envs(variables.iter().copied());
        let checked = String::from_utf8(check.output().unwrap().stderr).unwrap();
        // Not everybody may listen on that port.
        if !addresses.contains(":41") || !said.contains("CAP_NET_BIND_SERVICE") {
            assert!(said.contains(expected), "{said}");
            assert_eq!(checked, said);
        }
    }
    let mut check = bound_to(directory.path(), &unix("http.sock"));
    assert!(check.args(["check-config", "--here"]).status().unwrap().success());
    assert!(!directory.path().join("http.sock").exists(), "nothing is left behind");
}

#[test]
fn over_a_unix_socket_the_client_is_whom_a_trusted_proxy_names() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("http.sock");
    let from = |client: &str| ask(UnixStream::connect(&path).unwrap(), &format!("x-forwarded-for: {client}\r\n"));
    for event_loop in ["auto", "portable"] {
        let start = |proxies: &str| {
            let mut command = bound_to(directory.path(), &format!("127.0.0.1:0,unix:{}", path.display()));
            command.env("EVENT_LOOP", event_loop).env("RATE_LIMIT", "1/min").env("TRUSTED_PROXIES", proxies);
            Running::start(command)
        };
        let service = start("unix");
        assert_eq!([from("192.0.2.1"), from("192.0.2.2"), from("192.0.2.1")], ["200", "200", "429"], "{event_loop}");
        drop(service);
        // Nobody is known without that, so nobody is limited, and the log says whose field was not believed.
        let service = start("off");
        assert_eq!([from("192.0.2.1"), from("192.0.2.1")], ["200", "200"], "{event_loop}");
        let warned = service.line("a peer that is not trusted sends");
        assert!(warned.to_string().contains("TRUSTED_PROXIES=unix"), "{warned}");
    }
}
