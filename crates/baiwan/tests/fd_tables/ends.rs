//! Stops, panics, starts that fail, and servers beside each other.

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::get;
use baiwan::{Builder, CloseReason, Error, EventLoop, FdTables};
use tokio::sync::Notify;

use crate::alone::{alone, alone_with, limit_files};
use crate::rig::{Client, Rig, eventually};
use crate::{core, rig, server};

const CORES: usize = 4;
/// So many connections miss one of four listeners once in 10^12.
const CONNECTIONS: usize = 100;

/// Bytes that panic when they are dropped: in the engine's hands, once they are sent.
struct Bomb(Vec<u8>);

impl AsRef<[u8]> for Bomb {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // Unlike `panic!`, it prints nothing.
            std::panic::resume_unwind(Box::new("as the test wants it"));
        }
    }
}

fn app(go: &Arc<Notify>) -> Router {
    let go = Arc::clone(go);
    let wait = || async move {
        go.notified().await;
        "after all"
    };
    Router::new()
        .route("/", get(|| async { core() }))
        .route("/wait", get(wait))
        .route("/bomb", get(|| async { Bytes::from_owner(Bomb(vec![b'x'; 100_000])) }))
}

/// What starting says, within a runtime, as it should be.
fn refused(builder: Builder) -> Error {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _within = runtime.enter();
    builder.start(app(&Arc::default())).unwrap_err()
}

