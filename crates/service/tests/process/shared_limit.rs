//! Instances that share their rate limit in a real Redis, one of them over TLS.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::postgres::certificates::{Authority, Oddity};
use crate::running::{Running, command, eventually};

#[allow(dead_code, reason = "each test uses a part of it")]
#[path = "../../../limits/tests/redis/server.rs"]
mod redis;

/// Statuses of as many answers, of each instance in turn.
fn statuses(services: [&Running; 2], count: usize) -> Vec<u16> {
    let mut clients = services.map(Running::connect);
    (0..count).map(|at| clients[at % 2].ask("GET", "/openapi.json", "").unwrap().status).collect()
}

fn instance(directory: &Path, authority: &Authority, name: &str, store: &str) -> Running {
    let directory = directory.join(name);
    fs::create_dir_all(&directory).unwrap();
    let mut command = command(&directory);
    command.env("RATE_LIMIT", "20/h").env("RATE_LIMIT_STORE", store).env("CORS_ORIGINS", "https://app.example.org");
    command.env("RATE_LIMIT_INSTANCES", "2").env("SSL_CERT_FILE", authority.own().certificate);
    let service = Running::start(command);
    let there = "the store of rate limits is there";
    eventually("it has the store", || {
        service.said_before.iter().any(|line| line["message"] == there) || service.log().contains(there)
    });
    service
}

#[test]
fn instances_share_a_budget_also_over_tls_and_go_on_by_themselves_without_the_store() {
    if !redis::is_installed() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let made = authority.certificate("IP:127.0.0.1", Oddity::None);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (certificate, key) = (made.certificate.to_str().unwrap(), made.key.to_str().unwrap());
    let tls = ["--tls-port", &port.to_string(), "--tls-cert-file", certificate, "--tls-key-file", key];
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = redis::Server::try_start(free, &[&tls[..], &["--tls-auth-clients", "no"]].concat()).unwrap();
    let plain = instance(directory.path(), &authority, "plain", &server.url());
    let secure = instance(directory.path(), &authority, "secure", &format!("rediss://127.0.0.1:{port}"));

    let health: Vec<_> = (0..30).map(|_| plain.connect().ask("GET", "/health/live", "").unwrap().status).collect();
    assert_eq!(health, [200; 30], "health never counts");
    let statuses_of_both = statuses([&plain, &secure], 30);
    let allowed = statuses_of_both.iter().filter(|status| **status == 200).count();
    assert!(statuses_of_both.iter().all(|status| [200, 429].contains(status)), "{statuses_of_both:?}");
    // A check that took longer than it may is decided by the instance itself.
    assert!((20..=22).contains(&allowed), "{allowed}: {statuses_of_both:?}");

    drop(server);
    plain.line("the store of rate limits is away");
    let without = statuses([&plain, &secure], 60);
    assert!(without.iter().all(|status| [200, 429].contains(status)), "{without:?}");
    let allowed = without.iter().filter(|status| **status == 200).count();
    assert!((18..=20).contains(&allowed), "each has half of the budget: {allowed}");
    for service in [plain, secure] {
        service.signal(Signal::TERM);
        let (status, log) = service.wait();
        assert_eq!(status.code(), Some(0), "{log}");
    }
}

#[test]
fn a_store_that_is_none_is_refused_without_its_password() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path());
    let output = command.env("RATE_LIMIT_STORE", "http://ada:secret@host").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("RATE_LIMIT_STORE") && said.contains("redis://") && !said.contains("secret"), "{said}");
}
