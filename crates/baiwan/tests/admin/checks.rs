//! Checks of the app's own, as `/health` shows them.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use axum::Router;
use baiwan::EventLoop;

use crate::blocked::lines;
use crate::rig::{Rig, eventually, server};
use crate::{admin, get, json};

#[test]
fn a_check_that_fails_is_named_and_one_that_is_required_makes_the_server_not_ready() {
    let is_there = Arc::new(AtomicBool::new(true));
    let looks = Arc::clone(&is_there);
    let check = move || {
        let is_there = looks.load(Relaxed);
        async move { if is_there { Ok(()) } else { Err("connection refused") } }
    };
    lines(&[]);
    let admin = admin().required_check("queue-of-this-test", check).check("always", || async { Ok::<_, String>(()) });
    let rig = Rig::start(server(EventLoop::Auto).admin(admin), Router::new());
    let is_ok = |check: &str| json(&get(&rig, "/health"))["checks"][check] == "ok";
    eventually("all is well", || is_ok("queue-of-this-test") && is_ok("always"));
    let health = json(&get(&rig, "/health"));
    assert_eq!(health["checks"], serde_json::json!({"server": "ok", "queue-of-this-test": "ok", "always": "ok"}));
    assert_eq!((&health["status"], health["uptime_seconds"].is_u64()), (&"healthy".into(), true));
    assert!(health["timestamp"].as_str().unwrap().ends_with('Z'), "{health}");
    assert_eq!(get(&rig, "/health/ready").status, 200);
    let shows = |line: &str| get(&rig, "/metrics").text().lines().any(|shown| shown == line);
    assert!(shows("baiwan_health_check_up{check=\"queue-of-this-test\"} 1") && shows("baiwan_ready 1"));
    is_there.store(false, Relaxed);
    eventually("it fails", || get(&rig, "/health").status == 503);
    let health = json(&get(&rig, "/health"));
    assert_eq!((&health["status"], &health["checks"]["queue-of-this-test"]), (&"unhealthy".into(), &"failed".into()));
    assert_eq!(get(&rig, "/health/ready").status, 503);
    assert!(shows("baiwan_health_check_up{check=\"queue-of-this-test\"} 0") && shows("baiwan_live 1"));
    assert!(shows("baiwan_ready 0"), "a scrape says what /health/ready does");
    assert_eq!(get(&rig, "/health/live").status, 200, "a restart would not help");
    let said = lines(&["WARN", "a health check fails", "queue-of-this-test"]);
    assert!(said.len() == 1 && said[0].contains("connection refused"), "{said:?}");
    is_there.store(true, Relaxed);
    eventually("it is back", || get(&rig, "/health").status == 200);
    assert_eq!(lines(&["INFO", "a health check succeeds again", "queue-of-this-test"]).len(), 1);
}

/// Says when it was dropped, and whether by a panic.
struct Dropped(SyncSender<bool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.try_send(std::thread::panicking());
    }
}

/// A timer that is polled after its runtime has ended panics.
#[test]
fn a_check_that_hangs_ends_with_the_server_and_without_a_panic() {
    let ((begun, begins), (end, ends)) = (sync_channel(1), sync_channel(1));
    let hang = move || {
        let dropped = Dropped(end.clone());
        let begun = begun.clone();
        async move {
            let _dropped = dropped;
            let _ = begun.try_send(());
            std::future::pending::<Result<(), String>>().await
        }
    };
    let rig = Rig::start(server(EventLoop::Auto).admin(admin().check("hangs", hang)), Router::new());
    begins.recv().unwrap();
    rig.stop();
    assert_eq!(ends.try_recv(), Ok(false), "it has ended, and did not panic");
}

#[test]
fn a_check_that_blocks_its_thread_holds_up_neither_an_answer_nor_the_end() {
    let (release, gate) = sync_channel::<()>(0);
    let gate = Mutex::new(gate);
    let block = move || {
        let _ = gate.lock().unwrap().recv();
        async { Ok::<_, String>(()) }
    };
    let rig = Rig::start(server(EventLoop::Auto).admin(admin().check("blocks", block)), Router::new());
    assert_eq!(get(&rig, "/health/live").status, 200);
    eventually("it counts as failed", || json(&get(&rig, "/health"))["checks"]["blocks"] == "failed");
    assert_eq!(get(&rig, "/health/ready").status, 200, "it is not required");
    rig.stop();
    drop(release);
}
