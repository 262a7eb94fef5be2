//! The store: users, in an SQLite file or in a PostgreSQL database. Both answer alike; the tests are the same.
//!
//! ```text
//!   routes ─► CoreStore (one for each core) ─┬─ sqlite: reads inline, one writer thread for all
//!                                            └─ postgres: pipelined over the core's connections
//! ```
//!
//! [`Store`] is the process's: opened and migrated before the cores start, closed after they have ended. Invariants: a change is
//! acknowledged only once it is durable, and every operation ends within [`PATIENCE`], with [`StoreError::Unavailable`] if the
//! store does not answer. An operation that ended so may still have happened; creations with a key can be asked for again.

mod collector;
mod counts;
mod demo;
mod location;
mod migrations;
pub mod postgres;
pub mod sqlite;
mod tls_mode;
mod users;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use baiwan::metrics::prometheus_client::collector::Collector;
use baiwan_task::timeout;
use thiserror::Error;
use tracing::debug;

pub use self::demo::DemoError;
pub use self::location::{Location, PostgresUrl};
pub use self::users::{Change, Condition, Fields, IDEMPOTENCY_KEY_BYTES_MAX, IdempotencyKey, User};

use self::collector::StoreCollector;
use self::counts::{Counter, Counts, Operation};
use self::postgres::{CorePostgres, Postgres};
use self::sqlite::{CoreSqlite, Sqlite};

/// How long an operation may take.
pub const PATIENCE: Duration = Duration::from_millis(1500);
/// How long the check of the admin side may take: less than the second after which that gives it up.
const WATCH_PATIENCE: Duration = Duration::from_millis(800);

/// Why something was not read or changed. What the database said is in the log, not in answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// Another user has the name.
    #[error("the name is taken")]
    NameTaken,
    /// There is no user of that id.
    #[error("there is no such user")]
    NoSuchUser,
    /// The user is not as the caller's condition demands.
    #[error("the condition does not hold")]
    ConditionFailed,
    /// The idempotency key came with other fields before.
    #[error("the key was used for something else")]
    KeyReused,
    /// As many operations wait as may.
    #[error("too many operations are waiting")]
    QueueFull,
    /// The store cannot be read or written at the moment, or is closing.
    #[error("the store is not available")]
    Unavailable,
}

/// Why the store could not be opened at start; each is one line that says what to do.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The SQLite file cannot be used.
    #[error(transparent)]
    Sqlite(#[from] sqlite::OpenError),
    /// The PostgreSQL database cannot be used.
    #[error(transparent)]
    Postgres(#[from] postgres::OpenError),
}

/// How a store is opened.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many cores will use it.
    pub cores: usize,
    /// The most connections to PostgreSQL, for all cores together.
    pub connections_max: usize,
    /// SQLite is read on threads beside the writer's, because each core has an fd table of its own.
    pub reads_on_threads: bool,
}

/// The store of the process.
#[derive(Debug)]
pub struct Store {
    backend: Backend,
    counts: Arc<Counts>,
}

#[derive(Debug)]
enum Backend {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl Store {
    /// Opens the store at `location` (a path must be absolute) and brings it to this version's schema.
    ///
    /// # Errors
    ///
    /// [`OpenError`], one line that says what to do. What is not this service's is left as it was.
    pub async fn open(location: &Location, options: &Options) -> Result<Self, OpenError> {
        let backend = match location {
            Location::Sqlite(path) => {
                let store = Sqlite::open(path, options.cores)?;
                // Reading takes CPU and waits for nothing, so more threads than CPUs would not read more.
                let threads = baiwan::settings::cpu_count();
                Backend::Sqlite(if options.reads_on_threads { store.with_reader_threads(threads)? } else { store })
            }
            Location::Postgres(url) => {
                Backend::Postgres(Postgres::open(url, options.cores, options.connections_max).await?)
            }
        };
        Ok(Self { backend, counts: Counts::new(options.cores) })
    }

    /// Refuses what [`open`](Self::open) would refuse of files, in the same words, and leaves everything as it is. A server is not asked.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub fn look(location: &Location) -> Result<(), OpenError> {
        match location {
            Location::Sqlite(path) => Ok(Sqlite::look(path)?),
            Location::Postgres(url) => Ok(Postgres::look(url)?),
        }
    }

    /// The part for the core of that number, from 0 on. Cheap: what it needs opens with [`CoreStore::open`], or when it is
    /// first used.
    pub fn for_core(&self, core: usize) -> CoreStore {
        let backend = match &self.backend {
            Backend::Sqlite(store) => CoreBackend::Sqlite(store.for_core()),
            Backend::Postgres(store) => CoreBackend::Postgres(store.for_core(core)),
        };
        CoreStore { backend, counter: Counter::of_core(&self.counts, core) }
    }

