//! Work that must not run on the threads of the runtime: what computes for long, and what blocks.
//!
//! Each kind has a bounded number of threads and a bounded line before them, both of them a [`Limit`]. Work is handed to a pool
//! only when one of its threads is free, so it waits in our line, where it can be counted, refused and taken back, and not in
//! the pool's, where it cannot. It is *not* a place for endless loops: a thread that is never given back is lost to all others.
//!
//! | work | threads | why |
//! |---|---|---|
//! | [`cpu`](Offload::cpu) | a rayon pool of its own | one thread for each core, and what is parallel inside of it shares them |
//! | [`blocking`](Offload::blocking) | Tokio's, for blocking work | they come and go as they are needed, and end with the runtime; what it lacks, a bound for us and our line, is here |
//!
//! Invariant: a permit goes with the work into the pool and is given back when the work is over, whatever became of its future.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::{fmt, io, thread};

use rayon::{ThreadPool, ThreadPoolBuilder};
use thiserror::Error;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

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
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use baiwan_task::Offload;
///
/// let offload = Offload::builder().cpu_threads(1).blocking_threads(4).queue(100).build().unwrap();
/// let sum = offload.cpu(|| (1..=1_000_u64).sum::<u64>()).await.unwrap();
/// let read = offload.blocking(|| std::fs::read_to_string("Cargo.toml")).await.unwrap();
/// assert_eq!((sum, read.is_ok()), (500_500, true));
/// # }
/// ```
#[derive(Clone)]
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
    /// The threads are closed, or the runtime is shutting down. It was not run.
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
    ///
    /// # Cancel safety
    /// If the future is dropped while the work waits for a thread, it never runs. If it is dropped later, the work goes on.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// # let offload = baiwan_task::Offload::builder().cpu_threads(1).build().unwrap();
    /// use baiwan_task::OffloadError;
    ///
    /// match offload.cpu(|| "seven".parse::<u32>().expect("a number")).await {
    ///     Err(OffloadError::Panicked(panic)) => assert!(panic.message().starts_with("a number")),
    ///     other => unreachable!("{other:?}"),
    /// }
    /// # }
    /// ```
    pub async fn cpu<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, OffloadError> {
        let permit = self.cpu.acquire().await?;
        let (sender, receiver) = oneshot::channel();
        // Rayon ends the process if a panic comes out, and what is dropped here may panic, too: work that is not wanted any
        // more, or its result.
        let job = move || {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(move || run(permit, work, sender))) {
                discard(payload);
            }
        };
        self.pool.spawn(job);
        match receiver.await {
            Ok(result) => result.map_err(OffloadError::Panicked),
            Err(_dropped) => Err(OffloadError::Closed),
        }
    }

    /// Runs work that blocks: files, names, libraries that know no async.
    ///
    /// # Errors
    /// [`OffloadError`]; only with [`Panicked`](OffloadError::Panicked) has it begun.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    ///
    /// # Cancel safety
    /// If the future is dropped while the work waits for a thread, it never runs. If it is dropped later, the work goes on.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, OffloadError> {
        let permit = self.blocking.acquire().await?;
        let job = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        // Others may have taken all of Tokio's threads, so it may wait there, too.
        match (AbortedIfDropped { job }).await {
            Ok(value) => Ok(value),
            Err(error) => match error.try_into_panic() {
                Ok(payload) => Err(OffloadError::Panicked(Panic::new(payload))),
                Err(_cancelled) => Err(OffloadError::Closed),
            },
        }
    }

    /// Takes no more work. What waits for a thread is told [`Closed`](OffloadError::Closed); what runs goes on, and its result is
    /// delivered. The threads end when the last handle is gone and their work is done.
    pub fn close(&self) {
        self.cpu.close();
        self.blocking.close();
    }

    /// How much work waits for a thread to compute.
    #[must_use]
    pub fn queued_cpu(&self) -> usize {
        self.cpu.waiting()
    }

    /// How much work waits for a thread to block.
    #[must_use]
    pub fn queued_blocking(&self) -> usize {
        self.blocking.waiting()
    }

    /// How much work computes, or is about to: it has its thread.
    #[must_use]
    pub fn running_cpu(&self) -> usize {
        self.cpu.permits() - self.cpu.available()
    }

    /// How much work blocks, or is about to: it has its thread.
    #[must_use]
    pub fn running_blocking(&self) -> usize {
        self.blocking.permits() - self.blocking.available()
    }
}

/// What a thread of the pool does. The permit is dropped before the result is sent, so who gets the result finds a free thread.
fn run<T>(permit: Permit, work: impl FnOnce() -> T, sender: oneshot::Sender<Result<T, Panic>>) {
    if sender.is_closed() {
        return;
    }
    let result = catch_unwind(AssertUnwindSafe(work)).map_err(Panic::new);
    drop(permit);
    drop(sender.send(result));
}

/// Tokio's task for work that blocks: if it has not begun, it is taken back when this is dropped.
struct AbortedIfDropped<T> {
    job: JoinHandle<T>,
}

impl<T> Future for AbortedIfDropped<T> {
    type Output = Result<T, tokio::task::JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(Pin::new(&mut self.job).poll(cx));
        Poll::Ready(result)
    }
}

impl<T> Drop for AbortedIfDropped<T> {
    fn drop(&mut self) {
        self.job.abort();
    }
}

impl From<Refused> for OffloadError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::QueueFull { waiting_max } => OffloadError::QueueFull { waiting_max },
            Refused::Closed => OffloadError::Closed,
            Refused::InUse | Refused::TimedOut { .. } => unreachable!("it waits, and for as long as it takes"),
        }
    }
}

impl fmt::Debug for Offload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offload").field("cpu", &self.cpu).field("blocking", &self.blocking).finish()
    }
}
