//! A thread that runs beside the cores until the server is dropped, such as one that watches memory.
//!
//! The invariant: when it was dropped, its thread has ended, unless something blocks that for longer than [`END_MAX`], such as a log that
//! nobody reads.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// How long whoever drops it waits for its thread.
const END_MAX: Duration = Duration::from_secs(1);

/// A thread that ends when this is dropped.
#[derive(Debug)]
pub(super) struct SideThread {
    end: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    /// A lock only so that whoever has this may be shared by threads.
    ended: Mutex<Receiver<()>>,
}

/// Tells the thread how long it may go on.
#[derive(Debug)]
pub(super) struct Pauses(Receiver<()>);

impl Pauses {
    /// Waits. False if the thread shall end, which ends the wait.
    pub(super) fn pause(&self, length: Duration) -> bool {
        // Nothing is ever sent.
        self.0.recv_timeout(length) == Err(RecvTimeoutError::Timeout)
    }
}

impl SideThread {
    /// Starts a thread of this name. `body` is to return as soon as a pause is the last.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub(super) fn begin(name: &str, body: impl FnOnce(Pauses) + Send + 'static) -> io::Result<Self> {
        let (end, pauses) = sync_channel(0);
        let (alive, ended) = sync_channel(0);
        let body = move || {
            let _alive: SyncSender<()> = alive;
            body(Pauses(pauses));
        };
        let thread = Builder::new().name(name.to_owned()).spawn(body)?;
        Ok(Self { end: Some(end), thread: Some(thread), ended: Mutex::new(ended) })
    }
}

impl Drop for SideThread {
    fn drop(&mut self) {
        drop(self.end.take());
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let is_over = ended.recv_timeout(END_MAX) == Err(RecvTimeoutError::Disconnected);
        if let Some(thread) = self.thread.take().filter(|_| is_over) {
            // A panic was said by the thread itself.
            let _ = thread.join();
        }
    }
}
