//! The embedded database: users in one SQLite file.
//!
//! ```text
//!   core 0: CoreStore ── Reader (own connection, read inline)
//!                └────── Writer ─┐
//!   core n: CoreStore ── Writer ─┴─ bounded queue ─► writer thread ─► one transaction for all that wait
//! ```
//!
//! Where cores must not open the file, because each has an fd table of its own, threads beside the writer's read for them
//! (`readers`).
//!
//! [`Store`] is the process's: it opens and migrates the file once, owns the writer thread and closes in order.
//! [`CoreStore`] is one core's. Invariant: a write is acknowledged only after the transaction that holds it was
//! committed with `synchronous=FULL`; whatever fails before that is an error, never an acknowledgement.

mod reader;
mod readers;
mod schema;
mod users;
mod writer;

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use thiserror::Error;

pub use self::reader::Reader;
pub use self::schema::OpenError;
pub use self::users::{NewUser, User};
pub use self::writer::{WRITE_GROUP_MAX, WRITE_QUEUE_MAX, Writer};

use self::readers::{Queues, ReaderThreads};
use self::writer::WriterThread;

/// Why a read or a write was not done. What SQLite said is in the log, not in answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// Another user has the name.
    #[error("the name is taken")]
    NameTaken,
    /// [`WRITE_QUEUE_MAX`] writes wait already.
    #[error("too many writes are waiting")]
    QueueFull,
    /// The file cannot be read or written at the moment, or the store is closing.
    #[error("the store is not available")]
    Unavailable,
}

/// The database of the process.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    // Ended before the writer: whose connection closes last moves the log into the file.
    readers: Option<ReaderThreads>,
    writer: WriterThread,
}

impl Store {
    /// Opens the file at the absolute `path`, creates it when it is absent, brings it to this version's schema and
    /// starts the writer thread.
    ///
    /// # Errors
    ///
    /// [`OpenError`], one line that says what to do. A file that is not this service's is left as it was.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let connection = schema::open(path)?;
        let writer = WriterThread::start(path.to_owned(), connection).map_err(OpenError::Thread)?;
        Ok(Self { path: path.to_owned(), readers: None, writer })
    }

    /// Has so many threads read, at least one, instead of the cores themselves: for cores with fd tables of their own. They
    /// have the table of the calling thread, which must be that of [`open`](Self::open).
    ///
    /// # Errors
    ///
    /// [`OpenError::Thread`] when a thread cannot be started.
    pub fn with_reader_threads(mut self, count: usize) -> Result<Self, OpenError> {
        self.readers = Some(ReaderThreads::start(&self.path, count).map_err(OpenError::Thread)?);
        Ok(self)
    }

    /// The part for one core. Cheap: its connection, if it has one, opens at the first read.
    pub fn for_core(&self) -> CoreStore {
        let reads = match &self.readers {
            None => Reads::Inline(Reader::new(self.path.clone())),
            Some(threads) => Reads::Queued(threads.handle()),
        };
        CoreStore { reads, writer: self.writer() }
    }

    /// A way into the write queue that does not wait for outcomes.
    pub fn writer(&self) -> Writer {
        self.writer.handle()
    }

    /// Transactions committed since the start.
    pub fn commits(&self) -> u64 {
        self.writer.commits()
    }

    /// Finishes the queued writes, moves the write-ahead log into the file and ends the writer thread. Dropping does
    /// the same. Blocks for as long as that takes.
    pub fn close(self) {
        drop(self);
    }
}

/// The database as one core sees it. A clone is another core's: it has a connection of its own.
#[derive(Clone, Debug)]
pub struct CoreStore {
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

impl CoreStore {
    /// Stores a user and returns it as stored, once it is durable.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`]; then nothing was acknowledged. When the caller goes away before the answer, the write may
    /// still happen.
    pub async fn insert_user(&self, user: NewUser) -> Result<User, StoreError> {
        self.writer.insert_user(user)?.await.unwrap_or(Err(StoreError::Unavailable))
    }

    /// The user `id`, if there is one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn user(&self, id: i64) -> Result<Option<User>, StoreError> {
        self.read(move |connection| users::find(connection, id)).await
    }

    /// At most `limit` users with an id greater than `after`, in the order of their ids.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn users(&self, after: i64, limit: u32) -> Result<Vec<User>, StoreError> {
        self.read(move |connection| users::page(connection, after, limit)).await
    }

    /// Whether the file can be read and the writer thread lives: one cheap read.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn check(&self) -> Result<(), StoreError> {
        if self.writer.is_closed() {
            return Err(StoreError::Unavailable);
        }
        self.read(users::probe).await
    }

    /// Opens the file now, if this core has a connection of its own: later the process may be out of files. What is wrong
    /// with it shows at each read.
    pub fn open(&self) {
        if let Reads::Inline(reader) = &self.reads {
            let _ = reader.read(users::probe);
        }
    }

    async fn read<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        match &self.reads {
            Reads::Inline(reader) => reader.read(read),
            Reads::Queued(queues) => queues.read(read).await,
        }
    }
}
