//! The service as a process: it starts, answers over TCP, says why it cannot start, and stops without losing a request.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

// It needs outputs that fail as those of Linux do.
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod access_log;
// A shell passes descriptors on as those of Linux do.
#[cfg(target_os = "linux")]
mod activation;
mod admin_side;
// Those of `baiwan load`, which runs on Linux only.
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod accounting;
mod check_health;
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod deaths;
mod demo;
// It looks at limits that only Linux tells.
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod doctor;
mod durability;
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod honest;
// What the engine and its kernel promise beyond hyper, and the limit on files, which only Linux tells.
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod kernel;
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod limits;
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod load;
// Only Linux hands sockets from process to process.
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod main_process;
// Abstract sockets and fd tables are Linux's.
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod listening;
// Some of what it looks for only Linux tells.
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod metrics;
// systemd is Linux's, and so are abstract sockets.
#[cfg(target_os = "linux")]
#[cfg_attr(baiwan_portable, allow(dead_code, reason = "the tests of a process that takes over need all of it"))]
mod notify;
#[path = "../stores/postgres.rs"]
#[allow(dead_code, reason = "other tests need other parts of it")]
mod postgres;
#[cfg_attr(baiwan_portable, allow(dead_code, reason = "the tests of the engine need all of it"))]
mod rate_limit;
mod reload;
mod running;
#[cfg(target_os = "linux")]
mod shared_limit;
mod stopping;
// They count refusals of the engine.
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod streams;
// Only Linux has fd tables for threads.
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod tables;
// Only Linux hands sockets from process to process.
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod takeover;
mod traversal;

use std::io::Read;
use std::net::TcpStream;
use std::process::Command;

use running::{Client, Running, command, with_settings};
use rustix::process::{Resource, Rlimit, Signal, prlimit};
use serde_json::json;

#[test]
fn every_route_answers_over_tcp() {
    let directory = tempfile::tempdir().unwrap();
    let service = Running::start(command(directory.path()));
    let mut client = service.connect();
    let mut ask = |method: &str, path: &str, body: &str| client.ask(method, path, body).unwrap();
    assert!(ask("GET", "/", "").head.contains("text/html"));
    assert_eq!(ask("GET", "/health", "").json()["status"], "healthy");
    assert_eq!(ask("GET", "/health/live", "").json()["status"], "live");
    assert_eq!(ask("GET", "/health/ready", "").json()["status"], "ready");
    assert_eq!(ask("POST", "/echo", "百万").body, "Echo: 百万".as_bytes());
    let created = ask("POST", "/api/users", r#"{"name":"Ada"}"#);
    assert_eq!(created.status, 201);
    assert!(created.head.contains("location: /api/users/1\r\n"), "{}", created.head);
    assert_eq!(ask("GET", "/api/users/1", "").json(), created.json());
    assert_eq!(ask("GET", "/api/users", "").json(), json!({"users": [created.json()], "next": null}));
    assert_eq!(ask("POST", "/api/users", r#"{"name":"Ada"}"#).status, 409);
    assert_eq!(ask("HEAD", "/api/users", "").status, 200);
    let replaced = ask("PUT", "/api/users/1", r#"{"name":"Lovelace"}"#);
    assert_eq!((replaced.status, &replaced.json()["name"]), (200, &json!("Lovelace")));
    let deleted = ask("DELETE", "/api/users/1", "");
    assert_eq!((deleted.status, deleted.body.len()), (204, 0));
    assert_eq!(ask("GET", "/api/users/1", "").status, 404);
    assert!(ask("GET", "/docs", "").head.contains("text/html"));
    assert_eq!(ask("GET", "/openapi.json", "").json()["info"]["title"], "Baiwan");
    assert_eq!(ask("GET", "/nope", "").status, 404);
    assert_eq!(ask("PUT", "/echo", "").status, 405);
}

#[test]
fn the_portable_event_loop_serves_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path());
    command.env("EVENT_LOOP", "portable");
    let service = Running::start(command);
    assert_eq!(service.ready["event_loop"], "portable");
    let mut client = service.connect();
    assert_eq!(client.ask("POST", "/api/users", r#"{"name":"Ada"}"#).unwrap().status, 201);
    assert_eq!(client.ask("POST", "/echo", "hello").unwrap().body, b"Echo: hello");
    drop(client);
    service.signal(Signal::TERM);
    let (status, log) = service.wait();
    assert!(status.success(), "{log}");
}

#[test]
fn the_ready_line_says_what_is_in_force() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path());
    command.env("WORKERS", "1").env("REQUEST_TIMEOUT", "0");
    command.env("CORS_ORIGINS", "https://a.org").env("SERVER_HEADER", "ours");
    let service = Running::start(command);
    assert_eq!(service.ready["workers"], 1);
    assert!(service.ready["timeouts"].as_str().unwrap().contains("request off"));
    assert!(service.ready["max_connections"].as_u64().unwrap() > 0);
    assert_eq!(service.ready["api_token"], "not set: anyone may write");
    assert_eq!(service.ready["body_min_rate"], 500);
    assert_eq!(service.ready["write_min_rate"], 500);
    for (member, value) in [("cors_origins", "https://a.org"), ("ready_requires", "off"), ("server_header", "ours")] {
        assert_eq!(service.ready[member], value);
    }
    let database = format!("sqlite:{}", directory.path().join("baiwan.db").display());
    assert_eq!(service.ready["database"], database);
    assert_ne!(service.address.port(), 0);
}

#[test]
fn the_block_for_people_goes_to_standard_error() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path());
    command.env("LOG_FORMAT", "text").stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut block = String::new();
    while !block.contains("  stop        Ctrl-C or SIGTERM\n") {
        assert!(std::io::BufRead::read_line(&mut stderr, &mut block).unwrap() > 0, "{block}");
    }
    assert!(block.contains("  listening   http://127.0.0.1:"), "{block}");
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::INT).unwrap();
    assert!(child.wait().unwrap().success());
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(stdout, "");
}

