//! Opening the file: what it must be, how each connection is set up, and the migrations.
//!
//! A file is ours when its `application_id` says so, and new when it is empty; anything else is refused before a byte
//! of it changes. Migrations run once, at start, in one transaction together with the `user_version` that counts
//! them, so that a crash leaves either the old schema or the new one. What another version of this program may do with the file, the table
//! `schema_version` says (see `store/migrations.rs`).

use std::fs::OpenOptions;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use rustix::fs::{Access, access};

use tracing::info;

use super::error::OpenError;
use crate::store::migrations::{self, Standing, Step};

/// "Baiw", in the file's header: whose file it is.
const APPLICATION_ID: i32 = 0x4261_6977;

/// Step `n` leads from `user_version` `n` to `n + 1`. The law for them stands in `store/migrations.rs`.
const MIGRATIONS: &[Step] = &[
    Step::Breaks(
        "CREATE TABLE users (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT UNIQUE NOT NULL,
        email TEXT,
        created_at TEXT NOT NULL
    );",
    ),
    // A program that does not count the versions of a user would leave them as they are.
    Step::Breaks(
        "ALTER TABLE users ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
    CREATE TABLE idempotency_keys (
        key TEXT PRIMARY KEY,
        fingerprint BLOB NOT NULL,
        user_id INTEGER NOT NULL,
        created_at TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);",
    ),
    // The version itself is in the file's header.
    Step::Adds(
        "CREATE TABLE schema_version (compatible_from INTEGER NOT NULL);
    INSERT INTO schema_version VALUES (0);",
    ),
];

/// What is wrong with a file that SQLite opens, but may not write.
const READ_ONLY: &str = "it is read-only";
/// The writer waits this long for another process that writes: a backup, an operator's shell, the service that hands over to this one.
const WRITER_BUSY_TIMEOUT: Duration = Duration::from_secs(1);
/// How often it tries meanwhile. SQLite itself waits a tenth of a second between two tries; a service that writes all the time leaves the
/// file alone for less than a millisecond at once, so that ten tries might all fail.
const WRITER_BUSY_INTERVAL: Duration = Duration::from_millis(1);
/// A reader blocks its core while it waits, and in WAL mode it has next to nothing to wait for.
const READER_BUSY_TIMEOUT: Duration = Duration::from_millis(50);
/// KiB of pages that all readers together may keep, which is a million users; what they do not have is copied from the kernel's
/// cache. A commit empties it.
const READERS_CACHE_KIB: usize = 128 << 10;
/// What SQLite gives each connection by itself.
const READER_CACHE_KIB_MIN: usize = 2000;
/// The write-ahead log is cut back to this size after a checkpoint.
const LOG_SIZE_MAX: u32 = 64 << 20;

/// Opens at start: creates, checks whose file it is, migrates. The connection is the writer's.
pub(super) fn open(path: &Path) -> Result<Connection, OpenError> {
    refuse_place(path)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(|error| OpenError::at_start(path, &error))?;
    prepare(path, &mut connection)?;
    Ok(connection)
}

/// Refuses what [`open`] would refuse, as far as that shows without opening a database, which could create or change one.
pub(super) fn look(path: &Path) -> Result<(), OpenError> {
    refuse_place(path)?;
    let reason = if path.exists() {
        let open = |write| OpenOptions::new().read(true).write(write).open(path).map(drop);
        // What may not be written is opened by SQLite to be read.
        open(true).err().map(|refused| open(false).map_or(refused.to_string(), |()| READ_ONLY.to_owned()))
    } else {
        let refused = path.parent().is_some_and(|folder| access(folder, Access::WRITE_OK | Access::EXEC_OK).is_err());
        refused.then(|| format!("unable to open database file: {}", path.display()))
    };
    reason.map_or(Ok(()), |reason| Err(OpenError::NotWritable { path: path.to_owned(), reason }))
}

/// What is wrong with a place for a database, and shows before it is opened.
fn refuse_place(path: &Path) -> Result<(), OpenError> {
    if path.is_dir() {
        return Err(OpenError::IsDirectory(path.to_owned()));
    }
    // Whoever opens a pipe waits for its other end.
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(OpenError::NotAFile(path.to_owned()));
    }
    if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
        return Err(OpenError::NoDirectory(directory.to_owned()));
    }
    refuse_foreign_header(path)
}

/// Merely opening another program's database could move its write-ahead log into the file, so the header is read
/// first (SQLite file format, section 1.3). What is no database at all is left to SQLite, which changes nothing then.
fn refuse_foreign_header(path: &Path) -> Result<(), OpenError> {
    const MAGIC: &[u8] = b"SQLite format 3\0";
    const OWNER: std::ops::Range<usize> = 68..72;
    let mut header = [0; 100];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut header));
    let foreign = header.starts_with(MAGIC) && header[OWNER] != APPLICATION_ID.to_be_bytes();
    // A file that is absent or shorter than a header is new, or SQLite says what is wrong with it.
    if read.is_ok() && foreign { Err(OpenError::Foreign(path.to_owned())) } else { Ok(()) }
}

