//! What the kernel and hostile peers do to the process: no more files, resets, peers that do not read, signals.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use rustix::net::sockopt;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit};
use serde_json::json;

use crate::running::{Client, Running, command, eventually};

/// How long the process is without files.
const WITHOUT_FILES: Duration = Duration::from_secs(30);
const BEAT: Duration = Duration::from_millis(100);
/// Hundredths of a second of CPU that answering a few requests may cost in that time; a core that spins takes 3,000.
const CPU_TICKS_MAX: u64 = 300;
const GROWTH_MAX_KIB: u64 = 8 << 10;

impl Running {
    fn files(&self) -> Vec<u64> {
        let directory = std::fs::read_dir(self.in_proc("fd")).unwrap();
        let mut files: Vec<u64> =
            directory.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
        files.sort_unstable();
        files
    }

    fn sockets(&self) -> usize {
        let directory = self.in_proc("fd");
        // A file may be gone when it is looked at.
        let link = |file: &u64| std::fs::read_link(directory.join(file.to_string())).unwrap_or_default();
        self.files().iter().filter(|file| link(file).to_string_lossy().starts_with("socket:")).count()
    }

    /// CPU used so far, by user and system, in ticks of which Linux shows 100 a second.
    fn cpu_ticks(&self) -> u64 {
        let stat = self.proc_file("stat");
        // The name of the program, in parentheses, may have spaces.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    fn limit_files(&self, most: u64) {
        let maximum = getrlimit(Resource::Nofile).maximum;
        prlimit(Some(self.pid()), Resource::Nofile, Rlimit { current: Some(most), maximum }).unwrap();
    }
}

fn ask(client: &mut Client, path: &str) {
    let answer = client.ask("GET", path, "").unwrap();
    assert_eq!(answer.status, 200, "{} {}", answer.head, String::from_utf8_lossy(&answer.body));
}

#[test]
fn row_46_without_files_nobody_notices_but_those_who_wait() {
    let directory = tempfile::tempdir().unwrap();
    let service = Running::start(command(directory.path()));
    let mut clients: Vec<Client> = (0..8).map(|_| service.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(
            client.ask("POST", "/api/users", &json!({"name": number.to_string()}).to_string()).unwrap().status,
            201
        );
    }
    let files = service.files();
    let first_free =
        (0..).zip(&files).find(|(number, file)| number != *file).map_or(files.len() as u64, |(free, _)| free);
    let limit = getrlimit(Resource::Nofile).current.unwrap();
    service.limit_files(first_free);

    let mut waiting: Vec<Client> = (0..20).map(|_| service.connect()).collect();
    for client in &mut waiting {
        client.send_request("GET", "/health/live", "").unwrap();
    }
    let before = service.cpu_ticks();
    for beat in 0..WITHOUT_FILES.as_millis() / BEAT.as_millis() {
        for client in &mut clients {
            match beat % 10 {
                0 => ask(client, "/api/users"),
                _ => ask(client, "/health/live"),
            }
        }
        std::thread::park_timeout(BEAT);
    }
    let used = service.cpu_ticks() - before;
    assert!(used < CPU_TICKS_MAX, "{used} hundredths of a second of CPU were used");

    service.limit_files(limit);
    #[allow(clippy::disallowed_methods, reason = "what is measured is another process's time")]
    let raised = std::time::Instant::now();
    for client in &mut waiting {
        assert_eq!(client.answer("GET").unwrap().status, 200);
    }
    let recovery = raised.elapsed();
    println!("{used} hundredths of a second of CPU in {WITHOUT_FILES:?}; recovery in {recovery:?}");
    assert!(recovery < Duration::from_secs(5), "{recovery:?}");
    clients.iter_mut().for_each(|client| ask(client, "/health/live"));
    drop((clients, waiting));
    service.signal(Signal::TERM);
    let (status, log) = service.wait();
    assert!(status.success(), "{log}");
    let warnings = log.lines().filter(|line| line.contains("WARN")).count();
    let cores = std::thread::available_parallelism().unwrap().get();
    assert!(log.contains("cannot accept connections for now"), "{log}");
    assert!(log.contains(&format!("no more than {first_free} files may be open")), "{log}");
    assert!(warnings <= cores * (WITHOUT_FILES.as_secs() as usize + 5), "{warnings} lines");
}

