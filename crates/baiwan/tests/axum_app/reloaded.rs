//! A program that changes settings of its server while that runs.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use baiwan::{Builder, Error, EventLoop, Health};

use crate::rig::{Client, Rig, eventually, server};

const SECOND: Duration = Duration::from_secs(1);

fn app() -> Router {
    Router::new().route("/", get(|| async { "hello" })).route("/never", get(std::future::pending::<&str>))
}

fn limited(event_loop: EventLoop, quota: Option<&str>) -> Builder {
    server(event_loop).workers(2).rate_limit(quota.map(|quota| quota.parse().unwrap()))
}

pub(crate) fn a_program_changes_limits_and_timeouts_and_no_connection_closes(event_loop: EventLoop) {
    let rig = Rig::start(limited(event_loop, None), app());
    let reloader = rig.running.reloader();
    // Of both cores, as good as certainly.
    let mut clients: Vec<Client<_>> = (0..32).map(|_| rig.connect()).collect();
    assert!(clients.iter_mut().all(|client| client.get("/").status == 200));
    assert_eq!(reloader.reload(limited(event_loop, Some("1/h"))).unwrap(), ["RATE_LIMIT"]);
    let mut refused = |status| clients.iter_mut().all(|client| client.get("/").status == status);
    eventually("every core follows", || refused(429));
    let changed = reloader.reload(limited(event_loop, None).request_timeout(Some(SECOND))).unwrap();
    assert_eq!(changed, ["RATE_LIMIT", "REQUEST_TIMEOUT"]);
    eventually("every core follows", || refused(200));
    for client in &mut clients {
        client.send("GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    assert!(clients.iter_mut().all(|client| client.answer(false).status == 503));
    assert!(reloader.reload(limited(event_loop, None).request_timeout(Some(SECOND))).unwrap().is_empty());
}

pub(crate) fn what_cannot_change_is_refused_and_nothing_changes(event_loop: EventLoop) {
    let rig = Rig::start(limited(event_loop, None), app());
    let reloader = rig.running.reloader();
    let wrong = limited(event_loop, Some("1/h")).workers(3).shutdown_idle(SECOND).max_connections(10);
    let error = reloader.reload(wrong).unwrap_err();
    let Error::NeedsRestart { names } = &error else { panic!("{error}") };
    assert_eq!(names, &["WORKERS", "MAX_CONNECTIONS", "SHUTDOWN_IDLE"]);
    assert_eq!(
        error.to_string(),
        "WORKERS, MAX_CONNECTIONS, SHUTDOWN_IDLE cannot change while the server runs, so nothing was changed: that needs a restart"
    );
    let wrong = limited(event_loop, Some("1/h")).client_ip_header("x-real-ip".parse().unwrap());
    let error = reloader.reload(wrong).unwrap_err().to_string();
    assert!(error.starts_with("CLIENT_IP_HEADER is \"x-real-ip\"; allowed is off, unless TRUSTED_PROXIES"), "{error}");
    let mut client = rig.connect();
    assert!((0..3).all(|_| client.get("/").status == 200));
    let health: Health = rig.health.clone();
    drop((client, rig));
    assert!(reloader.reload(limited(event_loop, Some("1/h"))).is_ok(), "nobody follows any more");
    assert_eq!(health.counts().rate_limited, 0);
}
