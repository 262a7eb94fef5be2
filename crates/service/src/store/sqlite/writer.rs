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

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{Builder, JoinHandle};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

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
    pub(super) fn start(path: PathBuf, connection: Connection) -> io::Result<Self> {
        let (sender, queue) = mpsc::channel(WRITE_QUEUE_MAX);
        let (commits, changes) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let state = State {
            path,
            queue,
            connection: Some(connection),
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
    path: PathBuf,
    queue: mpsc::Receiver<Job>,
    /// `None` while the file cannot be opened again after a failure; each group tries.
    connection: Option<Connection>,
    commits: Arc<AtomicU64>,
    changes: Arc<AtomicU64>,
    /// The last group failed and was logged.
    failing: bool,
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
        if let Some(Err(error)) = self.connection.as_ref().map(schema::checkpoint) {
            warn!(%error, "the write-ahead log stays beside the database; the next start takes it in");
        }
    }

    fn write(&mut self, jobs: &[Job]) -> Vec<Outcome> {
        match self.write_group(jobs) {
            Ok(outcomes) => {
                self.commits.fetch_add(1, Ordering::Release);
                let made = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
                self.changes.fetch_add(made as u64, Ordering::Relaxed);
                if std::mem::take(&mut self.failing) {
                    info!("the store can be written again");
                }
                outcomes
            }
            Err(error) => {
                // The new one opens before the old one closes: when the last connection goes, the log's index goes
                // too, and on a full disk readers could not make another.
                let failed = self.connection.take();
                self.connection = schema::open_again(&self.path).ok();
                drop(failed);
                if !std::mem::replace(&mut self.failing, true) {
                    error!(%error, "the store cannot be written; writes are answered with 503");
                }
                vec![Err(StoreError::Unavailable); jobs.len()]
            }
        }
    }

    /// One transaction for all `jobs`; an error means that none of them was committed.
    fn write_group(&mut self, jobs: &[Job]) -> rusqlite::Result<Vec<Outcome>> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(schema::open_again(&self.path)?),
        };
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut outcomes = Vec::with_capacity(jobs.len());
        for job in jobs {
            if job.reply.is_closed() {
                outcomes.push(Err(StoreError::Unavailable));
                continue;
            }
            match statements::apply(&transaction, &job.change) {
                Ok(user) => outcomes.push(Ok(user)),
                Err(Failure::Refused(reason)) => outcomes.push(Err(reason)),
                Err(Failure::Sqlite(error)) => return Err(error),
            }
        }
        transaction.commit()?;
        Ok(outcomes)
    }
}
