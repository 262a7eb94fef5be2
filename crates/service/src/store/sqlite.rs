//! The embedded database: users in one SQLite file.
//!
//! ```text
//!   core 0: CoreSqlite ── Reader (own connection, read inline)
//!                 └────── Writer ─┐
//!   core n: CoreSqlite ── Writer ─┴─ bounded queue ─► writer thread ─► one transaction for all that wait
//! ```
//!
//! Where cores must not open the file, because each has an fd table of its own, threads beside the writer's read for them
//! (`readers`).
//!
//! [`Sqlite`] is the process's: it opens and migrates the file once, owns the writer thread and closes in order.
//! [`CoreSqlite`] is one core's. Invariant: a write is acknowledged only after the transaction that holds it was
//! committed with `synchronous=FULL`, into the files that a later start finds (`files`); whatever fails before that is an error,
//! never an acknowledgement.

mod error;
mod files;
mod reader;
mod readers;
mod schema;
mod statements;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::Connection;

pub use self::error::OpenError;
pub use self::reader::Reader;
pub use self::writer::{WRITE_GROUP_MAX, WRITE_QUEUE_MAX, Writer};

use self::files::Files;
use self::readers::{Queues, ReaderThreads};
use self::writer::WriterThread;
use super::{Change, StoreError, User, within_patience};

/// The file of the process.
#[derive(Debug)]
pub struct Sqlite {
    files: Arc<Files>,
    /// KiB of pages that each core's connection keeps.
    cache_kib: usize,
    // Ended before the writer: whose connection closes last moves the log into the file.
    readers: Option<ReaderThreads>,
    writer: WriterThread,
}

impl Sqlite {
    /// Opens the file at the absolute `path`, creates it when it is absent, brings it to this version's schema and
    /// starts the writer thread. `cores` will read.
    ///
    /// # Errors
    ///
    /// [`OpenError`], one line that says what to do. A file that is not this service's is left as it was.
    pub fn open(path: &Path, cores: usize) -> Result<Self, OpenError> {
        let connection = schema::open(path)?;
        let unseen = |error: std::io::Error| OpenError::Sqlite { path: path.to_owned(), reason: error.to_string() };
        let files = Arc::new(Files::note(path).map_err(unseen)?);
        let writer = WriterThread::start(Arc::clone(&files), connection).map_err(OpenError::Thread)?;
        Ok(Self { files, cache_kib: schema::cache_kib(cores), readers: None, writer })
    }

    /// Refuses what [`open`](Self::open) would refuse, as far as that shows without opening the file as a database.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn look(path: &Path) -> Result<(), OpenError> {
        schema::look(path)
    }

    /// Has `count` threads read, at least one, instead of the cores themselves: for cores with fd tables of their own. They
    /// have the table of the calling thread, which must be that of [`open`](Self::open).
    ///
    /// # Errors
    ///
    /// [`OpenError::Thread`] when a thread cannot be started.
    pub fn with_reader_threads(mut self, count: usize) -> Result<Self, OpenError> {
        self.readers =
            Some(ReaderThreads::start(&self.files, self.writer.commits(), count).map_err(OpenError::Thread)?);
        Ok(self)
    }

    /// The part for one core. Cheap: its connection, if it has one, opens at the first read.
    pub fn for_core(&self) -> CoreSqlite {
        let reads = match &self.readers {
            None => {
                Reads::Inline(Reader::new(Arc::clone(&self.files), self.cache_kib, Arc::clone(self.writer.commits())))
            }
            Some(threads) => Reads::Queued(threads.handle()),
        };
        CoreSqlite { files: Arc::clone(&self.files), reads, writer: self.writer() }
    }

    /// A way into the write queue that does not wait for outcomes.
    pub fn writer(&self) -> Writer {
        self.writer.handle()
    }

    /// Transactions committed since the start.
    pub fn commits(&self) -> u64 {
        self.writer.commits().load(Ordering::Acquire)
    }

    /// Changes committed since the start.
    pub fn changes(&self) -> u64 {
        self.writer.changes()
    }
}

/// The file as one core sees it. A clone is another core's: it has a connection of its own.
#[derive(Clone, Debug)]
pub struct CoreSqlite {
    files: Arc<Files>,
    reads: Reads,
    writer: Writer,
}

/// How a core reads.
#[derive(Clone, Debug)]
enum Reads {
    /// At once, with its own connection.
    Inline(Reader),
    /// On a thread that may have one.
    Queued(Queues),
}

impl CoreSqlite {
    pub(super) async fn apply(&self, change: Change) -> Result<User, StoreError> {
        self.writer.apply_nowait(change)?.await.unwrap_or(Err(StoreError::Unavailable))
    }

    pub(super) async fn user(&self, id: i64) -> Result<Option<User>, StoreError> {
        self.read(move |connection| statements::find(connection, id)).await
    }

    pub(super) async fn users(&self, after: i64, limit: u32) -> Result<Vec<User>, StoreError> {
        self.read(move |connection| statements::page(connection, after, limit)).await
    }

    /// Whether the file can be read and is in its place, and the writer thread lives: one cheap read.
    pub(super) async fn check(&self) -> Result<(), StoreError> {
        if self.writer.is_closed() || self.files.check().is_err() {
            return Err(StoreError::Unavailable);
        }
        self.read(statements::probe).await
    }

    /// Opens the file now, if this core has a connection of its own: later the process may be out of files. What is wrong
    /// with it shows at each read. From now on, reads of one turn of the caller's runtime share a snapshot.
    pub(super) fn open(&self) {
        if let Reads::Inline(reader) = &self.reads {
            let _ = reader.read(statements::probe);
            reader.has_turns_of_runtime();
        }
    }

    async fn read<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        match &self.reads {
            Reads::Inline(reader) => reader.read(read),
            Reads::Queued(queues) => within_patience("a read", queues.read(read)).await,
        }
    }
}
