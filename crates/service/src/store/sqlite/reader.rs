//! One core's connection for reading.
//!
//! Reads run inline: they are short and come from the page cache. The lock is the core's own and never contended; it
//! is there because handlers must be `Send`. Invariant: after a failed read the connection is dropped and the next
//! read opens a new one, so that a fault that has passed needs no restart.
//!
//! Most of what a short read costs is its transaction: locks are taken and given back, by system calls. So reads that
//! follow each other within one turn of the event loop share one:
//!
//! ```text
//!            read                  read                  read, nothing committed
//!   Fresh ─────────► Once ───────────────────► Snapshot ◄───────┐
//!     ▲  (its own     │   (begins: what is     │    └───────────┘
//!     │ transaction)  │    committed by now)   │
//!     └───────────────┴────────────────────────┘  the turn ends
//! ```
//!
//! What this process commits is seen by the read that follows, since a snapshot that is older than the last commit is
//! replaced. What another process commits is seen in the next turn.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rusqlite::Connection;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::error::OpenError;
use super::files::Files;
use super::schema;
use crate::store::StoreError;

/// A connection that cannot write, opened at the first read.
#[derive(Debug)]
pub struct Reader(Arc<SharedReader>);

/// What a reader shares with the task that ends its turns.
#[derive(Debug)]
struct SharedReader {
    files: Arc<Files>,
    /// KiB of pages that the connection keeps.
    cache_kib: usize,
    /// Transactions that the writer of this process has committed.
    commits: Arc<AtomicU64>,
    /// Told when a turn had a read.
    turn_had_read: Arc<Notify>,
    slot: Mutex<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    connection: Option<Connection>,
    turn: Turn,
    /// The last read failed and was logged; it is not logged again until a read succeeds.
    failing: bool,
}

/// How far the turn is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Turn {
    /// Nobody says when a turn ends, so each read has a transaction of its own.
    #[default]
    Endless,
    /// There was no read yet.
    Fresh,
    /// There was one: if it stays alone, a transaction for more is of no use.
    Once,
    /// A transaction is open. The number of those that were committed before it began.
    Snapshot(u64),
}

/// A clone has a connection of its own.
impl Clone for Reader {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.0.files), self.0.cache_kib, Arc::clone(&self.0.commits))
    }
}

impl Drop for SharedReader {
    fn drop(&mut self) {
        // Whoever ends its turns can go.
        self.turn_had_read.notify_one();
    }
}

impl Reader {
    pub(super) fn new(files: Arc<Files>, cache_kib: usize, commits: Arc<AtomicU64>) -> Self {
        Self(Arc::new(SharedReader {
            files,
            cache_kib,
            commits,
            turn_had_read: Arc::default(),
            slot: Mutex::default(),
        }))
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let mut slot = self.0.slot();
        let connection = match slot.connection.take() {
            Some(connection) => Ok(connection),
            // To open what is there by now would mix two databases, and to open beside a log that was removed would make another.
            None if self.0.files.check().is_err() => return Err(StoreError::Unavailable),
            None => schema::open_reader(self.0.files.database(), self.0.cache_kib),
        };
        let outcome = connection.and_then(|connection| {
            slot.turn = self.0.enter(slot.turn, &connection)?;
            Ok((read(&connection)?, connection))
        });
        match outcome {
            Ok((value, connection)) => {
                slot.connection = Some(connection);
                if std::mem::take(&mut slot.failing) {
                    info!("the store can be read again");
                }
                Ok(value)
            }
            Err(error) => {
                slot.forget_snapshot();
                if !std::mem::replace(&mut slot.failing, true) {
                    let error = OpenError::of(self.0.files.database(), &error);
                    warn!(%error, "the store cannot be read; reads are answered with 503");
                }
                Err(StoreError::Unavailable)
            }
        }
    }

    /// From now on the caller says when a turn ends, with [`end_turn`](Self::end_turn).
    pub(super) fn has_turns(&self) {
        let mut slot = self.0.slot();
        if slot.turn == Turn::Endless {
            slot.turn = Turn::Fresh;
        }
    }

    /// What follows is another turn: it sees what any process has committed.
    pub(super) fn end_turn(&self) {
        self.0.slot().end_turn();
    }

    /// From now on, and as long as the Tokio runtime lives within which this is called, turns are its own: one ends when the
    /// task that reads has let others run.
    pub(super) fn has_turns_of_runtime(&self) {
        self.has_turns();
        let (keeper, turn_had_read) = (Keeper(Arc::downgrade(&self.0)), Arc::clone(&self.0.turn_had_read));
        tokio::spawn(async move {
            loop {
                turn_had_read.notified().await;
                let Some(reader) = keeper.0.upgrade() else { return };
                reader.slot().end_turn();
            }
        });
    }
}

/// Ends the turns of a reader. When it goes, no turn is left open.
struct Keeper(Weak<SharedReader>);

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(reader) = self.0.upgrade() {
            let mut slot = reader.slot();
            slot.end_turn();
            slot.turn = Turn::Endless;
        }
    }
}

