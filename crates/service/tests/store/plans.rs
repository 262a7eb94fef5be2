//! A page, a user and a name are found by an index, however many users there are: the time for one does not grow with them.
//!
//! What is tested is not the SQL but what is done for it. Of the file, all that a question must not look at is made unreadable;
//! PostgreSQL tells the plan of each statement that it has run.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use baiwan_service::store::{Condition, Store, StoreError};
use rusqlite::Connection;

use crate::Opened;
use crate::stores::postgres::Server;
use crate::stores::{Place, options};

const USERS: i64 = 10_000;
/// In the middle.
const AFTER: i64 = 5_000;
/// The end of all names: without it their index would be too small to tell anything.
const REST: &str = " and a name that is not short at all";

fn name(number: i64) -> String {
    format!("{number:05}{REST}")
}

/// Makes all leaves of a table or an index unreadable but the one that holds the entry of that number, counted from 0, and those
/// beside it.
fn spoil(path: &Path, name: &str, spared: i64) {
    let connection = Connection::open(path).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let size: i64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0)).unwrap();
    let mut leaves = connection
        .prepare("SELECT pageno, ncell FROM dbstat WHERE name = ?1 AND pagetype = 'leaf' ORDER BY path")
        .unwrap();
    let leaves = leaves.query_map([name], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let leaves: Vec<(i64, i64)> = leaves.collect::<Result<_, _>>().unwrap();
    assert!(leaves.len() > 50, "{name} has {} leaves", leaves.len());
    let mut passed = 0;
    let spared = leaves.iter().position(|(_, entries)| {
        passed += entries;
        passed > spared
    });
    let spared = spared.unwrap();
    let file = OpenOptions::new().write(true).open(path).unwrap();
    for (number, (page, _)) in leaves.iter().enumerate() {
        if number.abs_diff(spared) > 1 {
            let place = u64::try_from((page - 1) * size).unwrap();
            file.write_all_at(&vec![0xff; usize::try_from(size).unwrap()], place).unwrap();
        }
    }
}

/// A new file with users who are named after their ids, which nobody has open.
async fn file_with_users() -> Place {
    let opened = Opened::at(Place::sqlite()).await;
    opened.place.run(&format!(
        "INSERT INTO users (name, email, created_at)
         WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {USERS})
         SELECT printf('%05d', n) || '{REST}', NULL, '2026-11-22T10:15:00.123Z' FROM numbers"
    ));
    let Opened { place, store, .. } = opened;
    tokio::task::spawn_blocking(move || store.close()).await.unwrap();
    place
}

#[tokio::test]
async fn a_page_and_a_user_of_the_file_are_found_without_looking_at_others() {
    let place = file_with_users().await;
    spoil(&place.file(), "users", AFTER);
    let opened = at_spoiled(place).await;
    for limit in [1, 21] {
        let page = opened.core.users(AFTER, limit).await.unwrap();
        let ids: Vec<i64> = page.iter().map(|user| user.id).collect();
        assert_eq!(ids, (AFTER + 1..=AFTER + i64::from(limit)).collect::<Vec<_>>());
    }
    assert_eq!(opened.core.user(AFTER).await.unwrap().unwrap().name, name(AFTER));
    assert_eq!(opened.replace(AFTER, "new", Condition::Any).await.unwrap().version, 2);
    // What is tested can fail.
    assert_eq!(opened.core.users(AFTER, 10_000).await, Err(StoreError::Unavailable));
    assert_eq!(opened.core.user(1).await, Err(StoreError::Unavailable));
}

#[tokio::test]
async fn a_name_of_the_file_is_found_without_looking_at_others() {
    let place = file_with_users().await;
    // Names have the order of the ids, which begin at 1.
    spoil(&place.file(), "sqlite_autoindex_users_1", AFTER - 1);
    let opened = at_spoiled(place).await;
    assert_eq!(opened.create(&name(AFTER)).await, Err(StoreError::NameTaken));
    assert_eq!(opened.create(&format!("{}, or longer", name(AFTER))).await.unwrap().id, USERS + 1);
    assert_eq!(opened.create(&name(1)).await, Err(StoreError::Unavailable), "what is tested can fail");
}

