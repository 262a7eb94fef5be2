//! The one writer of the process: a bounded queue and a thread that commits in groups.
//!
//! SQLite has one writer and a durable commit costs one flush, so the thread takes whatever waits, up to
//! [`WRITE_GROUP_MAX`], and pays one flush for all. A refused write leaves nothing in the transaction: only one statement of each
//! can break a constraint, and SQLite undoes such a statement by itself (`ON CONFLICT ABORT`), so savepoints, which would cost as
//! much as the writes, are not needed. Answers leave only after the commit. A write whose caller has given up before its turn is
//! not made.
//!
//! When the file fails (disk full, I/O error, busy for too long) every write of the group is answered with
//! [`StoreError::Unavailable`] and the connection is given up: after a failed flush nobody knows what the kernel
//! still holds, so the next group starts from a newly opened file.
//!
//! So is a group that was committed into a file that is not in its place any more (`files`). Until it is there again nothing more
//! is written: nobody would find it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use super::error::OpenError;
use super::files::{Files, Moved};
use super::statements::Failure;
use super::{schema, statements};
use crate::store::{Change, StoreError, User};

/// Writes that may wait; a further one is refused at once.
pub const WRITE_QUEUE_MAX: usize = 4096;
/// Writes in one transaction.
pub const WRITE_GROUP_MAX: usize = 512;
const _: () = assert!(WRITE_GROUP_MAX <= WRITE_QUEUE_MAX);

type Outcome = Result<User, StoreError>;

struct Job {
    change: Change,
    reply: oneshot::Sender<Outcome>,
}

/// The way into the queue, one for each core. It does not keep the writer alive: once the store is closed, writes are
/// [`StoreError::Unavailable`].
#[derive(Clone, Debug)]
pub struct Writer {
    queue: mpsc::WeakSender<Job>,
}

impl Writer {
    /// Queues a change without waiting for it; what is returned yields the outcome.
    ///
    /// # Errors
    ///
    /// [`StoreError::QueueFull`] or, when the store is closed, [`StoreError::Unavailable`].
    pub fn apply_nowait(&self, change: Change) -> Result<oneshot::Receiver<Result<User, StoreError>>, StoreError> {
        let queue = self.queue.upgrade().ok_or(StoreError::Unavailable)?;
        let (reply, outcome) = oneshot::channel();
        queue.try_send(Job { change, reply }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => StoreError::QueueFull,
            mpsc::error::TrySendError::Closed(_) => StoreError::Unavailable,
        })?;
        Ok(outcome)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.queue.upgrade().is_none_or(|queue| queue.is_closed())
    }
}

