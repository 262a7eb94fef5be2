//! Instances that share their rate limit in a real Redis, one of them over TLS.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::admin_side::with_admin;
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
fn observers_tell_of_a_shared_limit_as_of_one_of_the_event_loop_and_whether_its_store_answers() {
    if !redis::is_installed() {
        return;
    }
    for event_loop in ["auto", "portable"] {
        let (directory, server) = (tempfile::tempdir().unwrap(), redis::Server::start());
        let log = directory.path().join("access.log");
        let mut command = with_admin(directory.path());
        // In a second less than one request comes back.
        command.env("RATE_LIMIT", "1").env("RATE_LIMIT_STORE", server.url()).env("EVENT_LOOP", event_loop);
        command.env("ACCESS_LOG", &log);
        let service = Running::start(command);
        let sample = |name: &str| {
            let scrape = String::from_utf8(service.admin("/metrics").body).unwrap();
            let value = scrape.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok());
            value.unwrap_or_else(|| panic!("{name} is not in\n{scrape}"))
        };
        eventually("the store answers", || sample("baiwan_rate_limit_store_up") == 1.0);
        assert_eq!(sample("baiwan_rate_limit_per_second"), 1.0);
        let (mut client, mut statuses) = (service.connect(), Vec::new());
        // A check that took longer than it may is decided by the instance itself, which allows one more.
        while !statuses.contains(&429) {
            client.send(&b"GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n".repeat(2)).unwrap();
            statuses.extend([(); 2].map(|()| client.answer("GET").unwrap().status));
        }
        let refused = statuses.iter().filter(|status| **status == 429).count();
        let denied = r#"baiwan_requests_denied_total{reason="rate-limited"}"#;
        eventually("it is counted", || sample(denied) == refused as f64);
        for (decision, expected) in [("allowed", statuses.len() - refused), ("refused", refused), ("reported", 0)] {
            let name = format!(r#"baiwan_rate_limit_decisions_total{{decision="{decision}"}}"#);
            assert_eq!(sample(&name), expected as f64, "{name}");
        }
        let refusals = service.admin("/clients").json()["refusals"][0].clone();
        assert_eq!(refusals, json!({"client": "127.0.0.1", "count": refused}));
        let in_force = service.admin("/dashboard/data").json()["in_force"].clone();
        assert!(in_force.as_array().unwrap().contains(&json!(["RATE_LIMIT", "1/s"])), "{in_force}");
        let mut line = Value::Null;
        eventually("the log has a line of it", || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let found = lines.find(|line| line["http.response.status_code"] == 429);
            found.is_some_and(|found| {
                line = found;
                true
            })
        });
        assert_eq!((&line["outcome"], &line["denied"]), (&json!("denied"), &json!("rate-limited")), "{line}");

        let undecided = sample("baiwan_rate_limit_store_undecided_total");
        drop(server);
        eventually("the store is away", || sample("baiwan_rate_limit_store_up") == 0.0);
        let refused = refused + usize::from(client.ask("GET", "/openapi.json", "").unwrap().status == 429);
        eventually("it is counted", || sample("baiwan_rate_limit_store_undecided_total") == undecided + 1.0);
        service.signal(Signal::TERM);
        let (_, log) = service.wait();
        assert!(log.contains(&format!("\"rate-limited={refused}\"")), "the sum has each once: {log}");
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
