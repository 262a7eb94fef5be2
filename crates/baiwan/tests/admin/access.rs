//! Who may see what. All cases of heads are with the verdict itself (`src/admin/access.rs`); here, what comes of it.

use std::sync::{Arc, Mutex};

use axum::Router;
use baiwan::{Admin, EventLoop};

use crate::rig::{Answer, Rig, server};
use crate::{admin, ask, get, json};

const TOKEN: &str = "0123456789abcdef";
/// What everybody may see, and what is the operator's.
const OPEN: [&str; 5] = ["/metrics", "/health", "/health/live", "/health/ready", "/health/startup"];
const OPERATORS: [&str; 3] = ["/", "/clients", "/log-level"];

/// A server whose level of the log is what is stored, and one of two words.
fn start(admin: Admin) -> Rig {
    let level = Arc::new(Mutex::new("info".to_owned()));
    let now = Arc::clone(&level);
    let set = move |text: &str| match text {
        "info" | "debug" => {
            text.clone_into(&mut level.lock().unwrap());
            Ok(())
        }
        _ => Err("info or debug".to_owned()),
    };
    Rig::start(server(EventLoop::Auto).admin(admin.log_level(move || now.lock().unwrap().clone(), set)), Router::new())
}

fn statuses(rig: &Rig, paths: &[&str], fields: &str) -> Vec<u16> {
    paths.iter().map(|path| ask(rig, "GET", path, fields, "").status).collect()
}

fn is_problem(answer: &Answer, words: &str) -> bool {
    answer.field("content-type") == Some("application/problem+json")
        && json(answer)["status"] == answer.status
        && json(answer)["detail"].as_str().unwrap().contains(words)
}

#[test]
fn metrics_and_health_are_for_all_and_the_rest_for_whoever_may() {
    let cases: [(Admin, &str, u16); 9] = [
        (admin(), "Host: localhost\r\n", 200),
        (admin(), "Host: evil.example\r\n", 403),
        (admin(), "Host: localhost\r\nOrigin: http://evil.example\r\n", 403),
        (admin(), "Host: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n", 403),
        (admin(), "Host: 127.0.0.1:9090\r\nX-Forwarded-For: 192.0.2.1\r\n", 403),
        (admin().token(TOKEN), "Host: localhost\r\n", 401),
        (admin().token(TOKEN), "Host: admin.example\r\nAuthorization: Bearer 0123456789abcdef\r\n", 200),
        // The password of whoever: `ada:0123456789abcdef`.
        (admin().token(TOKEN), "Host: admin.example\r\nAuthorization: Basic YWRhOjAxMjM0NTY3ODlhYmNkZWY=\r\n", 200),
        (Admin::bind("0.0.0.0:0"), "Host: localhost\r\n", 404),
    ];
    for (admin, fields, status) in cases {
        let rig = start(admin);
        assert_eq!(statuses(&rig, &OPEN, fields), [200; 5], "{fields:?}");
        assert_eq!(statuses(&rig, &OPERATORS, fields), [status; 3], "{fields:?}");
        // Whoever may not see it does not learn what there is either.
        let nothing = if status == 200 { 404 } else { status };
        assert_eq!(statuses(&rig, &["/nothing"], fields), [nothing], "{fields:?}");
    }
}

