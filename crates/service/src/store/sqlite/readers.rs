//! Threads that read for cores that must not open the file themselves.
//!
//! Behind its connections SQLite keeps descriptors and record locks for the whole process: the connections of one file share the
//! log's index, and one takes over a descriptor that another has given up (`unixShmNode` and `findReusableFd` in its
//! `os_unix.c`). Where each core has an fd table of its own, such a number is somebody's connection, and locks that one thread
//! takes no other can release. So all connections are then on threads with the table of the thread that opened the store: the
//! writer's, and these.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::files::Files;
use super::{Reader, schema};
use crate::store::StoreError;

/// Reads that may wait for one thread; a further one is refused at once.
const READ_QUEUE_MAX: usize = 4096;
/// Reads that share a snapshot.
const READS_PER_TURN_MAX: usize = 64;
const _: () = assert!(READS_PER_TURN_MAX <= READ_QUEUE_MAX);

type Job = Box<dyn FnOnce(&Reader) + Send>;

/// The way to the threads. It does not keep them alive: once the store is closed, reads are [`StoreError::Unavailable`].
#[derive(Clone, Debug)]
pub(super) struct Queues {
    threads: Arc<[mpsc::WeakSender<Job>]>,
    next: Arc<AtomicUsize>,
}

impl Queues {
    /// Has the next thread read, and waits for what it says.
    pub(super) async fn read<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let queue = self.threads[turn % self.threads.len()].upgrade().ok_or(StoreError::Unavailable)?;
        let (reply, outcome) = oneshot::channel();
        let job: Job = Box::new(move |reader| {
            // A caller that has gone away needs no answer.
            let _ = reply.send(reader.read(read));
        });
        queue.try_send(job).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => StoreError::QueueFull,
            mpsc::error::TrySendError::Closed(_) => StoreError::Unavailable,
        })?;
        drop(queue);
        outcome.await.unwrap_or(Err(StoreError::Unavailable))
    }
}

/// The threads and the only lasting senders of their queues. Dropping them closes the queues and waits for the threads.
#[derive(Debug)]
pub(super) struct ReaderThreads {
    queues: Vec<mpsc::Sender<Job>>,
    next: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl ReaderThreads {
    pub(super) fn start(files: &Arc<Files>, commits: &Arc<AtomicU64>, count: usize) -> io::Result<Self> {
        let mut started = Self { queues: Vec::new(), next: Arc::default(), threads: Vec::new() };
        let cache_kib = schema::cache_kib(count);
        for number in 0..count.max(1) {
            let (queue, mut jobs) = mpsc::channel::<Job>(READ_QUEUE_MAX);
            let reader = Reader::new(Arc::clone(files), cache_kib, Arc::clone(commits));
            reader.has_turns();
            let body = move || {
                let mut turn = Vec::with_capacity(READS_PER_TURN_MAX);
                // Zero means that the queue is closed and empty.
                while jobs.blocking_recv_many(&mut turn, READS_PER_TURN_MAX) > 0 {
                    for job in turn.drain(..) {
                        job(&reader);
                    }
                    reader.end_turn();
                }
            };
            started.queues.push(queue);
            started.threads.push(Builder::new().name(format!("store-reader-{number}")).spawn(body)?);
        }
        Ok(started)
    }

    pub(super) fn handle(&self) -> Queues {
        Queues { threads: self.queues.iter().map(mpsc::Sender::downgrade).collect(), next: Arc::clone(&self.next) }
    }
}

impl Drop for ReaderThreads {
    fn drop(&mut self) {
        self.queues.clear();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                error!("a reader thread of the store had panicked");
            }
        }
    }
}
