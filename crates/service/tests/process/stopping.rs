//! What the log says of a stop while it lasts.

use rustix::process::Signal;

use crate::running::{Running, command};

/// A client whose request is being answered until it sends five bytes more.
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
fn in_the_middle_of_an_echo(service: &Running) -> crate::running::Client {
    let mut client = service.connect();
    client.send(b"POST /echo HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\nhello").unwrap();
    client.head().unwrap();
    // Only the task that counts as an answer sends what comes after the first frame.
    assert_eq!(client.bytes(11).unwrap(), b"Echo: hello");
    client
}

// The engine alone counts what is being answered.
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
#[test]
fn a_stop_says_at_once_what_it_waits_for_then_what_is_left_and_that_a_second_signal_came() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path());
    command.env("SHUTDOWN_TIMEOUT", "10m");
    let service = Running::start(command);
    let mut idle = service.connect();
    assert_eq!(idle.ask("GET", "/health/live", "").unwrap().status, 200);
    let _busy = in_the_middle_of_an_echo(&service);
    service.signal(Signal::TERM);
    let line = service.line("stopping: closes each connection after its answer");
    assert_eq!((&line["connections"], &line["being_answered"]), (&2.into(), &1.into()), "{line}");
    assert_eq!((&line["at_most_seconds"], &line["idle_seconds"]), (&600.0.into(), &5.0.into()), "{line}");
    assert!(line["message"].as_str().unwrap().ends_with("; a second signal ends it at once"), "{line}");
    let line = service.line("still stopping");
    assert_eq!(line["being_answered"], 1, "{line}");
    assert!(line["connections"].as_u64().unwrap() >= 1, "{line}");
    assert!(line["at_most_seconds"].as_f64().unwrap() <= 599.0, "{line}");
    service.signal(Signal::INT);
    service.line("a second signal has come: closes every connection now");
    let (status, log) = service.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("connections were cut"), "{log}");
}

#[test]
fn a_stop_with_no_connection_open_says_so_and_nothing_more() {
    for event_loop in ["auto", "portable"] {
        let directory = tempfile::tempdir().unwrap();
        let mut command = command(directory.path());
        command.env("EVENT_LOOP", event_loop);
        let service = Running::start(command);
        service.signal(Signal::TERM);
        let (status, log) = service.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!(lines.len(), 2, "{log}");
        assert!(lines[0].contains("stopping: no connection is open") && lines[1].contains(r#""stopped""#), "{log}");
    }
}

/// `docker stop` kills after 10 seconds, and the service is told so here. What needs longer is cut, and the log says that.
#[test]
fn a_stop_with_idle_connections_fits_into_what_docker_gives() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path());
    command.env("SHUTDOWN_TIMEOUT", "10s").env("ACCESS_LOG", directory.path().join("access.log"));
    command.env("ADMIN_HOST", "127.0.0.1").env("ADMIN_PORT", "0");
    let service = Running::start(command);
    let mut clients: Vec<_> = (0..60).map(|_| service.connect()).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        match at % 3 {
            0 => assert_eq!(client.ask("POST", "/api/users", &format!(r#"{{"name":"{at}"}}"#)).unwrap().status, 201),
            1 => assert_eq!(client.ask("GET", "/health/live", "").unwrap().status, 200),
            // It has not asked for anything, and never will.
            _ => {}
        }
    }
    let admin = service.ready["admin"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
    let mut monitor = crate::running::Client::connect(admin).unwrap();
    assert_eq!(monitor.ask("GET", "/health/live", "").unwrap().status, 200);
    service.signal(Signal::TERM);
    service.line("stopping: closes each connection after its answer");
    let closed = clients.iter_mut().filter_map(|client| client.is_closed_by_server().then_some(())).count();
    assert_eq!(closed, 60, "each is closed in order, none reset");
    let (status, log) = service.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!log.contains("connections were cut") && log.contains("\"stopped\""), "{log}");
}

#[test]
fn a_delayed_stop_says_first_that_it_is_not_ready_and_later_that_it_closes() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path());
    command.env("SHUTDOWN_DELAY", "1s").env("SHUTDOWN_TIMEOUT", "10m");
    let service = Running::start(command);
    let mut client = service.connect();
    assert_eq!(client.ask("GET", "/health/ready", "").unwrap().status, 200);
    service.signal(Signal::TERM);
    let line = service.line("stopping: serves on as not ready");
    assert_eq!((&line["connections"], &line["delay_seconds"]), (&1.into(), &1.0.into()), "{line}");
    assert_eq!(line["at_most_seconds"], 600.0, "{line}");
    let line = service.line("stopping: closes each connection after its answer");
    assert!(line["at_most_seconds"].as_f64().unwrap() <= 599.0, "the delay is a part of it: {line}");
    drop(client);
    let (status, log) = service.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn a_second_signal_ends_the_delay_of_a_stop_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path());
    command.env("SHUTDOWN_DELAY", "9m").env("SHUTDOWN_TIMEOUT", "10m");
    let service = Running::start(command);
    service.signal(Signal::TERM);
    service.line("stopping: serves on as not ready");
    service.signal(Signal::TERM);
    let (status, log) = service.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("a second signal has come") && !log.contains("stopping: closes"), "{log}");
}
