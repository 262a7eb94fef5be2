//! Handlers that block every core.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::routing::get as on_get;
use baiwan::EventLoop;

use crate::rig::{Client, Rig, eventually, server};
use crate::{admin, get, json};

const CORES: usize = 2;
/// Where the system spreads connections over listeners, this number misses one of two cores once in 10^9.
const CLIENTS: usize = 32;

/// What the servers of this process have said.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines of the log so far that hold all of the words.
pub(crate) fn lines(words: &[&str]) -> Vec<String> {
    static LINES: OnceLock<Lines> = OnceLock::new();
    let lines = LINES.get_or_init(|| {
        let lines = Lines::default();
        let writer = lines.clone();
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).init();
        lines
    });
    let text = String::from_utf8_lossy(&lines.0.lock().unwrap()).into_owned();
    text.lines().filter(|line| words.iter().all(|word| line.contains(word))).map(ToOwned::to_owned).collect()
}

/// Cores that a handler holds, by the names of their threads, until they are released.
struct Blocked {
    cores: Mutex<BTreeSet<String>>,
    gate: Mutex<Receiver<()>>,
}

/// An app whose handler blocks its core, and what releases all of them for good.
fn app() -> (Router, Arc<Blocked>, SyncSender<()>) {
    let (release, gate) = sync_channel(0);
    let blocked = Arc::new(Blocked { cores: Mutex::default(), gate: Mutex::new(gate) });
    let blocks = Arc::clone(&blocked);
    let block = move || {
        let blocks = Arc::clone(&blocks);
        async move {
            let core = std::thread::current().name().unwrap().to_owned();
            blocks.cores.lock().unwrap().insert(core);
            // Fails when the other side is dropped, now or later.
            let _ = blocks.gate.lock().unwrap().recv();
        }
    };
    (Router::new().route("/block/{how}", on_get(block)), blocked, release)
}

/// A server all of whose connections are taken, and all of whose cores are blocked; and what releases them.
fn blocked(event_loop: EventLoop, live_timeout: Duration) -> (Rig, Vec<Client<std::net::TcpStream>>, SyncSender<()>) {
    lines(&[]);
    let (app, blocked, release) = app();
    let builder = server(event_loop).workers(CORES).max_connections(CLIENTS as u64).live_timeout(live_timeout);
    let rig = Rig::start(builder.admin(admin()), app);
    let address = rig.address();
    let ask = || {
        let mut client = Client::connect(&address);
        client.send("GET /block/all HTTP/1.1\r\nHost: test\r\n\r\n");
        client
    };
    // Where cores share one listener, one core may take all that have come at once. When it is blocked, the rest is the other's.
    let first = ask();
    eventually("a core is blocked", || !blocked.cores.lock().unwrap().is_empty());
    let clients: Vec<_> = std::iter::once(first).chain((1..CLIENTS).map(|_| ask())).collect();
    eventually("every core is blocked", || blocked.cores.lock().unwrap().len() == CORES);
    (rig, clients, release)
}

/// The value of a metric; 0 where there is none.
fn metric(rig: &Rig, name: &str) -> u64 {
    let scrape = get(rig, "/metrics");
    let value = scrape.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}

#[test]
fn row_99_polls_that_keep_their_core_are_counted_by_route_and_others_are_not() {
    for event_loop in [EventLoop::Auto, EventLoop::Portable] {
        let at_once = || async { keep_core() };
        let later = || async {
            tokio::task::yield_now().await;
            keep_core();
        };
        let waits = || tokio::time::sleep(Duration::from_millis(30));
        let app = Router::new()
            .route("/at-once", on_get(at_once))
            .route("/later", on_get(later))
            .route("/waits", on_get(waits));
        let builder = server(event_loop).slow_poll(Some(Duration::from_millis(10)));
        let rig = Rig::start(builder.admin(admin()), app);
        let mut client = rig.connect();
        for path in ["/at-once", "/later", "/waits"] {
            assert_eq!(client.get(path).status, 200);
        }
        let count = |route: &str| metric(&rig, &format!("baiwan_slow_polls_total{{route=\"{route}\"}}"));
        eventually("each is counted", || [count("/at-once"), count("/later")] == [1, 1]);
        assert_eq!(count("/waits"), 0, "{event_loop:?}");
    }
}

fn keep_core() {
    std::thread::park_timeout(Duration::from_millis(30));
}

/// One after the other, because they look for the same lines of one log.
#[test]
fn row_99_cores_that_are_blocked_are_named_once_with_the_route_and_the_server_lives_on() {
    for event_loop in [EventLoop::Epoll, EventLoop::Portable] {
        if event_loop == EventLoop::Epoll && !cfg!(all(target_os = "linux", not(baiwan_portable))) {
            continue;
        }
        let route = "route=\"/block/{how}\"";
        let (named, freed) = (&["ERROR", "a core is blocked", route], &["WARN", "a core turns again", route]);
        let before = (lines(named).len(), lines(freed).len());
        let (rig, clients, release) = blocked(event_loop, Duration::from_secs(30));
        for path in ["/health/live", "/health", "/health/startup", "/metrics", "/clients"] {
            assert_eq!(get(&rig, path).status, 200, "{event_loop:?} {path}");
        }
        eventually("both cores are named", || lines(named).len() - before.0 == CORES);
        assert_eq!(get(&rig, "/health/live").status, 200, "{event_loop:?}");
        assert_eq!(metric(&rig, "baiwan_stuck_cores"), CORES as u64);
        drop(release);
        eventually("both turn again", || lines(freed).len() - before.1 == CORES);
        assert_eq!(lines(named).len() - before.0, CORES, "once each: {:?}", lines(named));
        assert_eq!(metric(&rig, "baiwan_core_stuck_total{route=\"/block/{how}\"}"), CORES as u64);
        eventually("both are counted", || {
            metric(&rig, "baiwan_slow_polls_total{route=\"/block/{how}\"}") >= CORES as u64
        });
        assert_eq!(metric(&rig, "baiwan_stuck_cores"), 0);
        drop(clients);
        rig.stop();
    }
}

#[test]
fn row_99_a_core_that_is_blocked_for_the_live_timeout_makes_the_server_one_that_does_not_live() {
    for event_loop in [EventLoop::Auto, EventLoop::Portable] {
        let (rig, clients, release) = blocked(event_loop, Duration::from_millis(100));
        eventually("it counts as dead", || get(&rig, "/health/live").status == 503);
        let health = get(&rig, "/health");
        assert_eq!((health.status, json(&health)["checks"]["server"].as_str()), (503, Some("failed")));
        assert_eq!(get(&rig, "/health/startup").status, 200, "it has started all the same");
        drop(release);
        eventually("it lives again", || get(&rig, "/health/live").status == 200);
        drop(clients);
        rig.stop();
    }
}