// It names a command of Linux.
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
#[test]
fn a_port_in_use_is_one_line_and_exit_code_1() {
    let directory = tempfile::tempdir().unwrap();
    let service = Running::start(command(directory.path()));
    let port = service.address.port().to_string();
    let output = command(directory.path()).env("PORT", &port).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains(&port) && text.contains("`ss -ltnp`") && text.contains("choose another port"), "{text}");
    assert!(!text.contains("os error"), "what was said in words is not said again: {text}");
    // The first one did not notice.
    assert_eq!(service.connect().ask("GET", "/health", "").unwrap().status, 200);
}

#[test]
fn connections_that_cannot_be_had_are_one_line_and_exit_code_1() {
    let directory = tempfile::tempdir().unwrap();
    let output = command(directory.path()).env("MAX_CONNECTIONS", "100000000").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), text.lines().count()), (Some(1), 1), "{text}");
    assert!(text.contains("MAX_CONNECTIONS=100000000"), "{text}");
}

#[test]
fn sigterm_answers_the_request_in_flight_and_stores_what_was_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let service = Running::start(command(directory.path()));
    let mut client = service.connect();
    assert_eq!(client.ask("POST", "/api/users", r#"{"name":"Ada"}"#).unwrap().status, 201);
    client.send(b"POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nhello").unwrap();
    // The handler runs: its first bytes have arrived.
    client.head().unwrap();
    assert_eq!(client.bytes(11).unwrap(), b"Echo: hello");
    service.signal(Signal::TERM);
    // It drains once the listener is gone; the request is still being answered.
    while TcpStream::connect(service.address).is_ok() {
        std::thread::yield_now();
    }
    client.send(b"world").unwrap();
    assert_eq!(client.bytes(5).unwrap(), b"world");
    assert!(client.is_closed_by_server());
    let (status, log) = service.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.lines().last().unwrap().contains("stopped"), "{log}");
    assert!(!directory.path().join("baiwan.db-wal").exists(), "the log was moved into the file");
    let again = Running::start(command(directory.path()));
    assert_eq!(again.connect().ask("GET", "/api/users/1", "").unwrap().json()["name"], "Ada");
}

// The rules are the engine's.
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
#[test]
fn an_operator_sees_which_rules_were_broken() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path());
    command.env("LOG_LEVEL", "debug");
    let service = Running::start(command);
    for _ in 0..3 {
        let mut client = service.connect();
        client.send(b"GET / HTTP/1.1\r\nx: \x1b[2J\r\n\r\n").unwrap();
        assert_eq!(client.answer("GET").unwrap().status, 400);
    }
    service.signal(Signal::TERM);
    let (_, log) = service.wait();
    assert!(log.contains(r#""rules":"control-byte=3""#), "{log}");
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let refused: Vec<_> = lines.iter().filter(|line| line["rule"] == "control-byte").collect();
    assert_eq!(refused.len(), 3, "{log}");
    assert_eq!(refused[0]["sample"], r"x: \x1b[2J\r\n\r\n");
    assert!(refused[0]["peer"].as_str().unwrap().starts_with("127.0.0.1:"));
}

#[test]
fn sigterm_answers_every_write_that_was_sent_before() {
    const CLIENTS: usize = 64;
    let directory = tempfile::tempdir().unwrap();
    let service = Running::start(command(directory.path()));
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| service.connect()).collect();
    for client in &mut clients {
        // Accepted by a core, not merely by the kernel.
        assert_eq!(client.ask("GET", "/health/live", "").unwrap().status, 200);
    }
    for (n, client) in clients.iter_mut().enumerate() {
        client.send_request("POST", "/api/users", &json!({"name": format!("user {n}")}).to_string()).unwrap();
    }
    service.signal(Signal::TERM);
    for client in &mut clients {
        assert_eq!(client.answer("POST").unwrap().status, 201);
    }
    let (status, log) = service.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    let database = rusqlite::Connection::open(directory.path().join("baiwan.db")).unwrap();
    let stored: i64 = database.query_row("SELECT count(*) FROM users", [], |row| row.get(0)).unwrap();
    assert_eq!(stored, 64);
}

