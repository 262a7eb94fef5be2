//! The dashboard as a browser loads it: the page, what it consists of, and the numbers of a server that is asked.

use axum::Router;
use axum::http::StatusCode;
use baiwan::EventLoop;
use serde_json::Value;

use crate::rig::{Rig, eventually, server};
use crate::{admin, ask, get, json};

fn served(event_loop: EventLoop) -> Rig {
    let app = Router::new()
        .route("/", axum::routing::get(|| async { "hello" }))
        .route("/users/{id}", axum::routing::get(|| async { StatusCode::INTERNAL_SERVER_ERROR }));
    Rig::start(server(event_loop).admin(admin()), app)
}

fn sum(column: &Value) -> u64 {
    column.as_array().unwrap().iter().filter_map(Value::as_u64).sum()
}

#[test]
fn the_page_is_there_with_all_it_consists_of_and_lets_nothing_else_run() {
    let rig = served(EventLoop::Auto);
    let page = get(&rig, "/");
    assert_eq!((page.status, page.field("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.field("content-security-policy").unwrap();
    assert!(policy.contains("script-src 'self'") && !policy.contains("unsafe"), "{policy}");
    for (path, media_type) in [
        ("/dashboard/page.css", "text/css; charset=utf-8"),
        ("/dashboard/page.js", "text/javascript; charset=utf-8"),
        ("/dashboard/charts.js", "text/javascript; charset=utf-8"),
        ("/dashboard/uplot.js", "text/javascript; charset=utf-8"),
        ("/dashboard/uplot.css", "text/css; charset=utf-8"),
        ("/dashboard/data", "application/json"),
    ] {
        let answer = get(&rig, path);
        assert_eq!((answer.status, answer.field("content-type")), (200, Some(media_type)), "{path}");
        assert_eq!(answer.field("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(ask(&rig, "POST", path, "Host: localhost\r\n", "").status, 405, "{path}");
        assert_eq!(ask(&rig, "GET", path, "Host: evil.example\r\n", "").status, 403, "{path}");
    }
    assert_eq!(get(&rig, "/dashboard/else").status, 404);
}

#[test]
fn its_numbers_are_those_of_the_server_second_by_second() {
    for event_loop in [EventLoop::Auto, EventLoop::Portable] {
        let rig = served(event_loop);
        let data = || json(&get(&rig, "/dashboard/data"));
        eventually("a first second is over", || data()["next"].as_u64().unwrap() > 0);
        let begin = data()["next"].as_u64().unwrap();
        let mut client = rig.connect();
        for path in ["/", "/", "/", "/users/1", "/nowhere"] {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
            client.answer(false);
        }
        let since = || json(&get(&rig, &format!("/dashboard/data?after={begin}")));
        let answers = |key: &str| sum(&since()["seconds"]["answers_per_second"][key]);
        eventually("they are counted", || answers("2xx") >= 3 && answers("4xx") > 0 && answers("5xx") > 0);
        let data = data();
        assert_eq!((&data["server"]["phase"], &data["server"]["is_ready"]), (&"serving".into(), &true.into()));
        let newest = |column: &Value| column.as_array().unwrap().last().unwrap().as_u64();
        let connections = data["seconds"]["connections"].as_object().unwrap();
        assert_eq!(connections.values().filter_map(newest).sum::<u64>(), 1, "{connections:?}");
        assert!(newest(&data["seconds"]["resident_bytes"]).unwrap() > 0 || !cfg!(target_os = "linux"));
        let p50 = data["seconds"]["latency_us"]["p50"].as_array().unwrap();
        assert!(p50.iter().any(Value::is_u64), "{p50:?}");
        let routes: Vec<_> = data["routes"].as_array().unwrap().iter().map(|route| &route["route"]).collect();
        assert_eq!(routes, ["/", "/users/{id}", "unmatched"]);
        let errors = data["errors"].as_array().unwrap();
        assert_eq!((errors.len(), &errors[0]["route"], &errors[0]["status"]), (1, &"/users/{id}".into(), &500.into()));
        assert!(data["in_force"].as_array().unwrap().iter().any(|row| row[0] == "REQUEST_TIMEOUT"));
        let columns = data["seconds"]["at_ms"].as_array().unwrap().len();
        assert_eq!(data["seconds"]["lag_p99_us"][0].as_array().unwrap().len(), columns);
    }
}
