//! The rate limit of the ready service: whom it exempts by default and where one was set, and that the start says so.

use crate::running::{Client, Running, command};

/// The service with these settings.
fn start(settings: &[(&str, &str)]) -> (tempfile::TempDir, Running) {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path());
    command.envs(settings.iter().copied());
    let running = Running::start(command);
    (directory, running)
}

fn statuses(client: &mut Client, path: &str, count: usize) -> Vec<u16> {
    (0..count).map(|_| client.ask("GET", path, "").unwrap().status).collect()
}

#[test]
fn by_default_this_machine_may_ask_as_often_as_it_likes() {
    let (_directory, service) = start(&[]);
    let said = service.ready["rate_limit"].as_str().unwrap();
    assert_eq!(said, "100/s from each client (RATE_LIMIT; off turns it off), but not from this machine");
    let mut client = service.connect();
    for _ in 0..20 {
        client.send(&b"GET /api/users HTTP/1.1\r\nhost: a\r\n\r\n".repeat(50)).unwrap();
        assert!((0..50).all(|_| client.answer("GET").unwrap().status == 200));
    }
}

#[test]
fn a_limit_that_is_set_counts_for_this_machine_too_unless_that_is_exempt() {
    for event_loop in ["auto", "portable"] {
        let (_directory, service) =
            start(&[("RATE_LIMIT", "5/h"), ("CORS_ORIGINS", "https://a.org"), ("EVENT_LOOP", event_loop)]);
        let said = service.ready["rate_limit"].as_str().unwrap();
        assert_eq!(said, "5/h from each client (RATE_LIMIT; off turns it off)");
        let mut client = service.connect();
        assert_eq!(statuses(&mut client, "/api/users", 7), [200, 200, 200, 200, 200, 429, 429]);
        assert_eq!(statuses(&mut client, "/health", 3), [200; 3], "health is never limited");
        let body = r#"{"name":"Ada"}"#;
        let refused = client.ask("POST", "/api/users", body).unwrap();
        assert_eq!((refused.status, &refused.json()["violated-policies"][0]), (429, &"default".into()));
        assert!(
            refused.head.contains("\r\nretry-after: ") && refused.head.contains("\r\nvary: origin\r\n"),
            "{refused:?}"
        );
        client.send(b"OPTIONS /api/users HTTP/1.1\r\nhost: a\r\norigin: https://a.org\r\naccess-control-request-method: PUT\r\n\r\n").unwrap();
        assert_eq!(client.answer("OPTIONS").unwrap().status, 200, "what a browser asks by itself is not limited");
        client.send(b"GET /api/users HTTP/1.1\r\nhost: a\r\norigin: https://a.org\r\n\r\n").unwrap();
        let refused = client.answer("GET").unwrap();
        assert!(refused.head.contains("\r\naccess-control-allow-origin: https://a.org\r\n"), "{refused:?}");
        let exposed = "\r\naccess-control-expose-headers: retry-after, ratelimit, ratelimit-policy, x-request-id\r\n";
        assert!(refused.status == 429 && refused.head.contains(exposed), "{refused:?}");
    }
    let (_directory, service) = start(&[("RATE_LIMIT", "5/h"), ("RATE_LIMIT_EXEMPT", "127.0.0.0/8")]);
    assert_eq!(statuses(&mut service.connect(), "/api/users", 20), [200; 20]);
}

#[test]
fn report_mode_says_what_it_would_refuse_and_refuses_nothing() {
    let (_directory, service) = start(&[("RATE_LIMIT", "5/h"), ("RATE_LIMIT_MODE", "report")]);
    assert_eq!(statuses(&mut service.connect(), "/api/users", 20), [200; 20]);
    let line = service.line("RATE_LIMIT_MODE=report");
    assert_eq!((&line["level"], &line["client"], &line["limit"]), (&"WARN".into(), &"127.0.0.1".into(), &"5/h".into()));
}
