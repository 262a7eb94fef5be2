//! A lock that is held for some nanoseconds, and costs as little: one that spins. Only when a list grows, or a long line is sent
//! away, it is held for longer.
//!
//! To release the standard library's lock is an atomic exchange, because somebody may sleep who must be woken; here it is a plain
//! store, and so a lock and its release cost about half. The price is that nobody can be woken: a thread that does not get it at once
//! spins, which nearly always is enough; then lets others run, since whoever holds it may have been interrupted; then sleeps for moments,
//! which lets even one run whose priority is lower. It is *not* fair, and not for anything that may wait or call others.

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::thread;
use std::time::Duration;

use spin::mutex::{SpinMutex, SpinMutexGuard};

/// Each step spins twice as long as the one before: 127 times in all, some microseconds.
const SPIN_STEPS_MAX: u32 = 7;
/// How often others are let run before anybody sleeps.
const YIELDS_MAX: u32 = 16;
const NAP: Duration = Duration::from_micros(50);

/// See the module's comment.
#[derive(Debug, Default)]
pub(crate) struct BriefMutex<T>(SpinMutex<T>);

// What it guards is never left half-way, since no code that may panic runs meanwhile.
impl<T> UnwindSafe for BriefMutex<T> {}
impl<T> RefUnwindSafe for BriefMutex<T> {}

pub(crate) type BriefGuard<'a, T> = SpinMutexGuard<'a, T>;

impl<T> BriefMutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(SpinMutex::new(value))
    }

    #[inline]
    pub(crate) fn lock(&self) -> BriefGuard<'_, T> {
        match self.0.try_lock() {
            Some(guard) => guard,
            None => self.lock_slowly(),
        }
    }

    #[cold]
    fn lock_slowly(&self) -> BriefGuard<'_, T> {
        let mut steps = 0;
        loop {
            if steps < SPIN_STEPS_MAX {
                (0..1 << steps).for_each(|_| std::hint::spin_loop());
            } else if steps < SPIN_STEPS_MAX + YIELDS_MAX {
                thread::yield_now();
            } else {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "the condition is that another thread has run, which nobody can tell"
                )]
                thread::sleep(NAP);
                steps = 0;
            }
            steps += 1;
            // Looked at first, so that those who wait do not take the cache line from each other.
            if !self.0.is_locked()
                && let Some(guard) = self.0.try_lock()
            {
                return guard;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn promise_one_at_a_time_however_many_threads_there_are() {
        const THREADS: usize = 8;
        const TIMES: usize = if cfg!(miri) { 20 } else { 20_000 };
        let sum = BriefMutex::new((0, 0));
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..TIMES {
                        let mut both = sum.lock();
                        both.0 += 1;
                        both.1 += both.0;
                    }
                });
            }
        });
        let count = THREADS * TIMES;
        assert_eq!(*sum.lock(), (count, count * (count + 1) / 2));
    }

    #[test]
    fn promise_one_who_waits_for_long_gets_it_in_the_end() {
        let (lock, is_waiting) = (Arc::new(BriefMutex::new(1)), Arc::new(AtomicBool::new(false)));
        let held = lock.lock();
        let waiter = thread::spawn({
            let (lock, is_waiting) = (Arc::clone(&lock), Arc::clone(&is_waiting));
            move || {
                is_waiting.store(true, Ordering::Release);
                *lock.lock() += 1;
            }
        });
        while !is_waiting.load(Ordering::Acquire) {
            thread::yield_now();
        }
        // So that it comes to yield and to nap, though nothing here can tell whether it did.
        (0..1_000).for_each(|_| thread::yield_now());
        drop(held);
        assert!(waiter.join().is_ok());
        assert_eq!(*lock.lock(), 2);
    }

    #[test]
    fn promise_a_panic_releases_it() {
        let lock = BriefMutex::new(7);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _held = lock.lock();
            panic!("under the lock");
        }));
        assert!(panicked.is_err());
        assert_eq!(*lock.lock(), 7);
    }
}
