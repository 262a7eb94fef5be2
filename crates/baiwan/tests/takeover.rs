//! Servers that take over from each other: in one process, which holds them all, so that a test sees each of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]
// Only Linux hands sockets from process to process.
#![cfg(all(target_os = "linux", not(baiwan_portable)))]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use baiwan::{Admin, Builder, Error, EventLoop, Phase, Running, Server};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A test that waits longer than this for a byte has failed.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOPS: [EventLoop; 2] = [EventLoop::Epoll, EventLoop::Portable];

/// A folder for the door, and a runtime for the servers.
struct Rig {
    folder: TempDir,
    runtime: Runtime,
}

impl Rig {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { folder: tempfile::tempdir().unwrap(), runtime }
    }

    fn door(&self) -> PathBuf {
        self.folder.path().join("door")
    }

    /// What each server is told, but for where it listens.
    fn builder(&self) -> Builder {
        Server::builder().takeover(self.door()).workers(2).shutdown(std::future::pending())
    }

    fn on_a_port(&self) -> Builder {
        self.builder().bind("127.0.0.1:0")
    }

    fn start(&self, builder: Builder, name: &'static str) -> Running {
        self.try_start(builder, name).unwrap()
    }

    fn try_start(&self, builder: Builder, name: &'static str) -> Result<Running, Error> {
        let _within = self.runtime.enter();
        let echo = |body: axum::body::Body| async { body };
        builder.start(Router::new().route("/", get(move || async move { name }).post(echo)))
    }

    fn wait(&self, server: Running) {
        self.runtime.block_on(server.wait()).unwrap();
    }
}

fn address(server: &Running) -> SocketAddr {
    server.addresses()[0].parse().unwrap()
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Asks once, and reads to the end: the head of the answer in lower case, and its text.
fn ask_on(mut stream: impl Read + Write) -> std::io::Result<(String, String)> {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, text) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    Ok((head.to_ascii_lowercase(), text.to_owned()))
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    ask_on(connect(address)?).map(|(_, text)| text)
}

/// Waits until whoever answers is `name`: the one before may accept what came in the same moment.
fn until_answered_by(address: SocketAddr, name: &str) {
    while ask(address).unwrap() != name {
        std::thread::yield_now();
    }
}

/// Says something at the door, and reads until `until` has come or the other side ends.
fn say_at(door: &Path, text: &str, until: &str) -> (UnixStream, String) {
    let mut stream = UnixStream::connect(door).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut said = String::new();
    let mut buffer = [0; 1024];
    while !said.contains(until) {
        match stream.read(&mut buffer).unwrap() {
            0 => break,
            taken => said += std::str::from_utf8(&buffer[..taken]).unwrap(),
        }
    }
    (stream, said)
}