impl SharedReader {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Prepares for a read; returns how far the turn is then.
    fn enter(&self, turn: Turn, connection: &Connection) -> rusqlite::Result<Turn> {
        match turn {
            Turn::Endless => Ok(Turn::Endless),
            Turn::Fresh => {
                self.turn_had_read.notify_one();
                Ok(Turn::Once)
            }
            Turn::Once => self.begin(connection),
            Turn::Snapshot(commits) if commits == self.commits.load(Ordering::Acquire) => Ok(turn),
            Turn::Snapshot(_) => {
                commit(connection)?;
                self.begin(connection)
            }
        }
    }

    fn begin(&self, connection: &Connection) -> rusqlite::Result<Turn> {
        // Before the first read, which makes the snapshot: a commit between them only has it replaced too early.
        let commits = self.commits.load(Ordering::Acquire);
        connection.prepare_cached("BEGIN")?.execute([])?;
        Ok(Turn::Snapshot(commits))
    }
}

fn commit(connection: &Connection) -> rusqlite::Result<()> {
    connection.prepare_cached("COMMIT")?.execute([]).map(drop)
}

impl Slot {
    fn end_turn(&mut self) {
        if let (Turn::Snapshot(_), Some(connection)) = (self.turn, &self.connection)
            && let Err(error) = commit(connection)
        {
            warn!(%error, "a snapshot of the store could not be given back; its connection is closed");
            self.connection = None;
        }
        self.forget_snapshot();
    }

    /// For when there is none any more.
    fn forget_snapshot(&mut self) {
        if self.turn != Turn::Endless {
            self.turn = Turn::Fresh;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct File {
        _directory: tempfile::TempDir,
        files: Arc<Files>,
        /// The writer's.
        connection: Connection,
        commits: Arc<AtomicU64>,
    }

    impl File {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("a.db");
            let connection = schema::open(&path).unwrap();
            let files = Arc::new(Files::note(&path).unwrap());
            Self { _directory: directory, files, connection, commits: Arc::default() }
        }

        fn reader(&self) -> Reader {
            Reader::new(Arc::clone(&self.files), schema::cache_kib(1), Arc::clone(&self.commits))
        }

        /// As another process does: it is not counted.
        fn insert(&self, name: &str) {
            self.connection.execute("INSERT INTO users (name, created_at) VALUES (?1, '')", [name]).unwrap();
        }
    }

    fn count(connection: &Connection) -> rusqlite::Result<i64> {
        connection.query_row("SELECT count(*) FROM users", [], |row| row.get(0))
    }

    #[test]
    fn a_reader_cannot_write_and_goes_on_after_a_failure() {
        let file = File::new();
        let reader = file.reader();
        for has_turns in [false, true] {
            if has_turns {
                reader.has_turns();
            }
            for _ in 0..3 {
                let outcome = reader.read(|connection| connection.execute("DELETE FROM users", []));
                assert_eq!(outcome, Err(StoreError::Unavailable));
                for _ in 0..3 {
                    assert_eq!(reader.read(count), Ok(0));
                }
            }
        }
    }

    #[test]
    fn a_turn_sees_what_this_process_commits_and_the_next_what_any_does() {
        let file = File::new();
        let reader = file.reader();
        reader.has_turns();
        assert_eq!([reader.read(count), reader.read(count)], [Ok(0), Ok(0)]);
        file.insert("of another");
        assert_eq!(reader.read(count), Ok(0), "the snapshot is the turn's");
        file.insert("of ours");
        file.commits.fetch_add(1, Ordering::Release);
        assert_eq!([reader.read(count), reader.read(count)], [Ok(2), Ok(2)]);
        file.insert("of another again");
        assert_eq!(reader.read(count), Ok(2));
        reader.end_turn();
        assert_eq!(reader.read(count), Ok(3));
    }

    #[test]
    fn without_turns_each_read_sees_all() {
        let file = File::new();
        let reader = file.reader();
        for number in 0..5 {
            assert_eq!(reader.read(count), Ok(number));
            file.insert(&number.to_string());
        }
    }

    #[tokio::test]
    async fn a_turn_ends_when_others_may_run() {
        let file = File::new();
        let reader = file.reader();
        reader.has_turns_of_runtime();
        for number in 0..5 {
            assert_eq!([reader.read(count), reader.read(count)], [Ok(number), Ok(number)]);
            file.insert(&number.to_string());
            assert_eq!(reader.read(count), Ok(number));
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn a_turn_ends_with_its_runtime() {
        let file = File::new();
        let reader = file.reader();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            reader.has_turns_of_runtime();
            assert_eq!([reader.read(count), reader.read(count)], [Ok(0), Ok(0)]);
        });
        drop(runtime);
        file.insert("a");
        assert_eq!(reader.read(count), Ok(1));
        // Nothing holds the log back either.
        schema::checkpoint(&file.connection).unwrap();
        assert_eq!(std::fs::metadata(file.files.database().with_extension("db-wal")).unwrap().len(), 0);
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_is_not_kept_by_its_turns() {
        let file = File::new();
        let reader = file.reader();
        reader.has_turns_of_runtime();
        reader.read(count).unwrap();
        let core = Arc::downgrade(&reader.0);
        drop(reader);
        tokio::task::yield_now().await;
        assert_eq!(core.strong_count(), 0);
        assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
    }
}
