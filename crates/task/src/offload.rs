//! Work that must not run on the threads of the runtime: what computes for long, and what blocks.
//!
//! Each kind has a bounded number of threads and a bounded line before them, both of them a [`Limit`]. Work is handed to a pool
//! only when one of its threads is free, so it waits in our line, where it can be counted, refused and taken back, and not in
//! the pool's, where it cannot. It is *not* a place for endless loops: a thread that is never given back is lost to all others.
//!
//! [`cpu`](Offload::cpu) has a rayon pool of its own: one thread for each core, and what is parallel inside of it shares them.
//! [`blocking`](Offload::blocking) has Tokio's threads, which come and go as they are needed; what they lack, a bound, is here.
//!
//! Invariant: a permit goes with the work into the pool and is given back when the work is over, whatever became of its future.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::{io, thread};

use rayon::{ThreadPool, ThreadPoolBuilder};
use thiserror::Error;
use tokio::sync::{Semaphore, oneshot};

use crate::panic::{Panic, discard};
use crate::{Limit, Permit, Refused};

/// Threads for blocking work, unless it is said otherwise.
const BLOCKING_THREADS: usize = 32;
/// How many may wait for each kind of thread, unless it is said otherwise.
const QUEUE: usize = 1_024;

/// Runs what would stop other tasks on threads of its own.
///
/// Clones are handles of the same threads. There is none for the whole process: make one and hand it to those who need it.
///
/// # Cancel safety
/// Work whose future is dropped while it waits for a thread never runs. Once it has begun it runs to its end, and keeps its
/// thread, though nobody waits for it any more: a thread cannot be stopped from outside.
#[derive(Clone, Debug)]
pub struct Offload {
    pool: Arc<ThreadPool>,
    cpu: Limit,
    blocking: Limit,
}

/// How many threads, and how many may wait for them.
#[derive(Clone, Debug)]
#[must_use = "nothing is there before `build`"]
pub struct OffloadBuilder {
    cpu_threads: usize,
    blocking_threads: usize,
    queue: usize,
}

/// Why there is no result.
#[derive(Debug, Error)]
pub enum OffloadError {
    /// All threads are busy, and as much waits for them as may. It was not run.
    #[error("all threads are busy, and {waiting_max} are waiting already")]
    QueueFull {
        /// How many may wait.
        waiting_max: usize,
    },
    /// It was run, and panicked.
    #[error("the work {0}")]
    Panicked(Panic),
    /// The runtime is shutting down. It was not run.
    #[error("no more work is taken")]
    Closed,
}

impl OffloadBuilder {
    /// Threads for work that computes. By default, one for each core that the process may use.
    pub fn cpu_threads(mut self, threads: usize) -> Self {
        self.cpu_threads = threads;
        self
    }

    /// Threads for work that blocks; of Tokio's, which has 512 for all of its users by default. 32 by default.
    pub fn blocking_threads(mut self, threads: usize) -> Self {
        self.blocking_threads = threads;
        self
    }

    /// How many may wait for a thread, for each of the two kinds. 1,024 by default; with 0, nobody waits.
    pub fn queue(mut self, waiting_max: usize) -> Self {
        self.queue = waiting_max;
        self
    }

    /// Starts the threads for work that computes.
    ///
    /// # Errors
    /// If the system has no more threads.
    ///
    /// # Panics
    /// If a number of threads is 0.
    pub fn build(self) -> io::Result<Offload> {
        let limit = |threads: usize| Limit::new(threads.min(Semaphore::MAX_PERMITS)).queue(self.queue);
        let (cpu, blocking) = (limit(self.cpu_threads), limit(self.blocking_threads));
        let pool = ThreadPoolBuilder::new()
            .num_threads(self.cpu_threads)
            .thread_name(|index| format!("offload-{index}"))
            .build()
            .map_err(io::Error::other)?;
        Ok(Offload { pool: Arc::new(pool), cpu, blocking })
    }
}

impl Offload {
    /// Begins to say how many threads there are to be.
    pub fn builder() -> OffloadBuilder {
        let cpu_threads = thread::available_parallelism().map_or(1, usize::from);
        OffloadBuilder { cpu_threads, blocking_threads: BLOCKING_THREADS, queue: QUEUE }
    }

    /// Runs work that computes. Rayon's parallel iterators inside of it use the same threads.
    ///
    /// **Hold no lock over parallel work** that other work here takes, too: while a thread waits for the parts of its work, rayon has it
    /// do other work, and that may wait, for ever, for the lock that is held below it.
    ///
    /// The work is in no task group, so [`is_cancelled`](crate::is_cancelled()) is false there. What computes for long asks a
    /// [`Group`](crate::Group) that was cloned into it, or a flag.
    ///
    /// # Errors
    /// [`OffloadError`]; only with [`Panicked`](OffloadError::Panicked) has it begun.
    pub async fn cpu<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, OffloadError> {
        let (job, result) = job(self.cpu.acquire().await?, work);
        self.pool.spawn(job);
        result.await.map_err(|_dropped| OffloadError::Closed)?.map_err(OffloadError::Panicked)
    }

    /// Runs work that blocks: files, names, libraries that know no async. Others may have taken all of Tokio's threads, so it may wait
    /// there, too; it can be taken back from there as well.
    ///
    /// # Errors
    /// [`OffloadError`]; only with [`Panicked`](OffloadError::Panicked) has it begun.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, OffloadError> {
        let (job, result) = job(self.blocking.acquire().await?, work);
        drop(tokio::task::spawn_blocking(job));
        result.await.map_err(|_dropped| OffloadError::Closed)?.map_err(OffloadError::Panicked)
    }
}

/// What a thread of a pool does, and what comes of it. The permit is dropped before the result is sent, so whoever gets the result
/// finds a free thread.
fn job<T: Send + 'static>(
    permit: Permit,
    work: impl FnOnce() -> T + Send + 'static,
) -> (impl FnOnce() + Send + 'static, oneshot::Receiver<Result<T, Panic>>) {
    let (sender, receiver) = oneshot::channel();
    let run = move || {
        if sender.is_closed() {
            return;
        }
        let result = catch_unwind(AssertUnwindSafe(work)).map_err(Panic::new);
        drop(permit);
        drop(sender.send(result));
    };
    // Rayon ends the process if a panic comes out, and what is dropped here may panic, too: work that is not wanted any more, or its
    // result.
    let job = move || {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(run)) {
            discard(payload);
        }
    };
    (job, receiver)
}

impl From<Refused> for OffloadError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::QueueFull { waiting_max } => OffloadError::QueueFull { waiting_max },
            Refused::InUse | Refused::TimedOut { .. } => unreachable!("it waits, and for as long as it takes"),
        }
    }
}