#[test]
fn row_50_a_storm_of_resets_leaves_no_file_open_and_no_line_in_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let service = Running::start(command(directory.path()));
    let mut client = service.connect();
    ask(&mut client, "/health/live");
    let sockets = service.sockets();
    let moments = [
        "",
        "GET / HT",
        "POST /api/users HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"na",
        "POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 100000\r\n\r\nsome of it",
        "GET / HTTP/1.1\r\nhost: test\r\n\r\nGET / HTTP/1.1\r\nhost: test\r\n\r\n",
        "GET /api/users HTTP/1.1\r\nhost: test\r\n\r\n",
    ];
    for round in 0..200 {
        for moment in moments {
            let mut peer = TcpStream::connect(service.address).unwrap();
            peer.write_all(moment.as_bytes()).unwrap();
            if round % 2 == 0
                && moment.contains("\r\n\r\n")
                && !moment.contains("users HTTP/1.1\r\nhost: test\r\ncontent")
            {
                // Something of the answer has come.
                assert!(peer.read(&mut [0; 16]).unwrap() > 0);
            }
            sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
        }
    }
    ask(&mut client, "/health/live");
    eventually("only the client is left", || service.sockets() == sockets);
    drop(client);
    service.signal(Signal::TERM);
    let (status, log) = service.wait();
    assert!(status.success());
    // Of the stop.
    let expected =
        |line: &str| [r#""message":"stopping: "#, r#""message":"stopped""#].iter().any(|words| line.contains(words));
    assert!(log.lines().all(expected), "more was said than that it stopped: {log}");
}

/// Connections that send `requests` again and again and read nothing, until each is cut.
fn flood(service: &Running, requests: &[u8]) {
    let mut peers: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(service.address).unwrap()).collect();
    peers.iter().for_each(|peer| peer.set_nonblocking(true).unwrap());
    let mut bystander = service.connect();
    eventually("all are cut", || {
        ask(&mut bystander, "/health/live");
        peers.retain_mut(|peer| match peer.write(requests) {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => true,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
                false
            }
        });
        peers.is_empty()
    });
}

#[test]
fn row_38_and_43_peers_that_do_not_read_cost_no_memory_and_are_cut() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path());
    command.env("WRITE_TIMEOUT", "1s");
    let service = Running::start(command);
    let page = "GET / HTTP/1.1\r\nhost: test\r\n\r\n".repeat(1000);
    // An answer as long as its request, 64 MiB if anybody read it; the chunks that follow do not end it.
    let text = format!("{:x}\r\n{}\r\n", 64 << 10, "t".repeat(64 << 10));
    let echo = format!("POST /echo HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n{text}");
    let mut client = service.connect();
    ask(&mut client, "/");
    assert_eq!(client.ask("POST", "/echo", "warm").unwrap().status, 200);
    let before = service.peak_memory_kib();
    let sockets = service.sockets();
    flood(&service, page.as_bytes());
    let pipelined = service.peak_memory_kib() - before;
    flood(&service, echo.as_bytes());
    let growth = service.peak_memory_kib() - before;
    println!("memory grew by {pipelined} KiB with pipelined requests, by {growth} KiB in all");
    assert!(growth < GROWTH_MAX_KIB, "memory grew by {growth} KiB");
    eventually("only the client is left", || service.sockets() == sockets);
}

#[test]
fn row_51_a_writer_to_dead_peers_lives_on() {
    let directory = tempfile::tempdir().unwrap();
    let service = Running::start(command(directory.path()));
    let mut client = service.connect();
    ask(&mut client, "/health/live");
    let sockets = service.sockets();
    for round in 0..50 {
        // The pages that it asks for are more than a socket takes, so that the server writes long after it is gone.
        let mut peer = TcpStream::connect(service.address).unwrap();
        peer.write_all("GET / HTTP/1.1\r\nhost: test\r\n\r\n".repeat(1000).as_bytes()).unwrap();
        assert!(peer.read(&mut [0; 16]).unwrap() > 0);
        if round % 2 == 0 {
            peer.shutdown(Shutdown::Write).unwrap();
        }
        drop(peer);
        ask(&mut client, "/health/live");
    }
    eventually("only the client is left", || service.sockets() == sockets);
}

