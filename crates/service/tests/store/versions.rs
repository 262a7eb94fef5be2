//! Two versions of this program share a database: what a later one has done to it, and whether this one goes on.

use baiwan_service::store::{Condition, Location, OpenError, Store};

use crate::stores::postgres::{Server, Session, run};
use crate::stores::{Place, options, settings};
use crate::{Opened, fields};

on_both_stores!(
    what_a_later_version_has_added_is_left_as_it_is,
    a_later_version_adds_while_this_one_serves,
    what_a_later_version_has_broken_is_refused_in_words,
    processes_that_start_together_migrate_once,
);

/// How many steps a later version has had more than this one.
const LATER: i32 = 2;

/// The version of the schema, and the least that a program must know.
fn versions(place: &Place) -> (i32, i32) {
    let version = match place {
        Place::Sqlite(_) => place.run("PRAGMA user_version"),
        Place::Postgres(_) => place.run("SELECT version FROM baiwan.schema_version"),
    };
    let compatible_from = place.run("SELECT compatible_from FROM schema_version");
    let number = |rows: &[Vec<String>]| rows[0][0].parse().unwrap();
    (number(&version), number(&compatible_from))
}

/// Does what a later version would: steps, and the numbers that say so. `needed` is the least version that a program must know from now on.
fn migrate_as_a_later_version(place: &Place, steps: &[&str], needed: Option<i32>) -> i32 {
    let later = versions(place).0 + LATER;
    for step in steps {
        place.run(step);
    }
    match place {
        Place::Sqlite(_) => place.run(&format!("PRAGMA user_version = {later}")),
        Place::Postgres(_) => place.run(&format!("UPDATE baiwan.schema_version SET version = {later}")),
    };
    if let Some(needed) = needed {
        place.run(&format!("UPDATE schema_version SET compatible_from = {needed}"));
    }
    later
}

const ADDITIONS: [&str; 3] = [
    "ALTER TABLE users ADD COLUMN nickname TEXT",
    "ALTER TABLE users ADD COLUMN logins INTEGER NOT NULL DEFAULT 0",
    "CREATE INDEX users_by_email ON users (email)",
];

async fn what_a_later_version_has_added_is_left_as_it_is(place: Place) {
    let opened = Opened::at(place).await;
    let (known, compatible_from) = versions(&opened.place);
    assert!(compatible_from <= known);
    opened.create("Ada").await.unwrap();
    let later = migrate_as_a_later_version(&opened.place, &ADDITIONS, None);
    let opened = opened.again().await;
    opened.create("Grace").await.unwrap();
    assert_eq!(opened.names().await, ["Ada", "Grace"]);
    assert_eq!(opened.place.run("SELECT logins FROM users"), [["0"], ["0"]]);
    assert_eq!(versions(&opened.place), (later, compatible_from), "it does not go back");
}

async fn a_later_version_adds_while_this_one_serves(place: Place) {
    let opened = Opened::at(place).await;
    let ada = opened.create("Ada").await.unwrap();
    assert_eq!(opened.core.user(ada.id).await.unwrap().unwrap().name, "Ada");
    migrate_as_a_later_version(&opened.place, &ADDITIONS, None);
    for core in [&opened.core, &opened.other] {
        assert_eq!(core.user(ada.id).await.unwrap().unwrap().name, "Ada");
        assert_eq!(core.users(0, 10).await.unwrap().len(), 1);
    }
    opened.create("Grace").await.unwrap();
    opened.replace(ada.id, "Lovelace", Condition::Versions(vec![ada.version])).await.unwrap();
    opened.delete(ada.id, Condition::Any).await.unwrap();
    assert_eq!(opened.names().await, ["Grace"]);
    assert_eq!(fields("Grace").email, opened.core.users(0, 1).await.unwrap()[0].email);
}

async fn what_a_later_version_has_broken_is_refused_in_words(place: Place) {
    let opened = Opened::at(place).await;
    let (known, _) = versions(&opened.place);
    let (place, steps) = (opened.place, ["ALTER TABLE users RENAME COLUMN email TO address"]);
    tokio::task::spawn_blocking(move || opened.store.close()).await.unwrap();
    let later = migrate_as_a_later_version(&place, &steps, Some(known + 1));
    let refused = Store::open(&place.location(), &options(1)).await.unwrap_err().to_string();
    let expected = format!(
        "has schema version {later}, which needs a baiwan that knows version {}; this one knows versions up to {known}: start the later",
        known + 1
    );
    assert!(refused.contains(&expected) && refused.contains("DATABASE_URL"), "{refused}");
    assert!(!refused.contains('\n') && !refused.contains("pass"), "{refused}");
    assert_eq!(versions(&place), (later, known + 1), "nothing was changed");
}

async fn processes_that_start_together_migrate_once(place: Place) {
    let location = place.location();
    let starts: Vec<_> = (0..8)
        .map(|_| {
            let location = location.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(Store::open(&location, &options(1))).map(drop)
            })
        })
        .collect();
    let ended =
        tokio::task::spawn_blocking(|| starts.into_iter().map(|start| start.join().unwrap()).collect::<Vec<_>>());
    for outcome in ended.await.unwrap() {
        outcome.unwrap();
    }
    // A step that was made twice would have failed, and one that was not made would be missing.
    let (version, compatible_from) = versions(&place);
    assert!(version >= compatible_from && compatible_from > 0);
    assert_eq!(place.run("SELECT count(*) FROM schema_version"), [["1"]]);
    Opened::at(place).await.create("Ada").await.unwrap();
}

/// A store that is opened in a runtime of its own.
fn open(location: &Location) -> Result<(), OpenError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Store::open(location, &options(1))).map(drop)
}

#[test]
#[cfg_attr(not(has_postgres), ignore = "initdb and postgres are not installed; Debian: apt-get install postgresql")]
fn a_migration_that_waits_for_a_lock_lets_others_go_first() {
    let (server, sql) = (Server::shared(), "SELECT version FROM baiwan.schema_version");
    let database = server.database();
    let location = settings(&["--database-url", &database.url]).database;
    open(&location).unwrap();
    let known = run(&database.keeper_url, sql);
    let back =
        "ALTER TABLE baiwan.schema_version DROP COLUMN compatible_from; UPDATE baiwan.schema_version SET version = 1";
    run(&database.keeper_url, back);
    // As a backup does for as long as it runs.
    let backup = Session::open(&database.keeper_url);
    backup.run("BEGIN; LOCK TABLE baiwan.schema_version IN ACCESS SHARE MODE");
    let start = std::thread::spawn(move || open(&location));
    let gave_up = |line: &str| line.starts_with(&database.name) && line.contains("lock timeout");
    while !server.log().lines().any(gave_up) {
        assert!(!start.is_finished(), "it has not waited: {}", server.log());
        std::thread::park_timeout(crate::LOOK_INTERVAL);
    }
    assert_eq!(run(&database.keeper_url, sql), [["1"]], "what waited behind it is answered");
    backup.run("COMMIT");
    start.join().unwrap().unwrap();
    assert_eq!(run(&database.keeper_url, sql), known);
}