fn prepare(path: &Path, connection: &mut Connection) -> Result<(), OpenError> {
    let failed = |error: rusqlite::Error| OpenError::at_start(path, &error);
    connection.busy_handler(Some(wait_for_others)).map_err(failed)?;
    // Nothing may be written before it is known whose file this is.
    identify(path, connection)?;
    if connection.is_readonly("main").map_err(failed)? {
        return Err(OpenError::NotWritable { path: path.to_owned(), reason: READ_ONLY.to_owned() });
    }
    set_up_writer(connection).map_err(failed)?;
    // Before the log is switched on, so that the file's own header says whose it is, not only the log.
    migrate(path, connection)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        return Err(OpenError::NoLog { path: path.to_owned(), mode });
    }
    // A read, so that the log and its index are there from now on.
    connection.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema)", [], |_| Ok(())).map_err(failed)
}

fn identify(path: &Path, connection: &Connection) -> Result<(), OpenError> {
    let failed = |error: rusqlite::Error| OpenError::at_start(path, &error);
    let header = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(failed);
    // In this order: another process may make the file between two of these reads, and signs what it makes.
    let objects: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    let (version, owner) = (header("user_version")?, header("application_id")?);
    let is_new = owner == 0 && version == 0 && objects == 0;
    if owner != APPLICATION_ID && !is_new {
        return Err(OpenError::Foreign(path.to_owned()));
    }
    let (found, standing) = standing(path, connection)?;
    if standing == Standing::Ahead {
        let known = migrations::version(MIGRATIONS);
        info!(
            found,
            known,
            "a later version of this program has added to the schema of the database; this one leaves it as it is"
        );
    }
    Ok(())
}

/// The version that the file has, and what may be done with it. A file that this program cannot work with is refused.
fn standing(path: &Path, connection: &Connection) -> Result<(i32, Standing), OpenError> {
    let failed = |error: rusqlite::Error| OpenError::at_start(path, &error);
    let known = migrations::version(MIGRATIONS);
    let found = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    // Who has made later steps has made the table, too.
    let compatible_from = match found > known {
        true => {
            connection.query_row("SELECT compatible_from FROM schema_version", [], |row| row.get(0)).map_err(failed)?
        }
        false => 0,
    };
    match Standing::of(found, compatible_from, known) {
        Standing::TooNew => Err(OpenError::Newer { path: path.to_owned(), found, compatible_from, known }),
        standing => Ok((found, standing)),
    }
}

/// What the writer does when another process writes, for the `tries`th time: whether it tries again.
fn wait_for_others(tries: i32) -> bool {
    std::thread::park_timeout(WRITER_BUSY_INTERVAL);
    WRITER_BUSY_INTERVAL * tries.unsigned_abs() < WRITER_BUSY_TIMEOUT
}

fn migrate(path: &Path, connection: &mut Connection) -> Result<(), OpenError> {
    let failed = |error: rusqlite::Error| OpenError::at_start(path, &error);
    // A file without steps to be made is only read: the process that this one takes over from may be writing to it.
    if standing(path, connection)?.1 != Standing::Behind {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    // Read inside the transaction: another process may have migrated meanwhile.
    let (found, standing) = standing(path, &transaction)?;
    let known = migrations::version(MIGRATIONS);
    if standing == Standing::Behind {
        for step in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
            transaction.execute_batch(step.sql()).map_err(failed)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
        transaction.pragma_update(None, "user_version", known).map_err(failed)?;
        let compatible_from = migrations::compatible_from(MIGRATIONS);
        transaction.execute("UPDATE schema_version SET compatible_from = ?1", [compatible_from]).map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

fn set_up_writer(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "FULL")?;
    // This one answers with the value that is now in force.
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_SIZE_MAX, |_| Ok(()))
}

/// Opens the writer's connection after a failure. Never creates: a file that vanished is not replaced by an empty one.
pub(super) fn open_again(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_handler(Some(wait_for_others))?;
    set_up_writer(&connection)?;
    Ok(connection)
}

/// KiB of pages for each of the readers.
pub(super) fn cache_kib(readers: usize) -> usize {
    (READERS_CACHE_KIB / readers.max(1)).max(READER_CACHE_KIB_MIN)
}

/// Opens a connection that cannot write and keeps `cache_kib` of pages. Its file is opened for writing all the same: in WAL mode a
/// reader marks the part of the log that it reads.
pub(super) fn open_reader(path: &Path, cache_kib: usize) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(READER_BUSY_TIMEOUT)?;
    connection.pragma_update(None, "query_only", true)?;
    // A negative number is one of KiB.
    connection.pragma_update(None, "cache_size", format!("-{cache_kib}"))?;
    Ok(connection)
}

/// As [`checkpoint`], for a connection that ends: what another process keeps it from, that process does.
pub(super) fn checkpoint_at_end(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::ZERO)?;
    checkpoint(connection)
}

/// Moves the write-ahead log into the file and empties it.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connection_of_the_writer_flushes_at_commit_into_a_log() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        for connection in [open(&path).unwrap(), open_again(&path).unwrap()] {
            let synchronous: i32 = connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
            let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
            // 2 is FULL.
            assert_eq!((synchronous, mode.as_str()), (2, "wal"));
        }
    }

    #[test]
    fn steps_that_are_said_to_add_do_no_more() {
        for step in MIGRATIONS {
            let Step::Adds(sql) = step else { continue };
            assert_eq!(migrations::more_than_addition(sql), None);
        }
    }

    #[test]
    fn a_file_that_vanished_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        assert!(open_again(&path).is_err());
        assert!(open_reader(&path, 2000).is_err());
        assert!(!path.exists());
    }
}
