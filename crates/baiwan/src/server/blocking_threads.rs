//! The threads of a core's blocking calls, counted from the moment at which Tokio asks the system for one.
//!
//! A thread begins later than it is asked for: on a busy machine, by many milliseconds. A stop that counted only threads that have begun
//! would end the runtime meanwhile, and a call that waits for something of that runtime, such as a timer, would wait forever.
//!
//! It is *not* here that anybody waits for blocking calls: that is `finish_line`'s business.
//!
//! The invariant: from the call of `spawn_blocking` until the blocking call returns, the count is above zero, unless the system takes longer
//! than [`START_MAX`] to begin a thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::Instant;

/// For this time after a blocking call its thread waits for another one. A stop cannot tell the two, and so may last longer by this.
pub(super) const THREAD_IDLE: Duration = Duration::from_millis(100);
/// A thread that has not begun by then, after the last one was asked for, is taken to have been refused by the system: Tokio does not say.
const START_MAX: Duration = Duration::from_secs(5);
/// What Tokio calls its threads.
const THREAD_NAME: &str = "tokio-rt-worker";

#[derive(Debug, Default)]
pub(super) struct BlockingThreads(Mutex<Threads>);

#[derive(Debug, Default)]
struct Threads {
    running: usize,
    /// Those that were asked for and have not begun.
    starting: usize,
    /// When the last one was asked for.
    asked: Option<Instant>,
}

impl BlockingThreads {
    /// Has a runtime count its threads here. It takes the runtime's hooks for the start, the end and the name of threads.
    pub(super) fn count_those_of(self: &Arc<Self>, runtime: &mut Builder) {
        let [asks, starts, ends] = std::array::from_fn(|_| Arc::clone(self));
        runtime
            // Tokio asks for the name on the thread that calls `spawn_blocking`, just before it asks the system for the thread.
            .thread_name_fn(move || {
                asks.lock().handle_asked(Instant::now());
                THREAD_NAME.to_owned()
            })
            .on_thread_start(move || starts.lock().handle_start())
            .on_thread_stop(move || ends.lock().running -= 1)
            .thread_keep_alive(THREAD_IDLE);
    }

    /// The number of threads that run or are about to.
    pub(super) fn count(&self) -> usize {
        self.lock().count(Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, Threads> {
        // Nothing panics while the lock is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Threads {
    fn handle_asked(&mut self, now: Instant) {
        self.starting = self.about_to_start(now) + 1;
        self.asked = Some(now);
    }

    fn handle_start(&mut self) {
        self.running += 1;
        // One may begin that was given up.
        self.starting = self.starting.saturating_sub(1);
    }

    fn count(&self, now: Instant) -> usize {
        self.running + self.about_to_start(now)
    }

    fn about_to_start(&self, now: Instant) -> usize {
        match self.asked {
            Some(asked) if now.duration_since(asked) < START_MAX => self.starting,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_counts_from_when_it_is_asked_for_until_it_ends() {
        let threads = Arc::<BlockingThreads>::default();
        let mut builder = Builder::new_current_thread();
        threads.count_those_of(&mut builder);
        let runtime = builder.build().unwrap();
        assert_eq!(threads.count(), 0);
        let (go, gone) = std::sync::mpsc::sync_channel::<()>(0);
        // Whether it has begun or not.
        let call = runtime.spawn_blocking(move || gone.recv());
        assert_eq!(threads.count(), 1);
        drop(go);
        assert!(runtime.block_on(call).unwrap().is_err());
        // Its threads have ended when it is gone.
        drop(runtime);
        assert_eq!(threads.count(), 0);
    }

    #[test]
    fn a_thread_that_the_system_refuses_is_given_up() {
        let mut threads = Threads::default();
        let first = Instant::now();
        threads.handle_asked(first);
        threads.handle_asked(first + START_MAX / 2);
        assert_eq!(threads.count(first + START_MAX), 2, "it may be late");
        threads.handle_start();
        let late = first + START_MAX * 2;
        assert_eq!(threads.count(late), 1, "one has begun, the other one never does");
        threads.handle_asked(late);
        assert_eq!(threads.count(late), 2, "what was given up does not come back");
        threads.handle_start();
        threads.handle_start();
        assert_eq!((threads.running, threads.starting), (3, 0), "it begins all the same");
    }
}
