//! `--demo` puts a hundred users into a database that has none, and touches no other.

use std::process::Command;

use rustix::process::Signal;

use crate::postgres::Server;
use crate::running::{Running, command};

const USERS: usize = 100;

/// Starts the service, shows it to the test and stops it.
fn serve(command: Command, look: impl FnOnce(&Running)) {
    let service = Running::start_with_store(command);
    look(&service);
    service.signal(Signal::TERM);
    let (status, log) = service.wait();
    assert!(status.success(), "{log}");
}

fn fills_an_empty_database_and_no_other(plain: impl Fn() -> Command) {
    let demo = || {
        let mut command = plain();
        command.args(["serve", "--demo"]);
        command
    };
    let names = |service: &Running| -> Vec<String> {
        let users = service.connect().users();
        users.iter().map(|user| user["name"].as_str().unwrap().to_owned()).collect()
    };
    serve(demo(), |service| {
        let filled = names(service);
        assert_eq!(filled.len(), USERS);
        let mut client = service.connect();
        let last = client.ask("GET", "/api/users?limit=100", "").unwrap().json();
        assert!(last["next"].is_null(), "a hundred and no more");
        assert!(last["users"].as_array().unwrap().iter().all(|user| user["email"].as_str().unwrap().contains('@')));
        for user in last["users"].as_array().unwrap().iter().skip(1) {
            assert_eq!(client.ask("DELETE", &format!("/api/users/{}", user["id"]), "").unwrap().status, 204);
        }
    });
    serve(demo(), |service| assert_eq!(names(service).len(), 1, "one user is enough to be left alone"));
    serve(plain(), |service| assert_eq!(names(service).len(), 1));
}

#[test]
fn the_demonstration_fills_an_empty_file_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    fills_an_empty_database_and_no_other(|| command(directory.path()));
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "initdb and postgres are not installed; Debian: apt-get install postgresql")]
fn the_demonstration_fills_an_empty_postgresql_database_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let database = Server::shared().database();
    fills_an_empty_database_and_no_other(|| {
        let mut command = command(directory.path());
        command.env("DATABASE_URL", &database.url);
        command
    });
}

#[test]
fn without_being_asked_nothing_is_filled_in() {
    let directory = tempfile::tempdir().unwrap();
    serve(command(directory.path()), |service| assert!(service.connect().users().is_empty()));
}