/// The thread and the only lasting sender of its queue. Dropping it closes the queue and waits for the thread.
#[derive(Debug)]
pub(super) struct WriterThread {
    queue: Option<mpsc::Sender<Job>>,
    commits: Arc<AtomicU64>,
    changes: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl WriterThread {
    pub(super) fn start(files: Arc<Files>, connection: Connection) -> io::Result<Self> {
        let (sender, queue) = mpsc::channel(WRITE_QUEUE_MAX);
        let (commits, changes) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let state = State {
            files,
            queue,
            connection,
            is_spent: false,
            is_rescued: false,
            commits: Arc::clone(&commits),
            changes: Arc::clone(&changes),
            failing: false,
        };
        let thread = Builder::new().name("store-writer".to_owned()).spawn(move || state.run())?;
        Ok(Self { queue: Some(sender), commits, changes, thread: Some(thread) })
    }

    pub(super) fn handle(&self) -> Writer {
        let queue = self.queue.as_ref().expect("the queue is there until the drop");
        Writer { queue: queue.downgrade() }
    }

    /// Transactions committed since the start; a change is acknowledged after its own was counted.
    pub(super) fn commits(&self) -> &Arc<AtomicU64> {
        &self.commits
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        drop(self.queue.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if matches!(ended, Some(Err(_))) {
            error!("the store's writer thread had panicked");
        }
    }
}

struct State {
    files: Arc<Files>,
    queue: mpsc::Receiver<Job>,
    /// Kept until there is another, so that the files stay open.
    connection: Connection,
    /// The connection has failed, and no other could be opened; each group tries.
    is_spent: bool,
    /// The log was moved into the file since that was found to be away.
    is_rescued: bool,
    commits: Arc<AtomicU64>,
    changes: Arc<AtomicU64>,
    /// The last group failed and was logged.
    failing: bool,
}

/// Why a group is not acknowledged.
enum Failed {
    /// [`Files`] has logged it.
    Moved,
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Moved> for Failed {
    fn from(_: Moved) -> Self {
        Self::Moved
    }
}

impl State {
    fn run(mut self) {
        let mut jobs = Vec::with_capacity(WRITE_GROUP_MAX);
        // Zero means that the queue is closed and empty.
        while self.queue.blocking_recv_many(&mut jobs, WRITE_GROUP_MAX) > 0 {
            let outcomes = self.write(&jobs);
            for (job, outcome) in jobs.drain(..).zip(outcomes) {
                // A caller that has gone away needs no answer.
                let _ = job.reply.send(outcome);
            }
        }
        if let Err(error) = schema::checkpoint_at_end(&self.connection) {
            warn!(%error, "the write-ahead log stays beside the database; the next start takes it in");
        }
    }

    fn write(&mut self, jobs: &[Job]) -> Vec<Outcome> {
        match self.write_group(jobs) {
            Ok(outcomes) => {
                self.commits.fetch_add(1, Ordering::Release);
                let made = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
                self.changes.fetch_add(made as u64, Ordering::Relaxed);
                self.is_rescued = false;
                if std::mem::take(&mut self.failing) {
                    info!("the store can be written again");
                }
                return outcomes;
            }
            Err(Failed::Moved) => self.rescue(),
            Err(Failed::Sqlite(error)) => {
                self.is_spent = true;
                // The new one opens before the old one closes: when the last connection goes, the log's index goes
                // too, and on a full disk readers could not make another.
                let _ = self.renew();
                if !std::mem::replace(&mut self.failing, true) {
                    let error = OpenError::of(self.files.database(), &error);
                    error!(%error, "the store cannot be written; writes are answered with 503");
                }
            }
        }
        vec![Err(StoreError::Unavailable); jobs.len()]
    }

    /// One transaction for all `jobs`; an error means that none of them may be acknowledged.
    fn write_group(&mut self, jobs: &[Job]) -> Result<Vec<Outcome>, Failed> {
        if self.files.were_away() {
            self.files.check()?;
        }
        self.renew()?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut outcomes = Vec::with_capacity(jobs.len());
        for job in jobs {
            if job.reply.is_closed() {
                outcomes.push(Err(StoreError::Unavailable));
                continue;
            }
            match statements::apply(&transaction, &job.change) {
                Ok(user) => outcomes.push(Ok(user)),
                Err(Failure::Refused(reason)) => outcomes.push(Err(reason)),
                Err(Failure::Sqlite(error)) => return Err(error.into()),
            }
        }
        transaction.commit()?;
        // Not before: a file that was in its place before the commit may have gone meanwhile.
        self.files.check()?;
        Ok(outcomes)
    }

    /// Another connection for one that has failed.
    fn renew(&mut self) -> Result<(), Failed> {
        if self.is_spent {
            self.files.check()?;
            self.connection = schema::open_again(self.files.database())?;
            self.is_spent = false;
        }
        Ok(())
    }

    /// Moves the log into the file, once: where only the log was removed, nothing that was acknowledged is lost by it, and where
    /// another file was put in place, the next start does not find the log of this one beside that.
    fn rescue(&mut self) {
        if !std::mem::replace(&mut self.is_rescued, true)
            && let Err(error) = schema::checkpoint(&self.connection)
        {
            warn!(%error, "the write-ahead log could not be moved into the database");
        }
    }
}
