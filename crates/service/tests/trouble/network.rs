//! A start without a network: with the embedded database nothing of it is needed; without its PostgreSQL the service says so.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::process::Command;

use rustix::process::{Pid, Signal};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::alone;
use crate::running::{Client, Running, command, with_settings};

/// What a password looks like that must not be shown.
const SECRET: &str = "tr0ub4dor";

/// A connection within the network of a process.
fn connect_within(process: Pid, port: u16) -> Client {
    let network = File::open(format!("/proc/{}/ns/net", process.as_raw_nonzero())).unwrap();
    let connect = move || {
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        Client::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap()
    };
    // The thread has moved for good; what it has connected stays connected.
    std::thread::spawn(connect).join().unwrap()
}

#[test]
#[cfg_attr(not(has_namespaces), ignore = "unshare(1) may not make namespaces here; root may")]
fn row_109_it_starts_without_a_network_or_devices_and_answers_once_there_is_one() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    // No interface is up, no name can be resolved, and there is no file to read random bytes from.
    let alone_in_the_world = r#"mount -t tmpfs tmpfs /dev && mount -t tmpfs tmpfs /etc && exec "$0" serve"#;
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount", "sh", "-c", alone_in_the_world, env!("CARGO_BIN_EXE_baiwan")]);
    let mut command = with_settings(unshare, directory.path());
    command.env("HOST", "0.0.0.0");
    let service = Running::start(command);
    let process = service.pid().as_raw_nonzero().to_string();
    let up = ["--target", &*process, "--net", "ip", "link", "set", "lo", "up"];
    assert!(Command::new("nsenter").args(up).status().unwrap().success());
    let mut client = connect_within(service.pid(), service.address.port());
    assert_eq!(client.ask("GET", "/health", "").unwrap().json()["status"], "healthy");
    let created = client.ask("POST", "/api/users", r#"{"name":"Ada"}"#).unwrap();
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(client.ask("GET", "/api/users/1", "").unwrap().json(), created.json());
    drop(client);
    service.signal(Signal::TERM);
    let (status, log) = service.wait();
    assert!(status.success(), "{log}");
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

/// Starts the service, which must end with exit code 1 and one line; the line.
fn refused_to_start(mut command: Command, url: &str) -> String {
    let output = command.env("DATABASE_URL", url).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1), "{text}");
    assert!(text.contains("DATABASE_URL"), "{text}");
    assert!(!text.contains(SECRET), "{text}");
    text
}

#[test]
fn row_109_without_its_postgresql_it_says_so_in_one_line_without_the_password() {
    let directory = tempfile::tempdir().unwrap();
    // A port that was free a moment ago; nobody listens there.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let url = format!("postgres://ada:{SECRET}@127.0.0.1:{port}/users");
    let text = refused_to_start(command(directory.path()), &url);
    assert!(text.contains("127.0.0.1"), "{text}");
}

#[test]
fn row_109_a_database_that_accepts_connections_and_says_nothing_is_not_waited_for_without_end() {
    let directory = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("postgres://ada:{SECRET}@127.0.0.1:{}/users", silent.local_addr().unwrap().port());
    refused_to_start(command(directory.path()), &url);
}

#[test]
#[cfg_attr(not(has_namespaces), ignore = "unshare(1) may not make namespaces here; root may")]
fn row_109_without_a_network_the_name_of_its_postgresql_is_not_found_and_it_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", env!("CARGO_BIN_EXE_baiwan"), "serve"]);
    let url = format!("postgres://ada:{SECRET}@database.test/users");
    refused_to_start(with_settings(unshare, directory.path()), &url);
}
