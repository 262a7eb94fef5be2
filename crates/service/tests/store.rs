//! The store's promises, on real files.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::path::Path;

use baiwan_service::store::{
    CoreStore, NewUser, OpenError, Store, StoreError, User, WRITE_GROUP_MAX, WRITE_QUEUE_MAX, Writer,
};
use rusqlite::Connection;
use tempfile::TempDir;

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn user(name: &str) -> NewUser {
    NewUser { name: name.to_owned(), email: None, created_at: "2026-11-22T10:15:00.123Z".to_owned() }
}

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
    names.iter().map(|name| writer.insert_user(user(name)).unwrap()).collect()
}

async fn outcomes(pending: Vec<Pending>) -> Vec<Result<User, StoreError>> {
    let mut outcomes = Vec::new();
    for outcome in pending {
        outcomes.push(outcome.await.unwrap());
    }
    outcomes
}

async fn names_in(core: &CoreStore) -> Vec<String> {
    core.users(0, 10_000).await.unwrap().into_iter().map(|user| user.name).collect()
}

#[tokio::test]
async fn writes_that_wait_share_one_commit() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let store = Store::open(&path).unwrap();
    let core = store.for_core();
    core.insert_user(user("before")).await.unwrap();
    let before = store.commits();
    let other = OtherWriter::hold(&path);
    let names: Vec<String> = (0..64).map(|n| format!("user {n}")).collect();
    let pending = queue(&store.writer(), &names.iter().map(String::as_str).collect::<Vec<_>>());
    other.release();
    assert!(outcomes(pending).await.iter().all(Result::is_ok));
    // The first may have been taken alone, before the others were queued.
    let commits = store.commits() - before;
    assert!((1..=2).contains(&commits), "64 writes took {commits} commits");
}

#[tokio::test]
async fn a_taken_name_undoes_no_other_write_of_its_group() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let store = Store::open(&path).unwrap();
    let core = store.for_core();
    let other = OtherWriter::hold(&path);
    let pending = queue(&store.writer(), &["first", "a", "b", "a", "c"]);
    other.release();
    let outcomes = outcomes(pending).await;
    let taken: Vec<_> = outcomes.iter().map(|outcome| outcome.as_ref().err().copied()).collect();
    assert_eq!(taken, [None, None, None, Some(StoreError::NameTaken), None]);
    assert!(store.commits() <= 2);
    assert_eq!(names_in(&core).await, ["first", "a", "b", "c"]);
    let ids: Vec<i64> = outcomes.into_iter().flatten().map(|user| user.id).collect();
    assert!(ids.is_sorted(), "{ids:?}");
}

#[tokio::test]
async fn what_was_acknowledged_is_read_on_every_core() {
    for threads in [0, 1, 3] {
        let directory = directory();
        let store = Store::open(&directory.path().join("a.db")).unwrap();
        let store = if threads > 0 { store.with_reader_threads(threads).unwrap() } else { store };
        let (here, there) = (store.for_core(), store.for_core());
        for n in 0..20 {
            let stored = here.insert_user(user(&format!("user {n}"))).await.unwrap();
            assert_eq!(there.user(stored.id).await, Ok(Some(stored.clone())));
            assert_eq!(here.user(stored.id).await, Ok(Some(stored)));
        }
        assert_eq!(there.users(18, 100).await.unwrap().len(), 2);
        there.check().await.unwrap();
    }
}

#[tokio::test]
async fn threads_that_read_end_with_the_store_and_leave_no_log() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let store = Store::open(&path).unwrap().with_reader_threads(2).unwrap();
    let core = store.for_core();
    core.insert_user(user("a")).await.unwrap();
    for _ in 0..2 {
        assert_eq!(names_in(&core).await, ["a"]);
    }
    store.close();
    assert_eq!(core.users(0, 1).await, Err(StoreError::Unavailable));
    assert!(!path.with_extension("db-wal").exists(), "the log was moved into the file");
}

