//! What the rest of a server knows of a takeover: that another process has taken over, and that none may any more.
//!
//! The invariant: both happen once, and whoever waits hears of it, on whatever thread.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

/// How long a stop waits until nobody can take over any more: for a thread that has nothing else to do.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// A server's place in the line of processes that serve its sockets, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Succession {
    /// The process that has taken over.
    successor: OnceLock<u32>,
    /// Somebody may take over: handles on the listening sockets are held for that.
    is_open: AtomicBool,
    /// The server stops, so nobody may.
    is_closing: AtomicBool,
    news: Notify,
}

impl Succession {
    /// The process that has taken over, if one has.
    pub(crate) fn successor(&self) -> Option<u32> {
        self.successor.get().copied()
    }

    /// Waits until a process has taken over.
    pub(crate) async fn until_handed_over(&self) {
        self.until(|| self.successor().is_some()).await;
    }

    /// Has nobody take over any more, and waits until the handles on the listening sockets are closed: a stop that closes those of its cores
    /// would not be seen by clients otherwise.
    pub(crate) async fn close(&self) {
        self.is_closing.store(true, SeqCst);
        self.news.notify_waiters();
        let _ = timeout(CLOSE_MAX, self.until(|| !self.is_open.load(SeqCst))).await;
    }

    async fn until(&self, condition: impl Fn() -> bool) {
        loop {
            let news = self.news.notified();
            if condition() {
                return;
            }
            news.await;
        }
    }
}

#[cfg_attr(
    not(all(target_os = "linux", not(baiwan_portable))),
    allow(dead_code, reason = "only on Linux a process takes over from another")
)]
impl Succession {
    /// Handles on the listening sockets are held from here on, until [`end`](Self::end).
    pub(crate) fn begin(&self) {
        self.is_open.store(true, SeqCst);
    }

    /// They are closed, and everybody hears of it.
    pub(crate) fn end(&self) {
        self.is_open.store(false, SeqCst);
        self.news.notify_waiters();
    }

    /// Waits until the server stops.
    pub(crate) async fn until_closing(&self) {
        self.until(|| self.is_closing.load(SeqCst)).await;
    }

    /// The process `pid` has taken over. Whoever waits hears of it at the [end](Self::end).
    pub(crate) fn set_successor(&self, pid: u32) {
        // There is one keeper, and it hands over once.
        let _ = self.successor.set(pid);
    }
}
