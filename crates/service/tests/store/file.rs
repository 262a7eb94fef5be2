//! The SQLite file: what is written into it, who else may, and what is left when it is closed.

use std::path::Path;

use baiwan_service::store::sqlite::{OpenError, Sqlite, WRITE_GROUP_MAX, WRITE_QUEUE_MAX, Writer};
use baiwan_service::store::{Options, Store, StoreError, User};
use rusqlite::Connection;

use crate::stores::{Place, options};
use crate::{Opened, create};

/// Another process that writes: while it is held, the writer thread waits, so that a queue builds up behind it.
struct OtherWriter(Connection);

impl OtherWriter {
    fn hold(path: &Path) -> Self {
        let connection = Connection::open(path).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self(connection)
    }

    fn release(self) {
        self.0.execute_batch("ROLLBACK").unwrap();
    }
}

type Pending = tokio::sync::oneshot::Receiver<Result<User, StoreError>>;

fn queue(writer: &Writer, names: &[&str]) -> Vec<Pending> {
    names.iter().map(|name| writer.apply_nowait(create(name)).unwrap()).collect()
}

async fn outcomes(pending: Vec<Pending>) -> Vec<Result<User, StoreError>> {
    let mut outcomes = Vec::new();
    for outcome in pending {
        outcomes.push(outcome.await.unwrap());
    }
    outcomes
}

fn names_in(path: &Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection.prepare("SELECT name FROM users ORDER BY id").unwrap();
    let names = statement.query_map([], |row| row.get(0)).unwrap();
    names.collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn writes_that_wait_share_one_commit() {
    let place = Place::sqlite();
    let store = Sqlite::open(&place.file(), 1).unwrap();
    outcomes(queue(&store.writer(), &["before"])).await.remove(0).unwrap();
    let before = store.commits();
    let other = OtherWriter::hold(&place.file());
    let names: Vec<String> = (0..64).map(|n| format!("user {n}")).collect();
    let pending = queue(&store.writer(), &names.iter().map(String::as_str).collect::<Vec<_>>());
    other.release();
    assert!(outcomes(pending).await.iter().all(Result::is_ok));
    // The first may have been taken alone, before the others were queued.
    let commits = store.commits() - before;
    assert!((1..=2).contains(&commits), "64 writes took {commits} commits");
    assert_eq!(store.changes(), 65);
}

#[tokio::test]
async fn a_taken_name_undoes_no_other_write_of_its_group() {
    let place = Place::sqlite();
    let store = Sqlite::open(&place.file(), 1).unwrap();
    let other = OtherWriter::hold(&place.file());
    let pending = queue(&store.writer(), &["first", "a", "b", "a", "c"]);
    other.release();
    let outcomes = outcomes(pending).await;
    let taken: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().err().copied()).collect();
    assert_eq!(taken, [None, None, None, Some(StoreError::NameTaken), None]);
    assert!(store.commits() <= 2);
    assert_eq!(names_in(&place.file()), ["first", "a", "b", "c"]);
    let ids: Vec<i64> = outcomes.into_iter().flatten().map(|user| user.id).collect();
    assert!(ids.is_sorted(), "{ids:?}");
}

#[tokio::test]
async fn threads_that_read_show_what_was_acknowledged_and_end_with_the_store() {
    let place = Place::sqlite();
    let store = Store::open(&place.location(), &Options { reads_on_threads: true, ..options(2) }).await.unwrap();
    let (here, there) = (store.for_core(0), store.for_core(1));
    for n in 0..20 {
        let stored = here.apply(create(&format!("user {n}"))).await.unwrap();
        assert_eq!(there.user(stored.id).await, Ok(Some(stored.clone())));
        assert_eq!(here.user(stored.id).await, Ok(Some(stored)));
    }
    assert_eq!(there.users(18, 100).await.unwrap().len(), 2);
    there.check().await.unwrap();
    tokio::task::spawn_blocking(move || store.close()).await.unwrap();
    assert_eq!(here.users(0, 1).await, Err(StoreError::Unavailable));
    assert!(!place.file().with_extension("db-wal").exists(), "the log was moved into the file");
}

