//! The access log of an app of one's own: every exchange is in it, and nothing that a client sends breaks a line.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use baiwan::{AccessLog, AccessLogFormat, EventLoop};
use serde_json::{Value, json};

use crate::rig::{Rig, eventually, server};

fn app() -> Router {
    Router::new()
        .route("/users/{id}", get(|| async { "a user" }))
        .route("/fails", get(|| async { StatusCode::INTERNAL_SERVER_ERROR }))
}

/// The lines of a log, each of which must be one JSON object of printable ASCII.
fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read(path).unwrap_or_default();
    assert!(text.iter().all(|byte| matches!(byte, b'\n' | b' '..=b'~')), "{}", String::from_utf8_lossy(&text));
    let text = String::from_utf8(text).unwrap();
    // The last may still be on its way.
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// How many exchanges the lines stand for, and how many were lost.
fn told(lines: &[Value]) -> [u64; 2] {
    let lost = lines.iter().filter_map(|line| line["dropped"].as_u64()).sum();
    let of_line = |line: &Value| if line["dropped"].is_null() { line["sampled"].as_u64().unwrap_or(1) } else { 0 };
    [lines.iter().map(of_line).sum(), lost]
}

pub(crate) fn a_line_says_what_an_exchange_was(event_loop: EventLoop) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let rig = Rig::start(server(event_loop).access_log(AccessLog::file(&path)).request_ids(true), app());
    let mut client = rig.connect();
    let port = client.local_address().port();
    let secrets = "Cookie: secret\r\nAuthorization: Bearer secret\r\nX-Request-Id: abc\r\n";
    assert_eq!(client.ask("GET", "/users/7?token=secret", secrets, "").status, 200);
    eventually("the line is written", || !lines(&path).is_empty());
    let mut line = lines(&path).remove(0);
    let [time, duration] = ["timestamp", "duration_ms"].map(|name| line[name].take());
    assert!(time.as_str().unwrap().len() == 27 && duration.as_f64().unwrap() < 60_000.0, "{time} {duration}");
    let sizes = ["http.request.size", "http.response.size"].map(|name| line[name].take().as_u64().unwrap());
    assert!(sizes[0] > 60 && sizes[1] > 60, "{sizes:?}");
    let expected = json!({
        "timestamp": null, "http.request.method": "GET", "url.path": "/users/7", "http.route": "/users/{id}",
        "http.response.status_code": 200, "duration_ms": null, "client.address": "127.0.0.1", "client.port": port,
        "http.request.size": null, "http.response.size": null, "request_id": "abc", "outcome": "answered",
    });
    assert_eq!(line, expected);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0, "at most 0640");
    drop(client);
    rig.stop();
}

pub(crate) fn every_exchange_is_a_line_when_the_server_has_stopped(event_loop: EventLoop) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let log = AccessLog::file(&path).sample_above(None);
    let rig = Rig::start(server(event_loop).access_log(log), app());
    let mut exchanges = 0;
    for _ in 0..20 {
        let mut client = rig.connect();
        for path in ["/users/1", "/none", "/fails"].into_iter().cycle().take(50) {
            client.get(path);
            exchanges += 1;
        }
        client.send("GET / HTTP/1.1\r\nHost: test\r\nno colon\r\n\r\n");
        assert_eq!(client.answer(false).status, 400);
        exchanges += 1;
    }
    rig.stop();
    let lines = lines(&path);
    assert_eq!((lines.len() as u64, told(&lines)), (exchanges, [exchanges, 0]));
    assert_eq!(lines.iter().filter(|line| line["http.response.status_code"] == 400).count(), 20);
}

pub(crate) fn row_62_failures_are_always_there_and_the_rest_in_part(event_loop: EventLoop) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let rig = Rig::start(server(event_loop).access_log(AccessLog::file(&path).sample_above(Some(1))), app());
    let mut client = rig.connect();
    let (mut exchanges, mut failures) = (0, 0);
    eventually("only a part is written", || {
        for _ in 0..9 {
            assert_eq!(client.get("/users/1").status, 200);
        }
        assert_eq!(client.get("/fails").status, 500);
        (exchanges, failures) = (exchanges + 10, failures + 1);
        lines(&path).iter().any(|line| line["sampled"].as_u64().is_some_and(|count| count > 5))
    });
    drop(client);
    rig.stop();
    let lines = lines(&path);
    // What no line stands for at the end is told as lost.
    assert_eq!(told(&lines).iter().sum::<u64>(), exchanges);
    assert!((lines.len() as u64) < exchanges);
    let failed: Vec<_> = lines.iter().filter(|line| line["http.response.status_code"] == 500).collect();
    assert_eq!(failed.len(), failures);
    assert!(failed.iter().all(|line| line["sampled"].is_null()));
}

