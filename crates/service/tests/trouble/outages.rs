//! PostgreSQL stands still, ends, cuts connections or waits for a lock: requests are answered in time, and it needs no restart.

use rustix::process::Signal;

use crate::postgres::{Differences, Server, Session, run};
use crate::running::{Answer, Running, eventually};
use crate::{alone, ask, assert_the_rest_is_served, assert_unavailable, command_with, create, get};

/// Times that everything is asked while the store is away: the first ones meet connections that were good, the last ones none.
const TIMES: usize = 3;
/// Writers that wait for the same row while others are served: as many as one core's connections take changes at a time.
const HELD: usize = 8;
/// Writers that wait for the same row, many more than that.
const CROWD: usize = 100;
/// Lines that a service may say of one outage: that it began, for each of its connections, and that it is over.
const LOG_LINES_MAX: usize = 60;

/// Asks everything that needs the store at the same time. Users 2 to 4 may change by it, or not: who is answered with 503 has not
/// been told that nothing happened.
fn ask_everything(service: &Running, round: usize) -> Vec<Answer> {
    let body = |name: &str| format!(r#"{{"name":"{name} {round}"}}"#);
    let questions = [
        ("GET", "/api/users", String::new()),
        ("GET", "/api/users/1", String::new()),
        ("HEAD", "/api/users/1", String::new()),
        ("POST", "/api/users", body("new")),
        ("PUT", "/api/users/2", body("two")),
        ("PUT", "/api/users/3", body("three")),
        ("DELETE", "/api/users/4", String::new()),
    ];
    std::thread::scope(|scope| {
        let asking = questions.map(|(method, path, body)| scope.spawn(move || ask(service, method, path, &body)));
        asking.into_iter().map(|answer| answer.join().unwrap()).collect()
    })
}

pub(crate) fn with_users(service: &Running) {
    for number in 1..=4 {
        assert_eq!(create(service, &format!("user {number}")).json()["id"], number);
    }
}

/// Everything is refused, in time, and what needs no store is served.
pub(crate) fn assert_it_is_away(service: &Running) {
    for round in 0..TIMES {
        ask_everything(service, round).iter().for_each(assert_unavailable);
        let health = ask(service, "GET", "/health", "");
        assert_eq!((health.status, &health.json()["checks"]["store"]), (503, &"failed".into()), "{health:?}");
        assert_eq!(get(service, "/health/ready"), 503, "asked to be ready with its store only");
        assert_the_rest_is_served(service);
    }
}

/// Without a restart, users can be read and written again; the one that nobody has touched is as it was.
pub(crate) fn assert_it_comes_back(service: &Running) {
    eventually("it is ready again", || service.is_ready());
    assert_eq!(ask(service, "GET", "/api/users/1", "").json()["name"], "user 1");
    assert_eq!(get(service, "/api/users"), 200);
    let mut number = 0;
    eventually("users can be written again", || {
        // The names of an earlier time are taken.
        number += 1;
        create(service, &format!("after {number}")).status == 201
    });
    assert_eq!(ask(service, "GET", "/health", "").json()["status"], "healthy");
}

fn assert_it_said_little_and_stops(service: Running) {
    service.signal(Signal::TERM);
    let (status, log) = service.wait();
    assert!(status.success(), "{log}");
    let lines = log.lines().count();
    // Beside the two of the stop, one at least of the outage.
    assert!((3..=LOG_LINES_MAX).contains(&lines), "{lines} lines: {log}");
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "initdb and postgres are not installed; Debian: apt-get install postgresql")]
fn row_102_a_postgresql_that_stands_still_delays_no_answer_beyond_two_seconds_and_needs_no_restart() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(Differences::default());
    let database = server.database();
    let service = Running::start_with_store(command_with(&database, directory.path()));
    with_users(&service);
    server.signal(Signal::STOP);
    assert_it_is_away(&service);
    server.signal(Signal::CONT);
    assert_it_comes_back(&service);
    assert_it_said_little_and_stops(service);
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "initdb and postgres are not installed; Debian: apt-get install postgresql")]
fn row_102_a_postgresql_that_ends_and_comes_again_needs_no_restart() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let mut server = Server::start(Differences::default());
    let database = server.database();
    let service = Running::start_with_store(command_with(&database, directory.path()));
    with_users(&service);
    for end in [Server::end, Server::kill] {
        end(&mut server);
        assert_it_is_away(&service);
        server.start_again();
        assert_it_comes_back(&service);
    }
    assert_it_said_little_and_stops(service);
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "initdb and postgres are not installed; Debian: apt-get install postgresql")]
fn row_102_a_row_that_another_session_holds_costs_its_writers_503_and_nobody_else() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let database = Server::shared().database();
    let service = Running::start_with_store(command_with(&database, directory.path()));
    with_users(&service);
    let other = Session::open(&database.keeper_url);
    other.run("BEGIN");
    assert_eq!(other.run("SELECT name FROM users WHERE id = 2 FOR UPDATE"), [["user 2"]]);
    std::thread::scope(|scope| {
        let service = &service;
        let hold = |number| {
            scope.spawn(move || match number % 2 {
                0 => ask(service, "PUT", "/api/users/2", &format!(r#"{{"name":"other {number}"}}"#)),
                _ => ask(service, "DELETE", "/api/users/2", ""),
            })
        };
        let held: Vec<_> = (0..HELD).map(hold).collect();
        for number in 0..20 {
            assert_eq!(get(service, "/api/users/2"), 200, "who reads is not held up");
            assert_eq!(create(service, &format!("meanwhile {number}")).status, 201);
            let replaced = ask(service, "PUT", "/api/users/1", &format!(r#"{{"name":"one {number}"}}"#));
            assert_eq!(replaced.status, 200, "{replaced:?}");
        }
        held.into_iter().for_each(|answer| assert_unavailable(&answer.join().unwrap()));
    });
    other.run("ROLLBACK");
    // Whoever was told that it was not done may find that it was.
    eventually("the user can be changed again", || {
        let replaced = ask(&service, "PUT", "/api/users/2", r#"{"name":"free"}"#);
        replaced.status == 200 || replaced.status == 404
    });
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "initdb and postgres are not installed; Debian: apt-get install postgresql")]
fn row_102_a_change_that_a_crowd_held_up_is_not_made_after_its_503() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let database = Server::shared().database();
    let service = Running::start_with_store(command_with(&database, directory.path()));
    with_users(&service);
    let other = Session::open(&database.keeper_url);
    other.run("BEGIN");
    assert_eq!(other.run("SELECT name FROM users WHERE id = 2 FOR UPDATE"), [["user 2"]]);
    std::thread::scope(|scope| {
        let service = &service;
        let hold = |number: usize| {
            scope.spawn(move || ask(service, "PUT", "/api/users/2", &format!(r#"{{"name":"late {number}"}}"#)))
        };
        let held: Vec<_> = (0..CROWD).map(hold).collect();
        held.into_iter().for_each(|answer| assert_unavailable(&answer.join().unwrap()));
    });
    other.run("ROLLBACK");
    let under_way = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = '{}' AND state = 'active' AND pid <> pg_backend_pid()",
        database.name
    );
    eventually("nothing is under way", || other.run(&under_way) == [["0"]]);
    let user = ask(&service, "GET", "/api/users/2", "");
    assert_eq!(user.json()["name"], "user 2", "all were told that it was not done");
    assert!(user.head.contains("\r\netag: \"1\"\r\n"), "{}", user.head);
    eventually("the user can be changed again", || {
        ask(&service, "PUT", "/api/users/2", r#"{"name":"free"}"#).status == 200
    });
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "initdb and postgres are not installed; Debian: apt-get install postgresql")]
fn row_102_connections_that_are_cut_are_made_again_and_no_acknowledged_user_is_lost() {
    const CUTS: usize = 5;
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let database = Server::shared().database();
    let service = Running::start_with_store(command_with(&database, directory.path()));
    let mut acknowledged = Vec::new();
    let mut number = 0;
    for cut in 1..=CUTS {
        let cut_sql = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}' AND pid <> pg_backend_pid()",
            database.name
        );
        assert!(!run(&database.keeper_url, &cut_sql).is_empty(), "there are connections to cut");
        let wanted = acknowledged.len() + 10;
        eventually("users are stored again", || {
            number += 1;
            let name = format!("user {number}");
            let created = create(&service, &name);
            match created.status {
                201 => acknowledged.push((created.json()["id"].clone(), name)),
                _ => assert_unavailable(&created),
            }
            acknowledged.len() >= wanted
        });
        eventually("it is ready again", || service.is_ready());
        assert_eq!(acknowledged.len(), cut * 10);
    }
    for (id, name) in &acknowledged {
        assert_eq!(ask(&service, "GET", &format!("/api/users/{id}"), "").json()["name"], **name);
    }
}
