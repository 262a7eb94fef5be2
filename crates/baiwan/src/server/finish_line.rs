//! How cores end together: each keeps its runtime turning until all of them are done, and for a while for what handlers have spawned.
//!
//! ```text
//!   the loop has ended ──▶ so have those of all cores ──▶ no task is alive on any core, ──▶ the runtime ends
//!   and the app is dropped                                 or the grace is over
//! ```
//!
//! What a handler or a task waits for may live on the runtime of another core: the connection of a pool or of an HTTP client that
//! the cores share. So no runtime ends while somebody may need it. A blocking call counts as a task: it may wait for its runtime.
//!
//! Nothing tells that the last task has ended, and tasks may spawn others on other cores. So the first core looks at all, twice in a
//! row, while the others sleep: see [`FinishLine::is_at_rest`].
//!
//! It is *not* here that a loop is told to end: that is the server's phase.
//!
//! The invariant: nobody is waited for beyond the time that the stop has, nor once the server is in [`Phase::Stopping`].

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, RuntimeMetrics};
use tokio::time::{Instant, timeout, timeout_at};

use super::blocking_threads::{BlockingThreads, THREAD_IDLE};
use crate::say::say;
use crate::settings::{STOP_MAX, Settings};
use crate::status::{CoreStatus, Phase, Status};

/// How often the first core looks whether tasks have ended, at first and at last.
const LOOK_INTERVALS: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(5)];
/// After this, a line is logged that says how many tasks the stop still waits for.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the cores of a server share at their end.
#[derive(Debug)]
pub(super) struct FinishLine {
    status: Arc<Status>,
    settings: Arc<Settings>,
    /// Cores whose loop has not ended.
    loops: AtomicUsize,
    cores: Box<[Core]>,
    /// Cores that have not crossed the line.
    running: AtomicUsize,
    /// Set when every core was seen at rest.
    at_rest: OnceLock<()>,
    /// Tasks that ended with their runtimes, and blocking calls that were not waited for any longer.
    left: [AtomicUsize; 2],
}

/// What can be seen of one core from the others.
#[derive(Debug, Default)]
struct Core {
    /// From the end of the loop until the core crosses the line. Dropped by the core itself: it holds files of its fd table.
    runtime: Mutex<Option<RuntimeMetrics>>,
    blocking_threads: Arc<BlockingThreads>,
}

/// The end of one core. Where its thread panics, dropping this stops the others.
#[derive(Debug)]
pub(super) struct Finish {
    line: Arc<FinishLine>,
    index: usize,
    loop_ended: bool,
}

/// A task of the server's own, which no stop waits for. Ends when it is dropped.
#[derive(Debug)]
pub(super) struct OwnTask(Arc<FinishLine>, usize);

impl FinishLine {
    pub(super) fn new(status: Arc<Status>, settings: Arc<Settings>) -> Arc<Self> {
        let cores = status.cores.len();
        Arc::new(Self {
            status,
            settings,
            loops: AtomicUsize::new(cores),
            cores: (0..cores).map(|_| Core::default()).collect(),
            running: AtomicUsize::new(cores),
            at_rest: OnceLock::new(),
            left: Default::default(),
        })
    }

    /// The end of the core with that number, which is about to start.
    pub(super) fn finish(self: &Arc<Self>, index: usize) -> Finish {
        Finish { line: Arc::clone(self), index, loop_ended: false }
    }

    fn is_cut(&self) -> bool {
        self.status.phase() == Phase::Stopping
    }

    fn is_over(&self) -> bool {
        self.at_rest.get().is_some() || self.is_cut()
    }

    /// Tasks that are alive on all cores, and threads of blocking calls.
    fn alive(&self) -> [usize; 2] {
        let cores = || self.cores.iter().zip(&self.status.cores);
        [
            cores().map(|(core, status)| core.tasks_alive(status)).sum(),
            cores().map(|(core, _)| core.blocking_threads.count()).sum(),
        ]
    }

    fn say_what_goes_on(&self, at_most: Duration) {
        let [tasks, blocking_calls] = self.alive();
        let at_most_seconds = at_most.as_millis() as f64 / 1000.0;
        say(|| {
            tracing::info!(
                tasks,
                blocking_calls,
                at_most_seconds,
                "still stopping: waits for tasks and blocking calls that handlers have spawned"
            );
        });
    }