/// Opens a store whose first page of users cannot be read, so that it does not call itself well.
async fn at_spoiled(place: Place) -> Opened {
    let store = Store::open(&place.location(), &options(2)).await.unwrap();
    let (core, other) = (store.for_core(0), store.for_core(1));
    Opened { place, store, core, other }
}

/// The plans of the statements that were run in a database: what follows the line that names one, up to the next that does not
/// belong to it.
fn plans(log: &str, database: &str) -> Vec<String> {
    let mut plans: Vec<String> = Vec::new();
    let mut is_within = false;
    for line in log.lines() {
        if line.starts_with('\t') {
            if is_within {
                let plan = plans.last_mut().unwrap();
                plan.push_str(line.trim());
                plan.push('\n');
            }
            continue;
        }
        is_within = line.starts_with(&format!("{database} LOG:  duration: ")) && line.ends_with("plan:");
        if is_within {
            plans.push(String::new());
        }
    }
    plans
}

#[tokio::test]
#[cfg_attr(not(has_postgres), ignore = "initdb and postgres are not installed; Debian: apt-get install postgresql")]
async fn a_page_a_user_and_a_name_of_the_database_are_found_by_an_index() {
    let Place::Postgres(database) = Place::postgres() else { unreachable!("it was asked for") };
    let database_name = database.name.clone();
    let server = Server::shared();
    for setting in [
        "session_preload_libraries = 'auto_explain'",
        "auto_explain.log_min_duration = 0",
        "auto_explain.log_nested_statements = off",
    ] {
        server.keep(&format!("ALTER DATABASE {database_name} SET {setting}"));
    }
    let opened = Opened::at(Place::Postgres(database)).await;
    opened.place.run(&format!(
        "INSERT INTO users (name, email, created_at)
         SELECT lpad(n::text, 5, '0') || '{REST}', NULL, now() FROM generate_series(1, {USERS}) AS n"
    ));
    opened.place.run("ANALYZE");
    let before = plans(&server.log(), &database_name).len();
    // A server makes a plan for any value once it has made some for certain ones.
    for n in 0..10 {
        let page = opened.core.users(AFTER + n, 21).await.unwrap();
        assert_eq!((page.len(), page[0].id), (21, AFTER + n + 1));
        assert_eq!(opened.core.user(AFTER).await.unwrap().unwrap().name, name(AFTER));
        assert_eq!(opened.create(&name(AFTER)).await, Err(StoreError::NameTaken));
    }
    opened.replace(AFTER, "new", Condition::Any).await.unwrap();
    opened.delete(AFTER, Condition::Any).await.unwrap();
    let mut plans = plans(&server.log(), &database_name).split_off(before);
    // A connection may have been set up meanwhile.
    plans.retain(|plan| !plan.contains("SET client_min_messages") && !plan.contains("pg_database"));
    let of = |word: &str| plans.iter().filter(|plan| plan.contains(word)).collect::<Vec<_>>();
    assert_eq!(of("Limit").len(), 10, "each page has a plan: {plans:?}");
    assert_eq!(of("Conflict Resolution: NOTHING").len(), 10, "each creation has a plan: {plans:?}");
    assert!(of("Update on").len() == 1 && of("Delete on").len() == 1, "{plans:?}");
    for plan in &plans {
        let is_sought = plan.contains("Index Scan using") && plan.contains("Index Cond:");
        let is_creation = plan.contains("Conflict Arbiter Indexes: users_name_key");
        assert!(is_sought || is_creation, "{plan}");
        for slow in ["Seq Scan", "Sort", "Bitmap"] {
            assert!(!plan.contains(slow), "{slow}: {plan}");
        }
    }
}