#[test]
fn a_browser_is_asked_for_the_token_and_a_refusal_says_what_helps() {
    let rig = start(admin().token(TOKEN));
    let answer = get(&rig, "/");
    assert_eq!(answer.field("www-authenticate"), Some("Basic realm=\"baiwan admin\", charset=\"UTF-8\""));
    assert!(is_problem(&answer, "Bring the token"), "{answer:?}");
    drop(rig);
    let rig = start(admin());
    assert!(is_problem(&ask(&rig, "GET", "/", "Host: a.example\r\n", ""), "localhost"));
    assert!(is_problem(&ask(&rig, "GET", "/", "Host: localhost\r\nVia: 1.1 proxy\r\n", ""), "ADMIN_TOKEN"));
    assert!(is_problem(&get(&rig, "/nothing"), "nothing at this path"));
    let answer = ask(&rig, "POST", "/metrics", "Host: localhost\r\n", "");
    assert_eq!((answer.status, answer.field("allow")), (405, Some("GET, HEAD")));
    let answer = ask(&rig, "DELETE", "/log-level", "Host: localhost\r\n", "");
    assert_eq!((answer.status, answer.field("allow")), (405, Some("GET, HEAD, PUT")));
    assert_eq!(ask(&rig, "POST", "/", "Host: localhost\r\n", "").status, 405);
    assert_eq!(ask(&rig, "HEAD", "/health", "Host: localhost\r\n", "").status, 200);
}

#[test]
fn no_answer_is_kept_guessed_or_framed_by_a_browser() {
    let rig = start(admin());
    for path in OPEN.iter().chain(&OPERATORS).chain(&["/nothing"]) {
        let answer = get(&rig, path);
        assert_eq!(answer.field("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.field("cache-control"), Some("no-store"), "{path}");
        assert!(answer.field("content-security-policy").unwrap().contains("frame-ancestors 'none'"), "{path}");
        assert_eq!(answer.field("access-control-allow-origin"), None, "{path}");
    }
}

#[test]
fn the_level_of_the_log_changes_for_whoever_may() {
    let rig = start(admin());
    let put = |body: &str| ask(&rig, "PUT", "/log-level", "Host: localhost\r\n", body);
    assert_eq!(get(&rig, "/log-level").text(), "info\n");
    assert_eq!((put("debug\n").status, get(&rig, "/log-level").text()), (200, "debug\n"));
    let answer = put("loud");
    assert_eq!(answer.status, 400);
    assert!(is_problem(&answer, "info or debug"), "{answer:?}");
    assert_eq!(put(&"x".repeat(5000)).status, 413);
    assert_eq!(put("\u{fffd}").status, 400);
    let page = "Host: localhost\r\nOrigin: http://evil.example\r\n";
    assert_eq!(ask(&rig, "PUT", "/log-level", page, "info").status, 403);
    assert_eq!(get(&rig, "/log-level").text(), "debug\n");
    drop(rig);
    let without = Rig::start(server(EventLoop::Auto).admin(admin()), Router::new());
    assert_eq!(get(&without, "/log-level").status, 404, "the program gave no way");
}

#[test]
fn metrics_come_as_the_scraper_likes_them() {
    let rig = start(admin());
    let answer = get(&rig, "/metrics");
    assert_eq!(answer.field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let answer = ask(&rig, "GET", "/metrics", "Host: a\r\nAccept: application/openmetrics-text\r\n", "");
    assert_eq!(answer.field("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(answer.text().ends_with("# EOF\n"));
}

#[cfg(target_os = "linux")]
#[test]
fn whoever_holds_connections_is_listed() {
    let rig = start(admin());
    let held: Vec<_> = (0..3).map(|_| rig.connect()).collect();
    let expected = serde_json::json!([{"client": "127.0.0.1", "count": 3}]);
    // A table that changes while it is read may show a connection twice, and a long one is not read to its end; a look is kept for 5 seconds.
    let mut connections = serde_json::Value::Null;
    for _ in 0..200 {
        let answer = get(&rig, "/clients");
        assert_eq!(answer.status, 200);
        connections = json(&answer)["connections"].clone();
        if connections["clients"] == expected && connections["complete"] == true {
            break;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(100));
    }
    assert_eq!(connections["clients"], expected, "{connections}");
    assert_eq!((&connections["counted"], &connections["complete"]), (&3.into(), &true.into()));
    let answer = ask(&rig, "GET", "/clients", "Host: localhost\r\nAccept: text/html\r\n", "");
    assert!(answer.text().contains("connections held, of 3\n           3  127.0.0.1\n"), "{}", answer.text());
    drop(held);
}