#[test]
fn a_stop_closes_the_listeners_of_every_core_and_answers_what_is_in_flight() {
    alone("ends::a_stop_closes_the_listeners_of_every_core_and_answers_what_is_in_flight", || {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let given = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken_over = given.local_addr().unwrap().to_string();
        let go = Arc::new(Notify::new());
        let builder = server(CORES).listener(given).bind(format!("unix:{}", path.display()));
        let rig = Rig::start(builder, app(&go));
        let (address, health) = (rig.address(), rig.health.clone());
        assert_eq!(Client::connect(&taken_over).get("/").status, 200);
        assert_eq!(Client::connect_unix(&path).get("/").status, 200);
        let mut waiting: Vec<_> = (0..CONNECTIONS).map(|_| rig.connect()).collect();
        let before = health.counts().requests;
        for client in &mut waiting {
            client.send("GET /wait HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        eventually("all are in flight", || health.counts().requests == before + CONNECTIONS as u64);
        let stopping = rig.begin_stop();
        // A listener that one table still had would go on to take connections, and nobody would accept them.
        eventually("nobody listens any more", || {
            TcpStream::connect(&address).is_err()
                && TcpStream::connect(&taken_over).is_err()
                && UnixStream::connect(&path).is_err()
        });
        assert!((0..CONNECTIONS).all(|_| TcpStream::connect(&address).is_err()));
        assert!(!stopping.is_finished(), "it waits for the answers");
        go.notify_waiters();
        for client in &mut waiting {
            assert_eq!(client.answer(false).text(), "after all");
            client.expect_end();
        }
        stopping.join().unwrap().unwrap();
        assert_eq!(health.counts().closed_by(CloseReason::DrainTimeout), 0);
    });
}

#[test]
fn a_loop_that_panics_costs_its_connections_and_begins_anew() {
    alone("ends::a_loop_that_panics_costs_its_connections_and_begins_anew", || {
        let rig = Rig::start(server(2), app(&Arc::default()));
        let mut clients: Vec<_> = (0..50).map(|_| rig.connect()).collect();
        let cores: Vec<String> = clients.iter_mut().map(|client| client.get("/").text().to_owned()).collect();
        let hit = cores[0].clone();
        clients[0].send("GET /bomb HTTP/1.1\r\nHost: test\r\n\r\n");
        eventually("the loop has panicked", || rig.health.counts().core_panics == 1);
        for (client, core) in clients.iter_mut().zip(&cores).skip(1) {
            match *core == hit {
                true => client.expect_end(),
                false => assert_eq!(client.get("/").text(), core),
            }
        }
        let lost = cores.iter().filter(|core| **core == hit).count();
        eventually("all are counted", || rig.health.counts().closed_by(CloseReason::CoreFailed) == lost as u64);
        let served = |number| {
            assert!(number < CONNECTIONS, "its listener is still there");
            rig.connect().get("/").text().to_owned()
        };
        assert!((0..).map(served).any(|core| core == hit));
        drop(clients);
        rig.stop();
    });
}

#[test]
fn a_core_that_cannot_start_holds_up_nobody() {
    alone("ends::a_core_that_cannot_start_holds_up_nobody", || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let within = runtime.enter();
        let outcome = server(CORES).start_with(|core| {
            assert!(core != 2, "as the test wants it");
            app(&Arc::default())
        });
        assert!(matches!(outcome.unwrap_err(), Error::CorePanicked(2)));
        drop(within);
        eventually("a server can start", || {
            let _within = runtime.enter();
            server(1).start(app(&Arc::default())).is_ok()
        });
        // Enough for the listeners, and not for so many runtimes.
        limit_files(80);
        eventually("nothing is left of the servers before", || match refused(server(30)) {
            Error::FdTables(_) => false,
            error => {
                assert!(matches!(error, Error::Start(_)), "{error}");
                true
            }
        });
    });
}

#[test]
fn what_would_break_is_refused_in_one_line() {
    alone("ends::what_would_break_is_refused_in_one_line", || {
        let refusals =
            [server(1).start(app(&Arc::default())).unwrap_err(), refused(server(1).event_loop(EventLoop::Portable))];
        for (error, word) in refusals.iter().zip(["runtime", "EVENT_LOOP=portable"]) {
            let line = error.to_string();
            assert!(line.starts_with("FD_TABLES=per-core is not possible: ") && line.contains(word), "{line}");
            assert_eq!(line.lines().count(), 1);
        }
        let rig = Rig::start(server(1), app(&Arc::default()));
        for other in [server(1), rig::server(EventLoop::Epoll)] {
            assert!(matches!(refused(other), Error::FdTables(line) if line.contains("another server")));
        }
        assert_eq!(rig.connect().get("/").status, 200);
        rig.stop();
        // When it has ended there is room for others, and these have none for it.
        let rig = Rig::start(rig::server(EventLoop::Epoll), app(&Arc::default()));
        assert!(matches!(refused(server(1)), Error::FdTables(line) if line.contains("another server")));
        rig.stop();
        Rig::start(server(1), app(&Arc::default())).stop();
    });
}

#[test]
fn a_server_is_waited_for_where_it_was_started() {
    alone("ends::a_server_is_waited_for_where_it_was_started", || {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (home, abroad) = (runtime(), runtime());
        let running = {
            let _within = home.enter();
            server(2).start(app(&Arc::default())).unwrap()
        };
        let address = running.addresses().remove(0);
        assert!(matches!(abroad.block_on(running.wait()), Err(Error::FdTables(_))));
        eventually("it is stopped", || TcpStream::connect(&address).is_err());
    });
}

#[test]
fn a_variable_does_not_part_the_tables_of_an_app_that_its_cores_share() {
    let name = "ends::a_variable_does_not_part_the_tables_of_an_app_that_its_cores_share";
    let run = || {
        let from_env = || baiwan::Server::from_env().unwrap().workers(1);
        let error = refused(from_env());
        assert!(matches!(error, Error::FdTables(line) if line.contains("serve_with")), "{error}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _within = runtime.enter();
        drop(from_env().start_with(|_| app(&Arc::default())).unwrap());
        eventually("the program's own word counts", || {
            from_env().fd_tables(FdTables::PerCore).start(app(&Arc::default())).is_ok()
        });
    };
    alone_with(name, &[("FD_TABLES", "per-core"), ("HOST", "127.0.0.1"), ("PORT", "0")], run);
}

#[test]
fn a_blocking_call_does_not_keep_the_next_server_out_when_its_server_is_dropped() {
    alone("ends::a_blocking_call_does_not_keep_the_next_server_out_when_its_server_is_dropped", || {
        let block = || async { drop(tokio::task::spawn_blocking(std::thread::park)) };
        // Longer than the test has.
        let builder = server(2).shutdown_timeout(Duration::from_secs(3600)).shutdown(std::future::ready(()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let running = builder.start(Router::new().route("/", get(block))).unwrap();
            assert_eq!(Client::connect(&running.addresses()[0]).get("/").status, 200);
            let over = tokio::time::timeout(Duration::from_millis(50), running.wait()).await;
            assert!(over.is_err(), "the call goes on");
            eventually("the next server may start", || server(2).start(app(&Arc::default())).is_ok());
        });
    });
}
