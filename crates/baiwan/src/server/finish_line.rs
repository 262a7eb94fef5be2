//! How cores end together: each keeps its runtime turning until all of them are done.
//!
//! ```text
//!   the loop has ended ──▶ so have those of all cores ──▶ the runtime ends
//! ```
//!
//! What a handler waits for may live on the runtime of another core: the connection of a pool or of an HTTP client that the cores
//! share. So no runtime ends while a request is being answered anywhere. It is *not* here that a loop is told to end: that is the
//! server's phase.
//!
//! The invariant: nobody is waited for beyond the time that the stop has, nor once the server is in [`Phase::Stopping`].

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::Duration;

use tokio::time::Instant;

use crate::settings::Settings;
use crate::status::{CoreStatus, Phase, Status};

/// What the cores of a server share at their end.
#[derive(Debug)]
pub(super) struct FinishLine {
    status: Arc<Status>,
    settings: Arc<Settings>,
    /// Cores whose loop has not ended.
    loops: AtomicUsize,
}

/// The end of one core; dropped, where the thread of a core panics, it says the same as [`cross`](Self::cross) but waits for nobody.
#[derive(Debug)]
pub(super) struct Finish {
    line: Arc<FinishLine>,
    index: usize,
    loop_ended: bool,
}

impl FinishLine {
    pub(super) fn new(status: Arc<Status>, settings: Arc<Settings>) -> Arc<Self> {
        let loops = AtomicUsize::new(status.cores.len());
        Arc::new(Self { status, settings, loops })
    }

    /// That of a core which is about to start.
    pub(super) fn finish(self: &Arc<Self>, index: usize) -> Finish {
        Finish { line: Arc::clone(self), index, loop_ended: false }
    }
}

impl Finish {
    /// Waits until every core is done. To be called on the core's runtime, when its loop has ended and its app was dropped. Returns how long
    /// blocking calls may still hold up the end.
    pub(super) async fn cross(mut self) -> Duration {
        self.end_loop();
        let Some(ends) = self.ends() else { return Duration::ZERO };
        let all_done = self.core().until(|| self.line.loops.load(Acquire) == 0 || self.is_cut());
        // When the time is over, the others are cut as well.
        let _ = tokio::time::timeout_at(ends, all_done).await;
        // Whoever held on to this runtime's waker would hold its files.
        self.core().inbox.close();
        match self.is_cut() {
            true => Duration::ZERO,
            false => ends.saturating_duration_since(Instant::now()),
        }
    }

    /// When the time for the stop is over; `None` if the server does not stop in order.
    fn ends(&self) -> Option<Instant> {
        let Settings { shutdown_timeout, shutdown_delay, .. } = *self.line.settings;
        let since = self.line.status.draining_since()?;
        since.checked_add(shutdown_timeout.saturating_sub(shutdown_delay))
    }

    fn is_cut(&self) -> bool {
        self.line.status.phase() == Phase::Stopping
    }

    fn core(&self) -> &CoreStatus {
        &self.line.status.cores[self.index]
    }

    fn end_loop(&mut self) {
        if !std::mem::replace(&mut self.loop_ended, true) && self.line.loops.fetch_sub(1, Release) == 1 {
            self.line.status.wake_cores();
        }
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        self.end_loop();
    }
}
