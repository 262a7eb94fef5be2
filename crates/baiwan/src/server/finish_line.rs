//! How cores end together: each keeps its runtime turning until all of them are done, and for a while for what handlers have spawned.
//!
//! ```text
//!   the loop has ended ──▶ so have those of all cores ──▶ no task is alive on any core, ──▶ the runtime ends
//!   and the app is dropped                                 or the grace is over
//! ```
//!
//! What a handler or a task waits for may live on the runtime of another core: the connection of a pool or of an HTTP client that
//! the cores share. So no runtime ends while somebody may need it. It is *not* here that a loop is told to end: that is the server's
//! phase.
//!
//! The invariant: nobody is waited for beyond the time that the stop has, nor once the server is in [`Phase::Stopping`].

use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::say::say;
use crate::settings::Settings;
use crate::status::{CoreStatus, Phase, Status};

/// How often a core looks whether tasks have ended: nothing tells it.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// Tasks that go on for longer than this are spoken of.
const PATIENCE: Duration = Duration::from_secs(1);
/// Turns of the runtime in which tasks end that were told to: those of connections, and those that end with the app.
const SETTLING_TURNS: usize = 16;

/// What the cores of a server share at their end.
#[derive(Debug)]
pub(super) struct FinishLine {
    status: Arc<Status>,
    settings: Arc<Settings>,
    /// Cores whose loop has not ended.
    loops: AtomicUsize,
    /// Of each core, the tasks that were alive when it looked last.
    tasks: Box<[AtomicUsize]>,
    /// Cores that have not crossed the line.
    cores: AtomicUsize,
    /// It was said that tasks are waited for.
    said: AtomicBool,
    /// Tasks that ended with their runtimes.
    left: AtomicUsize,
    /// Becomes true when all have crossed the line.
    crossed: watch::Sender<bool>,
}

/// The end of one core. Where its thread panics, dropping this says that it is over.
#[derive(Debug)]
pub(super) struct Finish {
    line: Arc<FinishLine>,
    index: usize,
    loop_ended: bool,
}

impl FinishLine {
    pub(super) fn new(status: Arc<Status>, settings: Arc<Settings>) -> Arc<Self> {
        let cores = status.cores.len();
        Arc::new(Self {
            status,
            settings,
            loops: AtomicUsize::new(cores),
            tasks: (0..cores).map(|_| AtomicUsize::new(0)).collect(),
            cores: AtomicUsize::new(cores),
            said: AtomicBool::new(false),
            left: AtomicUsize::new(0),
            crossed: watch::Sender::new(false),
        })
    }

    /// That of a core which is about to start.
    pub(super) fn finish(self: &Arc<Self>, index: usize) -> Finish {
        Finish { line: Arc::clone(self), index, loop_ended: false }
    }

    /// Becomes true when nothing of any core but blocking calls can go on.
    pub(super) fn crossed(&self) -> watch::Receiver<bool> {
        self.crossed.subscribe()
    }

    fn is_cut(&self) -> bool {
        self.status.phase() == Phase::Stopping
    }

    fn say_what_goes_on(&self, at_most: Duration) {
        let tasks: usize = self.tasks.iter().map(|tasks| tasks.load(Relaxed)).sum();
        let at_most_seconds = at_most.as_millis() as f64 / 1000.0;
        say(|| tracing::info!(tasks, at_most_seconds, "still stopping: waits for tasks that handlers have spawned"));
    }

    fn has_no_tasks(&self) -> bool {
        self.tasks.iter().all(|tasks| tasks.load(Acquire) == 0)
    }
}

impl Finish {
    /// Waits until every core is done, and for what handlers have spawned. To be called on the core's runtime, when its loop has ended and
    /// its app was dropped. Returns how long blocking calls may still hold up the end.
    pub(super) async fn cross(mut self) -> Duration {
        self.end_loop();
        let now = Instant::now();
        let ends = self.ends().unwrap_or(now);
        let others = self.core().until(|| self.line.loops.load(Acquire) == 0 || self.line.is_cut());
        // When the time is over, the others are cut as well.
        let _ = timeout_at(ends, others).await;
        let grace_ends = self.line.settings.shutdown_grace.and_then(|grace| Instant::now().checked_add(grace));
        let ends = grace_ends.map_or(ends, |grace_ends| grace_ends.min(ends));
        self.wait_for_tasks(ends).await;
        // Whoever held on to this runtime's waker would hold its files.
        self.core().inbox.close();
        match self.line.is_cut() {
            true => Duration::ZERO,
            false => ends.saturating_duration_since(Instant::now()),
        }
    }

    /// Waits until no task is alive on any core: one on this core may need one of another.
    async fn wait_for_tasks(&self, ends: Instant) {
        for _ in 0..SETTLING_TURNS {
            if self.look() == 0 {
                break;
            }
            tokio::task::yield_now().await;
        }
        let is_over = || self.line.has_no_tasks() || self.line.is_cut();
        let spoken_of = Instant::now() + PATIENCE;
        loop {
            let (alive, now) = (self.look(), Instant::now());
            if is_over() || now >= ends {
                self.line.left.fetch_add(alive, Relaxed);
                return;
            }
            if now >= spoken_of && !self.line.said.swap(true, Relaxed) {
                self.line.say_what_goes_on(ends - now);
            }
            let _ = timeout(LOOK_INTERVAL, self.core().until(is_over)).await;
        }
    }

    /// Looks how many tasks are alive, and tells the others.
    fn look(&self) -> usize {
        let alive = self.tasks_alive();
        if self.line.tasks[self.index].swap(alive, AcqRel) > 0 && alive == 0 {
            self.line.status.wake_cores();
        }
        alive
    }

    /// The number of tasks that handlers have spawned on this core and that have not ended.
    fn tasks_alive(&self) -> usize {
        let core = self.core();
        // An exchange and a connection in hyper's hands are a task each; one that has switched protocols is the app's.
        let transports = &core.transports;
        let in_hyper = transports.open.load(Relaxed).saturating_sub(transports.upgraded.load(Relaxed));
        let own = core.exchanges.load(Relaxed) + in_hyper;
        Handle::current().metrics().num_alive_tasks().saturating_sub(own as usize)
    }

    /// When the time for the stop is over; `None` if the server does not stop in order.
    fn ends(&self) -> Option<Instant> {
        let Settings { shutdown_timeout, shutdown_delay, .. } = *self.line.settings;
        self.line.status.draining_since()?.checked_add(shutdown_timeout.saturating_sub(shutdown_delay))
    }

    fn core(&self) -> &CoreStatus {
        &self.line.status.cores[self.index]
    }

    fn end_loop(&mut self) {
        if std::mem::replace(&mut self.loop_ended, true) {
            return;
        }
        // The others shall not take it for a core without tasks before it has looked.
        self.line.tasks[self.index].store(usize::from(!std::thread::panicking()), Release);
        if self.line.loops.fetch_sub(1, AcqRel) == 1 {
            self.line.status.wake_cores();
        }
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        self.end_loop();
        self.line.tasks[self.index].store(0, Release);
        if self.line.cores.fetch_sub(1, AcqRel) > 1 {
            return;
        }
        let tasks = self.line.left.load(Relaxed);
        if tasks > 0 {
            say(|| tracing::warn!(tasks, "the server has stopped: tasks that handlers had spawned were ended with it"));
        }
        self.line.crossed.send_replace(true);
    }
}