#[tokio::test]
async fn closing_finishes_what_is_queued_and_empties_the_log() {
    let place = Place::sqlite();
    let store = Sqlite::open(&place.file(), 1).unwrap();
    let writer = store.writer();
    let names: Vec<String> = (0..1000).map(|n| format!("user {n}")).collect();
    let pending = queue(&writer, &names.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(move || drop(store)).await.unwrap();
    assert!(outcomes(pending).await.iter().all(Result::is_ok));
    assert_eq!(writer.apply_nowait(create("late")).unwrap_err(), StoreError::Unavailable);
    assert!(!place.file().with_extension("db-wal").exists(), "the log was moved into the file");
    assert_eq!(names_in(&place.file()), names);
}

#[tokio::test]
async fn row_101_a_full_queue_refuses_at_once() {
    let place = Place::sqlite();
    let store = Sqlite::open(&place.file(), 1).unwrap();
    let writer = store.writer();
    let other = OtherWriter::hold(&place.file());
    let all: Vec<_> =
        (0..=WRITE_QUEUE_MAX + WRITE_GROUP_MAX).map(|n| writer.apply_nowait(create(&n.to_string()))).collect();
    other.release();
    let refused = all.iter().filter(|one| matches!(one, Err(StoreError::QueueFull))).count();
    assert!(refused >= 1);
    let accepted = outcomes(all.into_iter().flatten().collect()).await;
    let stored = accepted.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(stored, accepted.len());
    assert_eq!(names_in(&place.file()).len(), stored);
}

#[tokio::test]
async fn a_write_whose_caller_has_given_up_is_not_made() {
    let place = Place::sqlite();
    let store = Sqlite::open(&place.file(), 1).unwrap();
    let other = OtherWriter::hold(&place.file());
    // The first keeps the writer busy, so that the others are looked at when they are given up already.
    let mut pending = queue(&store.writer(), &["first", "given up", "last"]);
    drop(pending.remove(1));
    other.release();
    let outcomes = outcomes(pending).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(names_in(&place.file()), ["first", "last"]);
}

#[tokio::test]
async fn row_101_a_file_that_another_process_holds_costs_writes_and_no_reads_and_needs_no_restart() {
    let opened = Opened::at(Place::sqlite()).await;
    let other = OtherWriter::hold(&opened.place.file());
    // Held until the writer has given up waiting.
    assert_eq!(opened.create("a").await, Err(StoreError::Unavailable));
    assert_eq!(opened.core.users(0, 10).await, Ok(Vec::new()), "reads go on");
    other.release();
    opened.create("a").await.unwrap();
    assert_eq!(opened.names().await, ["a"]);
}

#[tokio::test]
async fn a_file_that_vanished_is_not_replaced_by_an_empty_one() {
    let opened = Opened::at(Place::sqlite()).await;
    opened.create("a").await.unwrap();
    let file = opened.place.file();
    for name in ["a.db", "a.db-wal", "a.db-shm"] {
        std::fs::remove_file(file.with_file_name(name)).unwrap();
    }
    // Whatever is answered, nothing appears in its place.
    let _ = opened.create("b").await;
    let _ = opened.other.users(0, 10).await;
    drop(opened.store);
    assert!(!file.exists());
}

#[test]
fn a_file_that_another_process_has_locked_is_named_with_the_way_to_find_who_it_is() {
    let place = Place::sqlite();
    drop(Sqlite::open(&place.file(), 1).unwrap());
    let other = Connection::open(place.file()).unwrap();
    // What is up to date is only read at the start.
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    drop(Sqlite::open(&place.file(), 1).unwrap());
    other.execute_batch("COMMIT; PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
    let line = Sqlite::open(&place.file(), 1).unwrap_err().to_string();
    let file = place.file();
    let expected = ["another process has locked", "fuser -v", "lsof", "a file of its own", file.to_str().unwrap()];
    assert!(expected.iter().all(|part| line.contains(part)) && !line.contains('\n'), "{line}");
}

#[test]
fn a_pipe_or_a_device_is_refused_and_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    for path in [&pipe, Path::new("/dev/null")] {
        assert!(matches!(Sqlite::open(path, 1).unwrap_err(), OpenError::NotAFile(_)));
    }
}

#[test]
fn files_that_are_not_ours_are_refused_and_left_alone() {
    let place = Place::sqlite();
    let path = place.file();
    let make_foreign = |path: &Path| Connection::open(path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let make_newer = |path: &Path| {
        drop(Sqlite::open(path, 1).unwrap());
        let sql = "PRAGMA user_version = 1000; UPDATE schema_version SET compatible_from = 1000";
        Connection::open(path).unwrap().execute_batch(sql).unwrap();
    };
    type Made<'a> = (&'a dyn Fn(&Path), fn(&OpenError) -> bool);
    let cases: [Made<'_>; 4] = [
        (&|path| std::fs::write(path, "not a database, but long enough to be one\n".repeat(100)).unwrap(), |error| {
            matches!(error, OpenError::NotADatabase { .. })
        }),
        (&|path| std::fs::write(path, b"short").unwrap(), |error| matches!(error, OpenError::NotADatabase { .. })),
        (&make_foreign, |error| matches!(error, OpenError::Foreign(_))),
        (&make_newer, |error| matches!(error, OpenError::Newer { found: 1000, compatible_from: 1000, .. })),
    ];
    for (make, is_expected) in cases {
        make(&path);
        let before = std::fs::read(&path).unwrap();
        let error = Sqlite::open(&path, 1).unwrap_err();
        assert!(is_expected(&error), "{error:?}");
        assert!(!error.to_string().contains('\n'), "one line: {error}");
        assert_eq!(std::fs::read(&path).unwrap(), before, "{error}");
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn the_log_of_another_program_is_left_alone() {
    let place = Place::sqlite();
    let path = place.file();
    let log = path.with_extension("db-wal");
    let other = Connection::open(&path).unwrap();
    other.pragma_update(None, "journal_mode", "wal").unwrap();
    other.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
    let before = (std::fs::read(&path).unwrap(), std::fs::read(&log).unwrap());
    assert!(matches!(Sqlite::open(&path, 1).unwrap_err(), OpenError::Foreign(_)));
    assert_eq!((std::fs::read(&path).unwrap(), std::fs::read(&log).unwrap()), before);
}

#[tokio::test]
async fn an_empty_file_is_a_new_database() {
    let place = Place::sqlite();
    std::fs::write(place.file(), b"").unwrap();
    assert_eq!(Opened::at(place).await.names().await, [""; 0]);
}

/// The schema of the first version, with a user in it; "Baiw" as a number.
const FIRST_VERSION: &str = "PRAGMA application_id = 1113680247; PRAGMA user_version = 1;
    CREATE TABLE users (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT UNIQUE NOT NULL,
        email TEXT,
        created_at TEXT NOT NULL
    );
    INSERT INTO users (name, email, created_at) VALUES ('Ada', 'ada@example.org', '2026-11-22T10:15:00.123Z');";

#[tokio::test]
async fn a_database_of_the_first_version_is_brought_up_to_date_with_its_users() {
    let place = Place::sqlite();
    Connection::open(place.file()).unwrap().execute_batch(FIRST_VERSION).unwrap();
    let opened = Opened::at(place).await;
    let ada = opened.core.user(1).await.unwrap().unwrap();
    assert_eq!((&*ada.name, ada.email.as_deref(), ada.version), ("Ada", Some("ada@example.org"), 1));
    assert_eq!(ada.created_at, "2026-11-22T10:15:00.123Z");
    assert_eq!(opened.create("Ada").await, Err(StoreError::NameTaken));
}