#[test]
fn row_104_sigterm_under_load_answers_all_that_it_stores_and_stores_all_that_it_answers() {
    const ROUNDS: usize = 10;
    const CLIENTS: usize = 16;
    for round in 0..ROUNDS {
        let directory = tempfile::tempdir().unwrap();
        let service = Running::start(command(directory.path()));
        let answered = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (mut connection, answered) = (service.connect(), &answered);
                // Accepted by a core, not merely by the kernel.
                ask(&mut connection, "/health/live");
                scope.spawn(move || {
                    // As long as no answer says that the connection closes, every request must be answered whole.
                    for number in 0.. {
                        let body = json!({"name": format!("{client} {number}")}).to_string();
                        let answer = connection.ask("POST", "/api/users", &body).unwrap();
                        assert_eq!(answer.status, 201, "{answer:?}");
                        answered.fetch_add(1, Relaxed);
                        if answer.head.contains("connection: close\r\n") {
                            return assert!(connection.is_closed_by_server());
                        }
                    }
                });
            }
            eventually("all are under way", || answered.load(Relaxed) >= CLIENTS + round);
            service.signal(Signal::TERM);
        });
        let (status, log) = service.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        let database = rusqlite::Connection::open(directory.path().join("baiwan.db")).unwrap();
        let stored: i64 = database.query_row("SELECT count(*) FROM users", [], |row| row.get(0)).unwrap();
        assert_eq!(stored, answered.load(Relaxed) as i64, "round {round}");
    }
}

#[test]
fn row_108_a_second_sigterm_ends_it_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path());
    command.env("SHUTDOWN_TIMEOUT", "10m");
    let service = Running::start(command);
    let mut client = service.connect();
    client.send(b"POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nhello").unwrap();
    client.head().unwrap();
    service.signal(Signal::TERM);
    eventually("nobody listens any more", || TcpStream::connect(service.address).is_err());
    service.signal(Signal::TERM);
    let (status, log) = service.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("connections were cut"), "{log}");
}

#[test]
fn row_108_signals_that_mean_nothing_here_change_nothing() {
    const SIGNALS: usize = 1_000;
    let directory = tempfile::tempdir().unwrap();
    let service = Running::start(command(directory.path()));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (mut client, over) = (service.connect(), &over);
        let asking = scope.spawn(move || {
            while !over.load(Relaxed) {
                ask(&mut client, "/api/users");
            }
        });
        for _ in 0..SIGNALS {
            for signal in [Signal::HUP, Signal::PIPE, Signal::USR1, Signal::USR2] {
                service.signal(signal);
            }
        }
        ask(&mut service.connect(), "/health/live");
        over.store(true, Relaxed);
        asking.join().unwrap();
    });
    service.signal(Signal::TERM);
    let (status, log) = service.wait();
    assert!(status.success(), "{log}");
    for name in ["the settings were read anew", "SIGUSR1", "SIGUSR2"] {
        let said = log.lines().filter(|line| line.contains(name)).count();
        assert!((1..10).contains(&said), "{said} lines about {SIGNALS} of {name}");
    }
}

#[test]
fn row_108_after_a_pause_deadlines_pass_once_and_connections_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path());
    command.env("HEADER_TIMEOUT", "1s");
    let service = Running::start(command);
    let mut clients: Vec<Client> = (0..50).map(|_| service.connect()).collect();
    let mut halves: Vec<Client> = (0..50).map(|_| service.connect()).collect();
    clients.iter_mut().for_each(|client| ask(client, "/health/live"));
    for half in &mut halves {
        ask(half, "/health/live");
        half.send(b"GET / HT").unwrap();
    }
    ask(&mut clients[0], "/health/live");
    service.signal(Signal::STOP);
    // The state of a process, after its name: `T` is stopped.
    eventually("it is stopped", || service.proc_file("stat").rsplit(") ").next().unwrap().starts_with('T'));
    for client in &mut clients {
        client.send_request("GET", "/health/live", "").unwrap();
    }
    let mut late = service.connect();
    late.send_request("GET", "/health/live", "").unwrap();
    std::thread::park_timeout(Duration::from_secs(3));
    let before = service.cpu_ticks();
    service.signal(Signal::CONT);
    for client in clients.iter_mut().chain([&mut late]) {
        assert_eq!(client.answer("GET").unwrap().status, 200);
    }
    for half in &mut halves {
        let answer = half.answer("GET").unwrap();
        assert_eq!(answer.status, 408, "{answer:?}");
        assert!(half.is_closed_by_server());
    }
    clients.iter_mut().for_each(|client| ask(client, "/health/live"));
    assert!(service.cpu_ticks() - before < CPU_TICKS_MAX);
}