    /// Whether nothing goes on and nothing can begin, as the core sees it that asks, while it runs nothing else.
    ///
    /// At one moment between the two looks every other core sleeps: it has not turned from its first look to its second. A task that
    /// went from core to core before that moment is alive then on one that sleeps, and so is seen by the second look.
    fn is_at_rest(&self, looker: usize) -> bool {
        let look = || -> Option<Vec<u64>> {
            let cores = self.cores.iter().zip(&self.status.cores).enumerate();
            cores.map(|(index, (core, status))| core.turns_at_rest(status, index == looker)).collect()
        };
        let loops_ended = self.loops.load(Acquire) == 0;
        loops_ended && look().is_some_and(|first| look() == Some(first))
    }
}

impl Core {
    fn runtime(&self) -> MutexGuard<'_, Option<RuntimeMetrics>> {
        // Nothing panics while the lock is held.
        self.runtime.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of tasks that handlers have spawned on this core and that have not ended.
    fn tasks_alive(&self, status: &CoreStatus) -> usize {
        let alive = self.runtime().as_ref().map_or(0, RuntimeMetrics::num_alive_tasks);
        // A connection in hyper's hands is a task; one that has switched protocols is the app's. An exchange is none, but where its handler
        // undoes what it had begun, and that is waited for.
        let transports = &status.transports;
        let in_hyper = transports.open.load(Relaxed).saturating_sub(transports.upgraded.load(Relaxed));
        alive.saturating_sub(in_hyper as usize + status.own_tasks.load(Relaxed))
    }

    /// How often the core has gone to sleep and woken up; `None` if it is awake or something is alive on it. The one that looks is awake.
    fn turns_at_rest(&self, status: &CoreStatus, looks: bool) -> Option<u64> {
        let is_at_rest = self.blocking_threads.count() == 0 && self.tasks_alive(status) == 0;
        // Last, so that a core which has not turned until now had no task when they were counted.
        let turns = self.runtime().as_ref().map(|runtime| runtime.worker_park_unpark_count(0));
        let sleeps = looks || turns.is_none_or(|turns| turns % 2 == 1);
        (is_at_rest && sleeps).then(|| turns.unwrap_or(0))
    }
}

impl Finish {
    /// Has a core's runtime count what its end waits for.
    pub(super) fn count_blocking_threads(&self, runtime: &mut Builder) {
        self.threads().count_those_of(runtime);
    }

    /// To be held by a task of the server's own.
    pub(super) fn begin_own_task(&self) -> OwnTask {
        self.core().own_tasks.fetch_add(1, Relaxed);
        OwnTask(Arc::clone(&self.line), self.index)
    }

    /// Waits until every core is done, and for what handlers have spawned. To be called on the core's runtime, when its loop has ended and
    /// its app was dropped. Returns how long a blocking call that nobody has seen may hold up the end.
    pub(super) async fn cross(mut self) -> Duration {
        *self.line.cores[self.index].runtime() = Some(Handle::current().metrics());
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
        let began = Instant::now();
        if self.index == 0 {
            self.look_after_all(began, ends).await;
        } else {
            let _ = timeout_at(ends, self.core().until(|| self.line.is_over())).await;
        }
        if self.line.at_rest.get().is_some() {
            return;
        }
        let [tasks, calls] = &self.line.left;
        tasks.fetch_add(self.line.cores[self.index].tasks_alive(self.core()), Relaxed);
        // Before that, it may be one that has ended.
        if began.elapsed() > THREAD_IDLE {
            calls.fetch_add(self.threads().count(), Relaxed);
        }
    }

    /// Looks until every core is at rest, and then tells the others.
    async fn look_after_all(&self, began: Instant, ends: Instant) {
        let [mut interval, interval_max] = LOOK_INTERVALS;
        let mut is_said = false;
        while !self.line.is_over() {
            if self.line.is_at_rest(self.index) {
                let _ = self.line.at_rest.set(());
                return self.line.status.wake_cores();
            }
            let now = Instant::now();
            if now >= ends {
                return;
            }
            if now >= began + PATIENCE && !std::mem::replace(&mut is_said, true) {
                self.line.say_what_goes_on(ends - now);
            }
            let _ = timeout(interval.min(ends - now), self.core().until(|| self.line.is_over())).await;
            interval = (interval * 2).min(interval_max);
        }
    }