#[tokio::test]
async fn closing_finishes_what_is_queued_and_empties_the_log() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let store = Store::open(&path).unwrap();
    let writer = store.writer();
    let names: Vec<String> = (0..1000).map(|n| format!("user {n}")).collect();
    let pending = queue(&writer, &names.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(move || store.close()).await.unwrap();
    assert!(outcomes(pending).await.iter().all(Result::is_ok));
    assert_eq!(writer.insert_user(user("late")).unwrap_err(), StoreError::Unavailable);
    assert!(!path.with_extension("db-wal").exists(), "the log was moved into the file");
    let store = Store::open(&path).unwrap();
    assert_eq!(names_in(&store.for_core()).await, names);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let store = Store::open(&path).unwrap();
    let writer = store.writer();
    let other = OtherWriter::hold(&path);
    let all: Vec<_> =
        (0..=WRITE_QUEUE_MAX + WRITE_GROUP_MAX).map(|n| writer.insert_user(user(&n.to_string()))).collect();
    other.release();
    let refused = all.iter().filter(|one| matches!(one, Err(StoreError::QueueFull))).count();
    assert!(refused >= 1);
    let accepted = outcomes(all.into_iter().flatten().collect()).await;
    let stored = accepted.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(stored, accepted.len());
    assert_eq!(store.for_core().users(0, 10_000).await.unwrap().len(), stored);
}

#[tokio::test]
async fn the_writer_recovers_by_itself_when_the_file_is_free_again() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let store = Store::open(&path).unwrap();
    let core = store.for_core();
    let other = OtherWriter::hold(&path);
    // Held until the writer has given up waiting.
    assert_eq!(core.insert_user(user("a")).await, Err(StoreError::Unavailable));
    assert_eq!(core.users(0, 10).await, Ok(Vec::new()), "reads go on");
    other.release();
    core.insert_user(user("a")).await.unwrap();
    assert_eq!(names_in(&core).await, ["a"]);
}

#[test]
fn files_that_are_not_ours_are_refused_and_left_alone() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let make_foreign = |path: &Path| Connection::open(path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let make_newer = |path: &Path| {
        Store::open(path).unwrap().close();
        Connection::open(path).unwrap().pragma_update(None, "user_version", 1000).unwrap();
    };
    type Made<'a> = (&'a dyn Fn(&Path), fn(&OpenError) -> bool);
    let cases: [Made<'_>; 4] = [
        (&|path| std::fs::write(path, "not a database, but long enough to be one\n".repeat(100)).unwrap(), |error| {
            matches!(error, OpenError::NotADatabase { .. })
        }),
        (&|path| std::fs::write(path, b"short").unwrap(), |error| matches!(error, OpenError::NotADatabase { .. })),
        (&make_foreign, |error| matches!(error, OpenError::Foreign(_))),
        (&make_newer, |error| matches!(error, OpenError::Newer { found: 1000, .. })),
    ];
    for (make, is_expected) in cases {
        make(&path);
        let before = std::fs::read(&path).unwrap();
        let error = Store::open(&path).unwrap_err();
        assert!(is_expected(&error), "{error:?}");
        assert!(!error.to_string().contains('\n'), "one line: {error}");
        assert_eq!(std::fs::read(&path).unwrap(), before, "{error}");
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn the_log_of_another_program_is_left_alone() {
    let directory = directory();
    let path = directory.path().join("a.db");
    let log = path.with_extension("db-wal");
    let other = Connection::open(&path).unwrap();
    other.pragma_update(None, "journal_mode", "wal").unwrap();
    other.execute_batch("CREATE TABLE t (x); INSERT INTO t VALUES (1)").unwrap();
    let before = (std::fs::read(&path).unwrap(), std::fs::read(&log).unwrap());
    assert!(matches!(Store::open(&path).unwrap_err(), OpenError::Foreign(_)));
    assert_eq!((std::fs::read(&path).unwrap(), std::fs::read(&log).unwrap()), before);
}

#[tokio::test]
async fn an_empty_file_is_a_new_database() {
    let directory = directory();
    let path = directory.path().join("a.db");
    std::fs::write(&path, b"").unwrap();
    Store::open(&path).unwrap().close();
    assert_eq!(Store::open(&path).unwrap().for_core().users(0, 1).await, Ok(Vec::new()));
}