#[test]
fn echo_of_a_long_text_takes_constant_memory() {
    static BLOCK: [u8; 64 << 10] = [b'x'; 64 << 10];
    const BLOCKS: usize = 1024;
    const GROWTH_MAX_KIB: u64 = 8 << 10;
    let directory = tempfile::tempdir().unwrap();
    let service = Running::start(command(directory.path()));
    let mut client = service.connect();
    assert_eq!(client.ask("POST", "/echo", "warm").unwrap().body, b"Echo: warm");
    let before = service.peak_memory_kib();
    let mut sender = client.another_hand();
    let sending = std::thread::spawn(move || {
        let length = BLOCK.len() * BLOCKS;
        sender
            .send(format!("POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: {length}\r\n\r\n").as_bytes())
            .unwrap();
        (0..BLOCKS).for_each(|_| sender.send(&BLOCK).unwrap());
    });
    client.head().unwrap();
    assert_eq!(client.bytes(6).unwrap(), b"Echo: ");
    for _ in 0..BLOCKS {
        assert!(client.bytes(BLOCK.len()).unwrap() == BLOCK);
    }
    sending.join().unwrap();
    let growth = service.peak_memory_kib() - before;
    assert!(growth < GROWTH_MAX_KIB, "64 MiB passed through and memory grew by {growth} KiB");
}

#[test]
fn echo_asks_for_the_text_of_a_client_that_waits_to_be_asked() {
    let directory = tempfile::tempdir().unwrap();
    for event_loop in ["auto", "portable"] {
        let mut command = command(directory.path());
        command.env("EVENT_LOOP", event_loop);
        let service = Running::start(command);
        let mut client = service.connect();
        client.send(b"POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n").unwrap();
        assert!(client.head().unwrap().starts_with("http/1.1 100 "), "{event_loop}");
        client.send(b"hello").unwrap();
        assert_eq!(client.answer("POST").unwrap().body, b"Echo: hello", "{event_loop}");
    }
}

#[test]
fn a_body_that_is_too_long_is_413_and_the_server_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let service = Running::start(command(directory.path()));
    let mut client = service.connect();
    // Refused by what it announces: nothing of it needs to be sent.
    client
        .send(b"POST /api/users HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: 2000000\r\n\r\n")
        .unwrap();
    assert_eq!(client.answer("POST").unwrap().status, 413);
    assert_eq!(service.connect().ask("GET", "/health", "").unwrap().status, 200);
}

#[test]
fn a_disk_that_is_full_is_503_and_needs_no_restart() {
    let directory = tempfile::tempdir().unwrap();
    // Without SIGXFSZ, which the shell ignores for us, a file that may not grow is an error like a full disk.
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", r#"trap '' XFSZ; exec "$0" serve"#, env!("CARGO_BIN_EXE_baiwan")]);
    let service = Running::start(with_settings(shell, directory.path()));
    let mut client = service.connect();
    let mut add = |name: &str| client.ask("POST", "/api/users", &json!({"name": name}).to_string()).unwrap();
    assert_eq!(add("before").status, 201);
    let limit = |current| {
        prlimit(Some(service.pid()), Resource::Fsize, Rlimit { current, maximum: None }).unwrap();
    };
    limit(Some(0));
    let refused = add("during");
    assert_eq!(refused.status, 503);
    assert!(refused.head.contains("retry-after: 1\r\n"), "{}", refused.head);
    let mut reader = Client::connect(service.address).unwrap();
    assert_eq!(reader.ask("GET", "/api/users", "").unwrap().json()["users"].as_array().unwrap().len(), 1);
    limit(None);
    assert_eq!(add("after").status, 201);
    drop((client, reader));
    service.signal(Signal::TERM);
    let (status, log) = service.wait();
    assert!(status.success(), "{log}");
    assert!(log.contains("cannot be written") && log.contains("can be written again"), "{log}");
}