    /// When the time for the stop is over; `None` if the server does not stop in order.
    fn ends(&self) -> Option<Instant> {
        let Settings { shutdown_timeout, shutdown_delay, .. } = *self.line.settings;
        self.line.status.draining_since()?.checked_add(shutdown_timeout.saturating_sub(shutdown_delay).min(STOP_MAX))
    }

    /// The core has failed. Nobody may wait for the server, and the first core is the one that hears of signals: so all end.
    pub(super) fn fail(self) {
        self.line.status.advance(Phase::Stopping);
    }

    fn core(&self) -> &CoreStatus {
        &self.line.status.cores[self.index]
    }

    fn threads(&self) -> &Arc<BlockingThreads> {
        &self.line.cores[self.index].blocking_threads
    }

    fn end_loop(&mut self) {
        if std::mem::replace(&mut self.loop_ended, true) {
            return;
        }
        if self.line.loops.fetch_sub(1, AcqRel) == 1 {
            self.line.status.wake_cores();
        }
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // As in `fail`.
            self.line.status.advance(Phase::Stopping);
        }
        self.end_loop();
        drop(self.line.cores[self.index].runtime().take());
        if self.line.running.fetch_sub(1, AcqRel) > 1 {
            return;
        }
        let [tasks, blocking_calls] = self.line.left.each_ref().map(|left| left.load(Relaxed));
        if tasks + blocking_calls > 0 {
            say(|| {
                tracing::warn!(
                    tasks,
                    blocking_calls,
                    "the server has stopped: tasks that handlers had spawned were ended with it, and it waits for their blocking calls no more"
                );
            });
        }
    }
}

impl Drop for OwnTask {
    fn drop(&mut self) {
        self.0.status.cores[self.1].own_tasks.fetch_sub(1, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_fails_or_panics_ends_all() {
        for panics in [false, true] {
            let status = Status::new(2, 1, 1);
            let line = FinishLine::new(Arc::clone(&status), Arc::default());
            let finish = line.finish(0);
            let core = std::thread::spawn(move || match panics {
                true => {
                    let _finish = finish;
                    std::panic::resume_unwind(Box::new("as the test wants it"));
                }
                false => finish.fail(),
            });
            assert_eq!(core.join().is_err(), panics);
            assert_eq!(status.phase(), Phase::Stopping);
        }
    }

    #[test]
    fn no_core_is_at_rest_while_the_thread_of_a_blocking_call_has_not_begun() {
        let line = FinishLine::new(Status::new(1, 1, 1), Arc::default());
        let mut finish = line.finish(0);
        let mut builder = Builder::new_current_thread();
        finish.count_blocking_threads(&mut builder);
        let (go, gone) = std::sync::mpsc::sync_channel::<()>(0);
        let gone = Mutex::new(gone);
        // The thread is there, but does not come as far as to be counted.
        builder.on_thread_start(move || drop(gone.lock().map(|gone| gone.recv())));
        builder.on_thread_stop(|| {});
        let runtime = builder.build().unwrap();
        runtime.block_on(async {
            *line.cores[0].runtime() = Some(Handle::current().metrics());
            finish.end_loop();
            assert!(line.is_at_rest(0));
            let call = tokio::task::spawn_blocking(|| {});
            assert!(!line.is_at_rest(0), "its runtime must turn until the call has ended");
            drop(go);
            call.await.unwrap();
        });
    }

    #[test]
    fn no_core_is_at_rest_while_a_handler_undoes_what_it_had_begun() {
        let status = Status::new(1, 1, 1);
        let line = FinishLine::new(Arc::clone(&status), Arc::default());
        let mut finish = line.finish(0);
        Builder::new_current_thread().build().unwrap().block_on(async {
            *line.cores[0].runtime() = Some(Handle::current().metrics());
            finish.end_loop();
            assert!(line.is_at_rest(0));
            // Its exchange lives on in a task.
            status.cores[0].exchanges.fetch_add(1, Relaxed);
            let undoing = tokio::spawn(std::future::pending::<()>());
            assert!(!line.is_at_rest(0));
            undoing.abort();
            assert!(undoing.await.is_err());
            assert!(line.is_at_rest(0));
        });
    }
}