#[test]
fn a_server_takes_over_and_the_one_before_answers_what_it_has_and_ends() {
    for event_loop in LOOPS {
        let rig = Rig::new();
        let builder = rig.on_a_port().event_loop(event_loop);
        let of_first = builder.health();
        let first = rig.start(builder, "first");
        let mode = std::fs::metadata(rig.door()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{event_loop:?}");
        let at = address(&first);
        let mut kept = connect(at).unwrap();
        // Half of the request's body is there, and a part of the answer, when the other server takes over.
        kept.write_all(b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nhello").unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"hello") {
            answer.push(0);
            kept.read_exact(answer.last_mut().map(std::slice::from_mut).unwrap()).unwrap();
        }
        // Another connection was accepted, and its request is not sent yet.
        let fresh = connect(at).unwrap();
        while of_first.connections() < 2 {
            std::thread::yield_now();
        }
        let builder = rig.on_a_port().event_loop(event_loop);
        let health = builder.health();
        let second = rig.start(builder, "second");
        assert_eq!(address(&second), at, "{event_loop:?}");
        until_answered_by(at, "second");
        assert_eq!(ask_on(fresh).unwrap().1, "first", "{event_loop:?}");
        kept.write_all(b"world").unwrap();
        let mut rest = [0; 5];
        kept.read_exact(&mut rest).unwrap();
        assert_eq!(rest, *b"world", "{event_loop:?}");
        drop(kept);
        rig.wait(first);
        assert_eq!(health.phase(), Phase::Serving, "{event_loop:?}");
        assert_eq!(ask(at).unwrap(), "second", "{event_loop:?}");
    }
}

#[test]
fn who_connects_and_asks_all_the_time_notices_nothing() {
    const TAKEOVERS: usize = 6;
    const CLIENTS: usize = 4;
    for event_loop in LOOPS {
        let rig = Rig::new();
        let mut server = rig.start(rig.on_a_port().event_loop(event_loop), "a server");
        let at = address(&server);
        let (ends, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let client = || {
            let (ends, answers) = (Arc::clone(&ends), Arc::clone(&answers));
            std::thread::spawn(move || {
                while !ends.load(SeqCst) {
                    assert_eq!(ask(at).unwrap(), "a server");
                    answers.fetch_add(1, SeqCst);
                }
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| client()).collect();
        for number in 0..TAKEOVERS {
            let before = answers.load(SeqCst);
            // Fewer and more cores than before, by turns: from 2 to 1, 4, 3, ...
            let workers = [1, 4, 3][number % 3];
            let next = rig.start(rig.on_a_port().event_loop(event_loop).workers(workers), "a server");
            rig.wait(std::mem::replace(&mut server, next));
            while answers.load(SeqCst) < before + 50 {
                assert!(!clients.iter().any(|client| client.is_finished()), "{event_loop:?}: a client has failed");
                std::thread::yield_now();
            }
        }
        ends.store(true, SeqCst);
        clients.into_iter().for_each(|client| client.join().unwrap());
    }
}

#[test]
fn a_start_that_fails_leaves_the_server_as_it_was() {
    for event_loop in LOOPS {
        let rig = Rig::new();
        let first = rig.start(rig.on_a_port().event_loop(event_loop), "first");
        let at = address(&first);
        for _ in 0..3 {
            let builder = rig.on_a_port().event_loop(event_loop);
            let error = rig.runtime.block_on(async {
                builder.start_with(|core| match core {
                    0 => Router::new().route("/", get(|| async { "second" })),
                    _ => std::panic::resume_unwind(Box::new("as the test wants it")),
                })
            });
            assert!(matches!(error, Err(Error::CorePanicked(1))), "{error:?}");
            assert_eq!(ask(at).unwrap(), "first");
        }
        let second = rig.start(rig.on_a_port().event_loop(event_loop), "second");
        until_answered_by(at, "second");
        rig.wait(first);
        drop(second);
    }
}

#[test]
fn a_process_that_is_no_successor_is_told_why_and_changes_nothing() {
    let rig = Rig::new();
    let first = rig.start(rig.on_a_port(), "first");
    let at = address(&first);
    for (text, expected) in [
        ("GET / HTTP/1.1\r\nhost: test\n\n", "something else than baiwan-takeover"),
        ("baiwan-takeover 99 hello\n\n", "version 99"),
        ("baiwan-takeover 1 ready\n\n", "at the wrong time"),
        ("baiwan-takeover 1 hello\n\nbaiwan-takeover 1 released\n\n", "at the wrong time"),
    ] {
        let (_, said) = say_at(&rig.door(), text, "refused\n");
        assert!(said.contains("refused\n"), "{said}");
        let (_, said) = say_at(&rig.door(), text, expected);
        assert!(said.contains(expected), "{said}");
        assert_eq!(ask(at).unwrap(), "first");
    }
    // One that dies after each step.
    for (text, until) in [("", ""), ("baiwan-takeover 1 h", ""), ("baiwan-takeover 1 hello\n\n", "door\n\n")] {
        drop(say_at(&rig.door(), text, until));
        assert_eq!(ask(at).unwrap(), "first");
    }
    let second = rig.start(rig.on_a_port(), "second");
    until_answered_by(at, "second");
    rig.wait(first);
    drop(second);
}

#[test]
fn a_second_attempt_while_one_is_under_way_is_refused() {
    let rig = Rig::new();
    let first = rig.start(rig.on_a_port(), "first");
    let (under_way, _) = say_at(&rig.door(), "baiwan-takeover 1 hello\n\n", "door\n\n");
    let said = rig.try_start(rig.on_a_port(), "second").unwrap_err().to_string();
    assert!(said.contains("already") && said.contains(rig.door().to_str().unwrap()), "{said}");
    assert_eq!(ask(address(&first)).unwrap(), "first");
    drop(under_way);
}

#[test]
fn a_successor_may_die_as_soon_as_it_has_been_released() {
    let rig = Rig::new();
    let first = rig.start(rig.on_a_port(), "first");
    let (stream, said) = say_at(&rig.door(), "baiwan-takeover 1 hello\n\nbaiwan-takeover 1 ready\n\n", "released\n\n");
    assert!(said.ends_with("released\n\n"), "{said}");
    drop(stream);
    // It has promised to end.
    rig.wait(first);
}

#[test]
fn unix_sockets_and_the_admin_side_are_handed_over_too() {
    let rig = Rig::new();
    let path = rig.folder.path().join("app.sock");
    let builder = |port: u16| {
        let admin = Admin::bind(SocketAddr::from(([127, 0, 0, 1], port)));
        rig.builder().bind(format!("unix:{}", path.display())).admin(admin)
    };
    let first = rig.start(builder(0), "first");
    let admin = first.admin_address().unwrap();
    let second = rig.start(builder(admin.port()), "second");
    assert_eq!(second.admin_address(), Some(admin));
    rig.wait(first);
    for _ in 0..10 {
        assert_eq!(ask_on(UnixStream::connect(&path).unwrap()).unwrap().1, "second");
        let mut stream = connect(admin).unwrap();
        stream.write_all(b"GET /health/ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    // The files are the second one's now: the end of the first has left them, its own takes them away.
    drop(second);
    assert!(!path.exists() && !rig.door().exists());
}

/// Asks the admin side on a connection that is kept, and reads until the answer is there or the connection ends.
fn ask_admin(stream: &mut TcpStream) -> String {
    let mut answer = String::new();
    if stream.write_all(b"GET /health/ready HTTP/1.1\r\nhost: localhost\r\n\r\n").is_ok() {
        let mut buffer = [0; 4096];
        while !answer.ends_with('}') {
            match stream.read(&mut buffer) {
                Ok(taken @ 1..) => answer += std::str::from_utf8(&buffer[..taken]).unwrap(),
                Ok(0) => break,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    answer
}

#[test]
fn who_asks_the_admin_side_on_a_kept_connection_comes_to_the_process_that_serves() {
    for event_loop in LOOPS {
        let rig = Rig::new();
        let builder = |port: u16| {
            let admin = Admin::bind(SocketAddr::from(([127, 0, 0, 1], port)));
            rig.on_a_port().event_loop(event_loop).shutdown_timeout(Duration::from_secs(3600)).admin(admin)
        };
        let first = rig.start(builder(0), "first");
        let admin = first.admin_address().unwrap();
        // One that has asked for nothing, and one that has, and so both were accepted.
        let mut kept = [connect(admin).unwrap(), connect(admin).unwrap()];
        let answer = ask_admin(&mut kept[1]);
        assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("connection: close"), "{answer}");
        // The first one drains for as long as this is open.
        let mut busy = connect(address(&first)).unwrap();
        busy.write_all(b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nhello").unwrap();
        busy.read_exact(&mut [0; 10]).unwrap();
        let second = rig.start(builder(admin.port()), "second");
        for stream in &mut kept {
            // The side hears of the take-over on its own thread, in the middle of answers.
            let ends = (0..10_000).any(|_| {
                let answer = ask_admin(stream).to_ascii_lowercase();
                answer.is_empty() || answer.contains("connection: close")
            });
            assert!(ends, "{event_loop:?}: it goes on with the first");
        }
        let is_ready = || ask_admin(&mut connect(admin).unwrap()).starts_with("HTTP/1.1 200 ");
        assert!((0..10_000).any(|_| is_ready()), "{event_loop:?}: the second answers");
        drop(busy);
        rig.wait(first);
        drop(second);
    }
}

#[test]
fn a_unix_socket_that_is_taken_over_has_the_mode_that_the_new_process_asks_for() {
    let rig = Rig::new();
    let path = rig.folder.path().join("app.sock");
    let builder = || rig.builder().bind(format!("unix:{}", path.display()));
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    let first = rig.start(builder().bind_mode(0o600), "first");
    assert_eq!(mode(), 0o600);
    let second = rig.start(builder().bind_mode(0o660), "second");
    assert_eq!(mode(), 0o660);
    rig.wait(first);
    // What is left out stays.
    let third = rig.start(builder(), "third");
    assert_eq!(mode(), 0o660);
    rig.wait(second);
    assert_eq!(ask_on(UnixStream::connect(&path).unwrap()).unwrap().1, "third");
    drop(third);
}

/// Puts another program's socket in the place of what is there.
fn replaced(path: &Path) -> UnixListener {
    std::fs::remove_file(path).unwrap();
    UnixListener::bind(path).unwrap()
}

#[test]
fn another_programs_socket_at_the_path_of_one_that_was_served_is_left_alone() {
    let rig = Rig::new();
    let path = rig.folder.path().join("app.sock");
    let at_path = |builder: Builder| builder.bind(format!("unix:{}", path.display())).bind_mode(0o666);
    let first = rig.start(at_path(rig.on_a_port()), "first");
    let at = address(&first);
    let other = replaced(&path);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let found = || std::fs::metadata(&path).map(|file| (file.ino(), file.permissions().mode() & 0o777)).unwrap();
    let before = found();
    // As at any start.
    let error = rig.try_start(at_path(rig.on_a_port()), "second").map(drop).unwrap_err();
    let is_in_use = matches!(&error, Error::Listen { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse);
    assert!(is_in_use, "{error}");
    assert_eq!((found(), ask(at).unwrap().as_str()), (before, "first"));

    let second = rig.start(rig.on_a_port(), "second");
    rig.wait(first);
    assert_eq!((found(), ask(at).unwrap().as_str()), (before, "second"));
    drop(second);
    assert_eq!(found(), before);
    UnixStream::connect(&path).unwrap();
    drop(other);
    // What nobody listens on any more is replaced, as at any start.
    let first = rig.start(at_path(rig.builder()), "first");
    drop(replaced(&path));
    let second = rig.start(at_path(rig.builder()), "second");
    rig.wait(first);
    assert_eq!(ask_on(UnixStream::connect(&path).unwrap()).unwrap().1, "second");
    drop(second);
    assert!(!path.exists() && !rig.door().exists());
}

#[test]
fn a_unix_socket_that_loses_its_path_while_another_server_starts_is_not_taken_over() {
    let rig = Rig::new();
    let path = rig.folder.path().join("app.sock");
    let builder = || rig.builder().bind(format!("unix:{}", path.display())).bind_mode(0o600);
    let first = rig.start(builder(), "first");
    let (others, lost) = (Arc::new(std::sync::Mutex::new(None)), path.clone());
    let put = Arc::clone(&others);
    let error = rig.runtime.block_on(async {
        builder().bind_mode(0o606).start_with(move |core| {
            if core == 0 {
                *put.lock().unwrap() = Some(replaced(&lost));
            }
            Router::new()
        })
    });
    let said = error.map(drop).unwrap_err().to_string();
    assert!(said.contains(&format!("its socket at {} was removed or replaced", path.display())), "{said}");
    assert_ne!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o606);
    drop(first);
    UnixStream::connect(&path).unwrap();
}

#[test]
fn another_programs_socket_that_takes_the_place_of_the_door_meanwhile_is_left_alone() {
    let rig = Rig::new();
    let first = rig.start(rig.on_a_port(), "first");
    let (others, door) = (Arc::new(std::sync::Mutex::new(None)), rig.door());
    let put = Arc::clone(&others);
    let second = rig.runtime.block_on(async {
        rig.on_a_port().start_with(move |core| {
            if core == 0 {
                *put.lock().unwrap() = Some(replaced(&door));
            }
            Router::new()
        })
    });
    rig.wait(first);
    drop(second.unwrap());
    UnixStream::connect(rig.door()).unwrap();
}

#[test]
fn an_address_may_be_wanted_anew_or_not_any_more() {
    let rig = Rig::new();
    let first = rig.start(rig.builder().bind("127.0.0.1:0").bind("127.0.0.2:0"), "first");
    let [kept, left] = [0, 1].map(|index| first.addresses()[index].parse::<SocketAddr>().unwrap());
    let second = rig.start(rig.builder().bind(kept).bind("127.0.0.3:0"), "second");
    let anew = second.addresses()[1].parse().unwrap();
    rig.wait(first);
    assert_eq!(second.addresses()[0], kept.to_string());
    assert_eq!((ask(kept).unwrap().as_str(), ask(anew).unwrap().as_str()), ("second", "second"));
    let refused = TcpStream::connect(left).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{refused}");
    drop(second);
}

#[test]
fn an_address_that_is_a_part_of_another_one_needs_a_restart() {
    let rig = Rig::new();
    for (served, wanted) in [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1")] {
        let first = rig.start(rig.builder().bind(format!("{served}:0")), "first");
        let port = address(&first).port();
        let said = rig.try_start(rig.builder().bind(format!("{wanted}:{port}")), "second").unwrap_err().to_string();
        let expected = format!(
            ": 127.0.0.1:{port} is a part of 0.0.0.0:{port}, and the process that runs serves {served}:{port}: \
             the change to {wanted}:{port} needs a restart"
        );
        assert!(said.ends_with(&expected), "{said}");
        // After a restart it would not start, so that is not the advice.
        let both = rig.builder().bind(format!("{served}:{port}")).bind(format!("{wanted}:{port}"));
        let said = rig.try_start(both, "second").unwrap_err();
        assert!(matches!(said, Error::Covered { .. }), "{said}");
        assert_eq!(ask(SocketAddr::from(([127, 0, 0, 1], port))).unwrap(), "first");
        drop(first);
    }
}

/// Asks over both versions of IP.
fn is_answered_by(port: u16, name: &str) {
    for loopback in ["127.0.0.1", "::1"] {
        assert_eq!(ask(SocketAddr::new(loopback.parse().unwrap(), port)).unwrap(), name, "{loopback}");
    }
}

#[test]
fn ipv6_may_be_added_beside_ipv4() {
    let rig = Rig::new();
    let first = rig.start(rig.builder().bind("0.0.0.0:0"), "first");
    let port = address(&first).port();
    let both = || rig.builder().bind(format!("0.0.0.0:{port}")).bind(format!("[::]:{port}"));
    let second = rig.start(both(), "second");
    rig.wait(first);
    is_answered_by(port, "second");
    let _third = rig.start(both(), "third");
    rig.wait(second);
    is_answered_by(port, "third");
}

#[test]
fn a_socket_that_is_to_serve_other_versions_of_ip_needs_a_restart() {
    let rig = Rig::new();
    let check = |builder: Builder, port: u16, expected: &str| {
        let said = rig.try_start(builder, "other").unwrap_err().to_string();
        let expected =
            format!(": [::]:{port} is to serve {expected} in the process that runs: this change needs a restart");
        assert!(said.ends_with(&expected), "{said}");
        is_answered_by(port, "first");
    };
    let dual = rig.start(rig.builder().bind("[::]:0"), "first");
    let port = address(&dual).port();
    let both = rig.builder().bind(format!("[::]:{port}")).bind(format!("0.0.0.0:{port}"));
    check(both, port, "IPv6 alone, and serves IPv4 too");
    drop(dual);

    let ipv4 = rig.start(rig.builder().bind("0.0.0.0:0"), "first");
    let port = address(&ipv4).port();
    let both = rig.builder().bind(format!("0.0.0.0:{port}")).bind(format!("[::]:{port}"));
    let both = rig.start(both, "first");
    rig.wait(ipv4);
    check(rig.builder().bind(format!("[::]:{port}")), port, "IPv4 too, and serves IPv6 alone");
    drop(both);
}

#[test]
fn a_server_that_stops_leaves_no_socket_open_for_a_successor() {
    for event_loop in LOOPS {
        let rig = Rig::new();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let builder = rig.on_a_port().event_loop(event_loop).shutdown(async { drop(stopped.await) });
        let server = rig.start(builder, "first");
        let at = address(&server);
        let mut busy = connect(at).unwrap();
        busy.write_all(b"GET / HTTP/1.1\r\nhost:").unwrap();
        let ending = rig.runtime.spawn(server.wait());
        stop.send(()).unwrap();
        // While it drains, nobody listens.
        while TcpStream::connect(at).is_ok() {
            std::thread::yield_now();
        }
        assert!(UnixStream::connect(rig.door()).is_err(), "{event_loop:?}: nor at the door");
        drop(busy);
        rig.runtime.block_on(ending).unwrap().unwrap();
        // The next one is the first again.
        let next = rig.start(rig.builder().bind(at), "next");
        assert_eq!(ask(at).unwrap(), "next");
        drop(next);
    }
}

#[test]
fn a_server_that_stops_while_another_one_starts_says_so_and_leaves_nothing() {
    for event_loop in LOOPS {
        let rig = Rig::new();
        let path = rig.folder.path().join("app.sock");
        let builder = || rig.builder().bind(format!("unix:{}", path.display())).event_loop(event_loop);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let first = rig.start(builder().shutdown(async { drop(stopped.await) }), "first");
        let ending = rig.runtime.spawn(first.wait());
        let (stop, door) = (std::sync::Mutex::new(Some(stop)), rig.door());
        let error = rig.runtime.block_on(async {
            builder().start_with(move |_| {
                drop(stop.lock().unwrap().take());
                while door.exists() {
                    std::thread::yield_now();
                }
                Router::new()
            })
        });
        let said = error.unwrap_err().to_string();
        assert!(said.contains("the server stops"), "{event_loop:?}: {said}");
        rig.runtime.block_on(ending).unwrap().unwrap();
        assert!(!path.exists(), "{event_loop:?}");
        let next = rig.start(builder(), "next");
        assert_eq!(ask_on(UnixStream::connect(&path).unwrap()).unwrap().1, "next");
        drop(next);
    }
}

/// A process that serves at `path` and is killed when another one has its sockets: nobody removes its files.
fn killed_while_another_one_starts(door: &Path, path: &Path) -> std::thread::JoinHandle<()> {
    let [door, server] = [door, path].map(|path| UnixListener::bind(path).unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = door.accept().unwrap();
        let mut hello = [0; "baiwan-takeover 1 hello\n\n".len()];
        stream.read_exact(&mut hello).unwrap();
        let message = b"baiwan-takeover 1 sockets\npid 7\ntotal 2\nserver\ndoor\n\n";
        let sent = baiwan_driver::send_fds(stream.as_fd(), message, &[server.as_fd(), door.as_fd()]);
        assert_eq!(sent.unwrap(), message.len());
    })
}

#[test]
fn the_files_of_a_process_that_was_killed_meanwhile_are_those_of_the_next_one() {
    let rig = Rig::new();
    let path = rig.folder.path().join("app.sock");
    let before = killed_while_another_one_starts(&rig.door(), &path);
    let next = rig.start(rig.builder().bind(format!("unix:{}", path.display())), "next");
    before.join().unwrap();
    assert_eq!(next.predecessor(), Some(7));
    assert_eq!(ask_on(UnixStream::connect(&path).unwrap()).unwrap().1, "next");
    let (_, said) = say_at(&rig.door(), "baiwan-takeover 1 hello\n\n", "door\n\n");
    assert!(said.contains("sockets\n"), "{said}");
    drop(next);
    assert!(!path.exists() && !rig.door().exists());
}

#[test]
fn a_file_of_a_process_that_was_killed_which_leads_elsewhere_is_an_error_that_names_it() {
    for gone in ["app.sock", "door"] {
        let rig = Rig::new();
        let path = rig.folder.path().join("app.sock");
        let before = killed_while_another_one_starts(&rig.door(), &path);
        let builder = rig.builder().bind(format!("unix:{}", path.display()));
        let lost = rig.folder.path().join(gone);
        let error = rig.runtime.block_on(async {
            let lost = lost.clone();
            builder.start_with(move |core| {
                // Whoever stands there now stays.
                if core == 0 {
                    std::fs::remove_file(&lost).unwrap();
                    drop(UnixListener::bind(&lost).unwrap());
                }
                Router::new()
            })
        });
        let said = error.unwrap_err().to_string();
        assert!(said.contains(&format!("{} was removed or replaced", lost.display())), "{said}");
        before.join().unwrap();
        assert!(lost.exists());
    }
}
