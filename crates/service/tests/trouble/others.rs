//! Another database than the one that was opened, or an older state of it, behind the same name.

use rustix::process::Signal;

use crate::outages::{assert_it_comes_back, assert_it_is_away, with_users};
use crate::postgres::{Differences, Server, run};
use crate::proxy::{Proxy, through};
use crate::running::{Running, eventually};
use crate::{alone, ask, assert_unavailable, command_with, create, get};

/// As many as the service has, and as many again.
const CONNECTIONS: usize = 32;

/// Ends the service; its log must have one error for each outage, and no other.
fn assert_it_said(service: Running, outages: usize, expected: &str) {
    service.signal(Signal::TERM);
    let (status, log) = service.wait();
    assert!(status.success(), "{log}");
    let said = log.lines().filter(|line| line.contains("\"ERROR\"")).collect::<Vec<_>>();
    let is_right = |line: &&str| line.contains(expected) && line.contains("restart");
    assert!(said.len() == outages && said.iter().all(is_right), "{log}");
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "initdb and postgres are not installed; Debian: apt-get install postgresql")]
fn row_112_a_database_that_was_made_anew_is_used_after_a_restart_only() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let server = Server::shared();
    let database = server.database();
    let start = || Running::start_with_store(command_with(&database, directory.path()));
    let service = start();
    with_users(&service);
    server.keep(&format!("DROP DATABASE {} WITH (FORCE)", database.name));
    server.make(&database.name);
    assert_it_is_away(&service);
    // Another process has made the same tables there.
    let other = start();
    assert_eq!(create(&other, "other").json()["id"], 1);
    assert_it_is_away(&service);
    assert_it_said(service, 1, "another database");
    assert_eq!(ask(&start(), "GET", "/api/users/1", "").json()["name"], "other");
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "initdb and postgres are not installed; Debian: apt-get install postgresql")]
fn row_112_an_older_state_of_the_server_is_refused_and_a_copy_that_lacks_nothing_goes_on() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(Differences::default());
    let database = server.database();
    let proxy = Proxy::to(server.port());
    let mut command = command_with(&database, directory.path());
    command.env("DATABASE_URL", through(&proxy, &server, &database));
    let service = Running::start_with_store(command);
    with_users(&service);
    server.end();
    server.copy_data("backup");
    server.start_again();
    assert_it_comes_back(&service);
    let later = create(&service, "later").json()["id"].clone();
    for method in ["PUT", "DELETE", "POST"] {
        // Whatever was acknowledged last, the backup lacks it.
        let changed = || match method {
            "POST" => create(&service, "later still"),
            _ => ask(&service, method, &format!("/api/users/{later}"), r#"{"name":"changed"}"#),
        };
        eventually("a user can be changed", || (200..300).contains(&changed().status));
        server.end();
        server.exchange_data("backup");
        server.start_again();
        let before = proxy.attempts();
        eventually("its connections were looked at", || proxy.attempts() > before + CONNECTIONS);
        assert_it_is_away(&service);
        assert_unavailable(&changed());
        server.end();
        server.exchange_data("backup");
        server.start_again();
        assert_it_comes_back(&service);
    }
    server.end();
    // All that was acknowledged is there: a standby that took over looks the same.
    server.copy_data("copy");
    server.exchange_data("copy");
    server.start_again();
    assert_it_comes_back(&service);
    assert_it_said(service, 3, "does not know the change that was acknowledged last");
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "initdb and postgres are not installed; Debian: apt-get install postgresql")]
fn row_112_tables_that_were_exchanged_under_open_connections_cost_503_until_the_first_are_back() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let database = Server::shared().database();
    let start = || Running::start_with_store(command_with(&database, directory.path()));
    for asks_health_first in [false, true] {
        let service = start();
        if !asks_health_first {
            with_users(&service);
        }
        run(&database.keeper_url, "ALTER SCHEMA baiwan RENAME TO aside");
        let other = start();
        assert_eq!(create(&other, "other").json()["id"], 1);
        if asks_health_first {
            assert_eq!(get(&service, "/health"), 503);
        }
        assert_unavailable(&create(&service, "lost"));
        assert_it_is_away(&service);
        drop(other);
        run(&database.keeper_url, "DROP SCHEMA baiwan CASCADE; ALTER SCHEMA aside RENAME TO baiwan");
        assert_it_comes_back(&service);
        assert_it_said(service, 1, "another table of users");
    }
}