pub(crate) fn row_62_nothing_that_a_client_sends_breaks_a_line(event_loop: EventLoop) {
    let long = "x".repeat(2000);
    let megabyte = "y".repeat(1 << 20);
    let directory = tempfile::tempdir().unwrap();
    for format in [AccessLogFormat::Json, AccessLogFormat::Text] {
        let path = directory.path().join(format!("{format:?}"));
        let log = AccessLog::file(&path).format(format);
        let rig = Rig::start(server(event_loop).access_log(log).request_ids(true), app());
        let mut exchanges = 0;
        for target in [
            &b"/a\rb"[..],
            b"/a\nb",
            b"/a\0b",
            b"/%0d%0a{\"level\":\"x\"}",
            b"/\"},{\"a\":\"b",
            b"/\\",
            b"/\x1b[2J\x1b]0;title\x07",
            b"/%1b%5b2J",
            "/\u{202e}gpj.exe".as_bytes(),
            "/\u{2028}\u{2029}".as_bytes(),
            b"/%e2%80%ae",
            b"/\xff\xfe",
            b"/%ff%fe",
            b"/\x9b31m",
            long.as_bytes(),
            format!("/{long}").as_bytes(),
        ] {
            for fields in ["", "User-Agent: \x1b[2J\r\n", "X-Request-Id: a\"b\x1b\r\n", "X-Request-Id: a\r\n b\r\n"] {
                let mut client = rig.connect();
                client.send([b"GET ", target, b" HTTP/1.1\r\nHost: test\r\n", fields.as_bytes(), b"\r\n"].concat());
                let answer = client.answer(false);
                assert!(matches!(answer.status, 400 | 404), "{target:?} {answer:?}");
                exchanges += 1;
            }
        }
        // Nobody sends all of it: the server has answered before, and closes.
        let mut client = rig.connect();
        let sender = client.sender();
        let text = format!("GET / HTTP/1.1\r\nHost: test\r\nX-Request-Id: {megabyte}\r\n\r\n");
        let sending = std::thread::spawn(move || _ = std::io::Write::write_all(&mut &sender, text.as_bytes()));
        assert_eq!(client.answer(false).status, 431);
        exchanges += 1;
        drop(client);
        sending.join().unwrap();
        rig.stop();
        let text = std::fs::read(&path).unwrap();
        assert!(text.iter().all(|byte| matches!(byte, b'\n' | b' '..=b'~')), "{}", String::from_utf8_lossy(&text));
        assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), exchanges, "{}", String::from_utf8_lossy(&text));
        if format == AccessLogFormat::Json {
            let lines = lines(&path);
            assert!(lines.iter().all(|line| line["url.path"].as_str().is_none_or(|path| path.len() <= 256)));
            assert!(lines.iter().any(|line| line["url.path"].as_str().is_some_and(|path| path.len() == 256)));
        }
    }
}

pub(crate) fn a_file_that_was_moved_away_is_opened_anew(event_loop: EventLoop) {
    let directory = tempfile::tempdir().unwrap();
    let [path, moved] = ["access.log", "access.log.1"].map(|name| directory.path().join(name));
    let rig = Rig::start(server(event_loop).access_log(AccessLog::file(&path)), app());
    let mut client = rig.connect();
    client.get("/users/1");
    eventually("the line is written", || lines(&path).len() == 1);
    std::fs::rename(&path, &moved).unwrap();
    let mut exchanges = 1;
    eventually("there is a new file", || {
        client.get("/users/1");
        exchanges += 1;
        !lines(&path).is_empty()
    });
    std::fs::remove_file(&path).unwrap();
    eventually("there is another", || {
        client.get("/users/1");
        !lines(&path).is_empty()
    });
    assert!(!lines(&moved).is_empty());
    drop(client);
    rig.stop();
}

pub(crate) fn a_file_that_cannot_be_opened_costs_its_lines_and_is_tried_again(event_loop: EventLoop) {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("later");
    let path = folder.join("access.log");
    let rig = Rig::start(server(event_loop).access_log(AccessLog::file(&path).sample_above(None)), app());
    let mut client = rig.connect();
    let mut exchanges = 0;
    // Long enough for the writer to look.
    for _ in 0..50 {
        assert_eq!(client.get("/users/1").status, 200);
        exchanges += 1;
        std::thread::park_timeout(Duration::from_millis(10));
    }
    std::fs::create_dir(&folder).unwrap();
    eventually("the file is there", || {
        client.get("/users/1");
        exchanges += 1;
        !lines(&path).is_empty()
    });
    drop(client);
    rig.stop();
    let [written, lost] = told(&lines(&path));
    assert_eq!(written + lost, exchanges);
    assert!(lost > 0, "{written}");
}

pub(crate) fn the_log_of_a_switched_connection_has_its_101(event_loop: EventLoop) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let switch = |upgrade: axum::extract::ws::WebSocketUpgrade| async { upgrade.on_upgrade(|_| async {}) };
    let rig = Rig::start(
        server(event_loop).access_log(AccessLog::file(&path)).request_ids(true),
        Router::new().route("/switch", axum::routing::any(switch)),
    );
    let mut client = rig.connect();
    client.send(
        "GET /switch HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    let head = client.head();
    assert_eq!(head.status, 101);
    drop(client);
    rig.stop();
    let lines = lines(&path);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["http.response.status_code"], 101);
    assert_eq!(lines[0]["request_id"].as_str(), head.field("x-request-id"));
}
