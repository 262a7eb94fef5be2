//! Sockets from a service manager (sd_listen_fds(3)). A shell is the manager: it gives its own input and output away as the descriptors
//! 3 and 4, and becomes the service.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::running::{Running, command, eventually, with_settings};

/// A table for each core, where the system has that.
#[cfg(not(baiwan_portable))]
const TABLES: (&str, &str) = ("FD_TABLES", "per-core");
#[cfg(baiwan_portable)]
const TABLES: (&str, &str) = ("FD_TABLES", "shared");

/// Longer than the service takes to start, on any machine.
const PATIENCE: Duration = Duration::from_secs(60);
const REQUEST: &[u8] = b"GET /health/live HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
/// Clients that ask one after the other, all the while.
const CLIENTS: usize = 16;
/// Between two of a client's connections: what is closed blocks a port for a minute, and there are 28,000.
const PAUSE: Duration = Duration::from_millis(5);

/// The service with copies of these sockets, and their names.
fn activated(directory: &Path, sockets: &[&dyn AsFd], names: &str) -> Command {
    let copy = |socket: &dyn AsFd| -> Stdio { socket.as_fd().try_clone_to_owned().unwrap().into() };
    let mut shell = Command::new("/bin/sh");
    let given = match sockets {
        [_] => "exec 3<&0",
        _ => "exec 3<&0 4<&1",
    };
    let script = format!(r#"{given} 0</dev/null 1>/dev/null; export LISTEN_PID=$$; exec "$0" serve"#);
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_baiwan")]);
    let mut command = with_settings(shell, directory);
    command.env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", names);
    command.stdin(copy(sockets[0])).stdout(sockets.get(1).map_or(Stdio::null(), |socket| copy(*socket)));
    command
}

/// What is answered on a new connection, which waits until somebody accepts it.
fn answer(mut stream: impl Read + Write) -> String {
    stream.write_all(REQUEST).unwrap();
    rest(stream)
}

/// What comes until the end of the connection.
fn rest(mut stream: impl Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn is_live(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200 ")
}

#[test]
fn its_sockets_are_served_instead_of_the_settings() {
    let directory = tempfile::tempdir().unwrap();
    for settings in [[("EVENT_LOOP", "auto")], [("EVENT_LOOP", "portable")], [TABLES]] {
        let server = TcpListener::bind("[::1]:0").unwrap();
        let admin = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut command = activated(directory.path(), &[&server, &admin], "baiwan.socket:admin");
        // In their place it could not listen.
        command.env("HOST", "192.0.2.1").env("ADMIN_HOST", "192.0.2.1").env("WORKERS", "3").envs(settings);
        let service = Running::start(command);
        assert_eq!(service.ready["addresses"], format!("http://{}", server.local_addr().unwrap()), "{settings:?}");
        let sockets = service.ready["sockets"].as_str().unwrap();
        assert!(sockets.contains("HOST, PORT and BIND are not used"), "{sockets}");
        assert!(sockets.contains("ADMIN_HOST and ADMIN_PORT are not used"), "{sockets}");
        assert_eq!(service.ready["admin"], format!("http://{}", admin.local_addr().unwrap()));
        for listener in [&server, &admin] {
            assert!(is_live(&answer(connect(listener.local_addr().unwrap()))), "{settings:?}");
        }
        service.signal(Signal::TERM);
        let (status, log) = service.wait();
        assert!(status.success(), "{log}");
    }
}

#[test]
fn a_unix_socket_outlives_the_service_and_the_other_settings_stay() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let (unix, tcp) = (UnixListener::bind(&path).unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    for settings in [[("FD_TABLES", "shared")], [TABLES]] {
        let mut command = activated(directory.path(), &[&tcp, &unix], "http:http");
        command.envs(settings).env("WORKERS", "2");
        let service = Running::start(command);
        assert!(service.ready["addresses"].as_str().unwrap().ends_with(&format!(" unix:{}", path.display())));
        assert!(is_live(&answer(UnixStream::connect(&path).unwrap())));
        service.signal(Signal::TERM);
        assert!(service.wait().0.success());
        UnixStream::connect(&path).expect("the socket is still there, and its file");
    }
    // The admin side alone.
    let admin = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = activated(directory.path(), &[&admin], "admin");
    command.env("ADMIN_HOST", "127.0.0.1");
    let service = Running::start(command);
    assert_ne!(service.address, admin.local_addr().unwrap());
    assert!(is_live(&answer(connect(service.address))) && is_live(&answer(connect(admin.local_addr().unwrap()))));
    assert!(service.ready["sockets"].as_str().unwrap().starts_with("the admin side's socket is"));
}

#[test]
fn what_cannot_be_served_is_named_and_keeps_it_from_starting() {
    let directory = tempfile::tempdir().unwrap();
    let said = |socket: &dyn AsFd, name: &str, variables: &[(&str, &str)]| {
        let mut command = activated(directory.path(), &[socket], name);
        let output = command.envs(variables.iter().copied()).env("LOG_FORMAT", "text").output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1), "{text}");
        text
    };
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let unix = UnixListener::bind(directory.path().join("unix")).unwrap();
    let connection = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    let file: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    for (socket, what) in [
        (&udp as &dyn AsFd, "it is a datagram socket, and HTTP needs a stream (ListenStream=)"),
        (&connection, "it is a connection, and no socket that listens (Accept=no)"),
        (&file, "it is no socket"),
    ] {
        let text = said(socket, "one", &[]);
        let expected = format!("baiwan: the service manager's socket one (descriptor 3) cannot be served: {what}\n");
        assert_eq!(text, expected);
    }
    let admin_on = ("ADMIN_HOST", "127.0.0.1");
    assert!(said(&tcp, "admin", &[]).contains("ADMIN_HOST is off"));
    assert!(said(&unix, "admin", &[admin_on]).contains("it is a Unix socket, and the admin side needs one over TCP"));
    assert!(said(&tcp, "one:two", &[]).contains("(LISTEN_FDS) cannot be taken: invalid LISTEN_FDNAMES"));
    assert!(said(&tcp, "one", &[("LISTEN_FDS", "many")]).contains("cannot be taken: invalid LISTEN_FDS"));
    assert!(said(&tcp, "one", &[("LISTEN_FDS", "70000")]).contains("cannot be taken: Bad file descriptor"));
}