    /// Changes acknowledged since the start.
    pub fn changes(&self) -> u64 {
        match &self.backend {
            Backend::Sqlite(store) => store.changes(),
            Backend::Postgres(store) => store.changes(),
        }
    }

    /// What tells Prometheus of the store: whether it is up, what waits for it and for how long, and its errors.
    pub fn collector(&self) -> impl Collector + use<> {
        StoreCollector(Arc::clone(&self.counts))
    }

    /// Finishes what is queued and closes; for SQLite, the write-ahead log is moved into the file. Dropping does the same.
    /// Blocks for as long as that takes.
    pub fn close(self) {
        drop(self);
    }
}

/// The store as one core sees it.
#[derive(Clone, Debug)]
pub struct CoreStore {
    backend: CoreBackend,
    counter: Counter,
}

/// What is asked of PostgreSQL is boxed: its futures are large, and who asks SQLite would carry room for them.
#[derive(Clone, Debug)]
enum CoreBackend {
    Sqlite(CoreSqlite),
    Postgres(CorePostgres),
}

impl CoreStore {
    /// Opens what this core needs: a file, or connections, whose tasks run on the Tokio runtime within which this is called.
    /// What is wrong with them shows at each use.
    pub fn open(&self) {
        match &self.backend {
            CoreBackend::Sqlite(store) => store.open(),
            CoreBackend::Postgres(store) => store.open(),
        }
    }

    /// Makes a change. Returns the user, once that is durable: as stored, or as it was before it was deleted.
    ///
    /// # Errors
    ///
    /// Any [`StoreError`]; then nothing was acknowledged. After [`StoreError::Unavailable`], or when the caller goes away before
    /// the answer, the change may still happen.
    pub async fn apply(&self, change: Change) -> Result<User, StoreError> {
        let under_way = self.counter.begin(Operation::Change);
        under_way.end(match &self.backend {
            CoreBackend::Sqlite(store) => within_patience("a change", store.apply(change)).await,
            CoreBackend::Postgres(store) => within_patience("a change", Box::pin(store.apply(change))).await,
        })
    }

    /// The user `id`, if there is one.
    ///
    /// # Errors
    ///
    /// [`StoreError::QueueFull`] or [`StoreError::Unavailable`].
    pub async fn user(&self, id: i64) -> Result<Option<User>, StoreError> {
        let under_way = self.counter.begin(Operation::Read);
        under_way.end(match &self.backend {
            CoreBackend::Sqlite(store) => store.user(id).await,
            CoreBackend::Postgres(store) => within_patience("a read of a user", Box::pin(store.user(id))).await,
        })
    }

    /// At most `limit` users with an id greater than `after`, in the order of their ids.
    ///
    /// # Errors
    ///
    /// [`StoreError::QueueFull`] or [`StoreError::Unavailable`].
    pub async fn users(&self, after: i64, limit: u32) -> Result<Vec<User>, StoreError> {
        let under_way = self.counter.begin(Operation::Read);
        under_way.end(match &self.backend {
            CoreBackend::Sqlite(store) => store.users(after, limit).await,
            CoreBackend::Postgres(store) => {
                within_patience("a read of a page of users", Box::pin(store.users(after, limit))).await
            }
        })
    }

    /// Whether the store can be read: one cheap read.
    ///
    /// # Errors
    ///
    /// [`StoreError::QueueFull`] or [`StoreError::Unavailable`].
    pub async fn check(&self) -> Result<(), StoreError> {
        match &self.backend {
            CoreBackend::Sqlite(store) => store.check().await,
            CoreBackend::Postgres(store) => within_patience("a check", Box::pin(store.check())).await,
        }
    }

    /// As [`check`](Self::check), and the metrics say from now on what came of it. A store that has too much to do is up.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn watch(&self) -> Result<(), StoreError> {
        let under_check = self.counter.begin_check();
        let outcome = match timeout("a check", WATCH_PATIENCE, self.check()).await {
            Ok(Err(StoreError::QueueFull)) => Ok(()),
            Ok(outcome) => outcome,
            Err(_late) => Err(StoreError::Unavailable),
        };
        under_check.end(outcome.is_ok());
        outcome
    }
}

/// `what` is the operation, for the log.
async fn within_patience<T>(
    what: &'static str,
    operation: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    timeout(what, PATIENCE, operation).await.unwrap_or_else(|late| {
        debug!(reason = %late, "the store did not answer in time");
        Err(StoreError::Unavailable)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_not_done_within_the_patience_is_given_up() {
        let begin = tokio::time::Instant::now();
        let outcome = within_patience("a change", std::future::pending::<Result<(), StoreError>>()).await;
        assert_eq!((outcome, begin.elapsed()), (Err(StoreError::Unavailable), PATIENCE));
        assert_eq!(within_patience("a change", std::future::ready(Ok(7))).await, Ok(7));
    }
}
