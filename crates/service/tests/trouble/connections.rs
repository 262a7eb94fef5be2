//! How many connections to PostgreSQL there are: never more than allowed, and no storm of attempts when there is no server.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crate::postgres::{Server, Session};
use crate::proxy::{Proxy, through};
use crate::running::{Client, Running, eventually};
use crate::{alone, assert_unavailable, command_with, create};

const CLIENTS: usize = 32;

/// Has clients ask for users and create some until the test is over with what it does meanwhile; returns how many answers of each
/// kind there were: good ones, and 503.
fn under_load(service: &Running, meanwhile: impl FnOnce(&AtomicUsize)) -> (usize, usize) {
    let (over, good, refused) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (mut connection, over, good, refused) = (service.connect(), &over, &good, &refused);
            scope.spawn(move || {
                for number in (0..).take_while(|_| !over.load(Relaxed)) {
                    ask_something(&mut connection, client, number, good, refused);
                }
            });
        }
        let _end = AtEnd(&over);
        meanwhile(&good);
    });
    (good.into_inner(), refused.into_inner())
}

/// Clients end with the test, also where it fails.
struct AtEnd<'a>(&'a AtomicBool);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn ask_something(client: &mut Client, id: usize, number: usize, good: &AtomicUsize, refused: &AtomicUsize) {
    let answer = match number % 4 {
        0 => client.ask("POST", "/api/users", &format!(r#"{{"name":"{id} {number}"}}"#)).unwrap(),
        _ => client.ask("GET", "/api/users?limit=5", "").unwrap(),
    };
    if matches!(answer.status, 200 | 201) {
        good.fetch_add(1, Relaxed);
    } else {
        assert_unavailable(&answer);
        refused.fetch_add(1, Relaxed);
    }
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "initdb and postgres are not installed; Debian: apt-get install postgresql")]
fn row_102_there_are_never_more_connections_than_allowed_however_many_workers_there_are() {
    const LOOKS: usize = 100;
    let _alone = alone();
    for (workers, allowed) in [(2, 5), (8, 3), (3, 1)] {
        let directory = tempfile::tempdir().unwrap();
        let database = Server::shared().database();
        let mut command = command_with(&database, directory.path());
        command.env("WORKERS", workers.to_string()).env("DATABASE_CONNECTIONS", allowed.to_string());
        let service = Running::start_with_store(command);
        let keeper = Session::open(&database.keeper_url.replace(&database.name, "postgres"));
        let sql = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND backend_type = 'client backend'",
            database.name
        );
        let connections = || keeper.run(&sql)[0][0].parse::<usize>().unwrap();
        let mut most = 0;
        let (_, refused) = under_load(&service, |good| {
            for look in 1..=LOOKS {
                // Between two looks, something was answered.
                eventually("clients are served", || good.load(Relaxed) >= look * 10);
                most = most.max(connections());
                assert!(most <= allowed, "{most} connections with {workers} workers; {allowed} are allowed");
            }
        });
        assert!(most >= 1, "clients were served without a connection");
        assert_eq!(refused, 0, "with {workers} workers and {allowed} connections");
    }
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "initdb and postgres are not installed; Debian: apt-get install postgresql")]
fn row_102_hosts_that_are_dead_or_silent_do_not_keep_the_service_from_starting_with_the_others() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let server = Server::shared();
    let database = server.database();
    // The kernel accepts for a listener that nobody asks.
    let silent: Vec<_> = (0..3).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    let dead = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let others: Vec<_> = silent.iter().map(|listener| listener.local_addr().unwrap()).chain([dead]).collect();
    let others: String = others.iter().map(|address| format!("{address},")).collect();
    let here = format!("127.0.0.1:{}/", server.port());
    let mut command = command_with(&database, directory.path());
    command.env("DATABASE_URL", database.url.replace(&here, &format!("{others}{here}")));
    let service = Running::start_with_store(command);
    eventually("users can be written", || create(&service, "Ada").status == 201);
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "initdb and postgres are not installed; Debian: apt-get install postgresql")]
fn row_102_a_postgresql_that_is_not_there_is_not_stormed() {
    const ALLOWED: usize = 4;
    const SHUT: Duration = Duration::from_secs(5);
    /// A connection may be tried five times a second.
    const ATTEMPTS_MAX: usize = ALLOWED * 5 * 5;
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let server = Server::shared();
    let database = server.database();
    let proxy = Proxy::to(server.port());
    let mut command = command_with(&database, directory.path());
    command.env("DATABASE_URL", through(&proxy, server, &database)).env("DATABASE_CONNECTIONS", ALLOWED.to_string());
    let service = Running::start_with_store(command);
    let mut attempts = 0;
    let (good, refused) = under_load(&service, |good| {
        eventually("clients are served", || good.load(Relaxed) > 100);
        proxy.shut();
        let before = proxy.attempts();
        // Not a wait for anything: it is how long attempts are counted.
        std::thread::park_timeout(SHUT);
        attempts = proxy.attempts() - before;
        assert!(attempts >= 1, "nobody tries to come back");
        proxy.open();
        eventually("it is ready again", || service.is_ready());
        let then = good.load(Relaxed);
        eventually("clients are served again", || good.load(Relaxed) > then + 100);
    });
    println!("{attempts} attempts in {SHUT:?}, {refused} requests refused and {good} served in all");
    assert!(
        refused > ATTEMPTS_MAX,
        "{refused} requests were refused: too few to show that attempts do not follow them"
    );
    assert!(attempts <= ATTEMPTS_MAX, "{attempts} attempts in {SHUT:?}");
}