#[test]
fn sockets_for_another_process_are_not_taken_and_that_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path());
    command.env("LISTEN_PID", "1").env("LISTEN_FDS", "1");
    let service = Running::start(command);
    assert!(is_live(&answer(connect(service.address))));
    assert!(service.ready.get("sockets").is_none());
    let warned = service.said_before.iter().find(|line| line["LISTEN_PID"] == "1").unwrap();
    assert!(warned["message"].as_str().unwrap().contains("a shell in between must `exec`"), "{warned}");
}

/// Restarts the service while clients connect and ask. Nobody is refused, and nobody goes without an answer.
fn restart(times: usize, settings: &[(&str, &str)]) {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let start = || {
        let mut command = activated(directory.path(), &[&listener], "baiwan.socket");
        command.envs(settings.iter().copied()).env("WORKERS", "2");
        Running::start(command)
    };
    let (is_over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let ask_on = || {
        while !is_over.load(Ordering::Relaxed) {
            // One that is refused, or goes without an answer, is a panic here, and so the end of the test.
            let text = answer(connect(address));
            assert!(is_live(&text), "{text:?}");
            answered.fetch_add(1, Ordering::Relaxed);
            thread::park_timeout(PAUSE);
        }
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(ask_on)).collect();
        let is_going_on = || clients.iter().all(|client| !client.is_finished());
        for _ in 0..times {
            // Nobody is there yet who could accept it.
            let mut early = connect(address);
            early.write_all(REQUEST).unwrap();
            let service = start();
            assert!(is_live(&rest(early)), "it was in the queue when the service started");
            let enough = answered.load(Ordering::Relaxed) + 4 * CLIENTS;
            eventually("the clients are answered", || !is_going_on() || answered.load(Ordering::Relaxed) >= enough);
            service.signal(Signal::TERM);
            let (status, log) = service.wait();
            assert!(status.success() && is_going_on(), "{log}");
        }
        let last = start();
        is_over.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().unwrap());
        drop(last);
    });
}

#[test]
fn twenty_restarts_refuse_nobody_and_lose_no_request() {
    restart(20, &[]);
}

#[test]
fn restarts_with_a_table_for_each_core_refuse_nobody() {
    restart(4, &[TABLES]);
}

#[test]
fn restarts_of_the_portable_event_loop_refuse_nobody() {
    restart(4, &[("EVENT_LOOP", "portable")]);
}
