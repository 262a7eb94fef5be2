//! What is counted of the store: how long it was waited for, how much is waited for now, and how often it failed.
//!
//! Each core counts apart, on cache lines of its own, and whoever wants to know adds up. Refusals that are the caller's (a name that is
//! taken, a condition that does not hold) are answers, not errors.
//!
//! The invariant: an operation that was begun is counted out exactly once, also when its caller goes away.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{PATIENCE, StoreError, WATCH_PATIENCE};

/// Bounds in seconds of how long an operation was waited for; the last is when it is given up.
pub(super) const BOUNDS: [f64; 13] =
    [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5];
const _: () = assert!(BOUNDS[BOUNDS.len() - 1] == PATIENCE.as_millis() as f64 / 1000.0);

/// What is done with a store, in the order of [`Sums::waits`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Read,
    Change,
}

pub(super) const OPERATIONS: [&str; 2] = ["read", "change"];
/// Why the store did not do what it was asked, in the order of [`Sums::errors`].
pub(super) const ERRORS: [&str; 2] = ["queue-full", "unavailable"];

/// Of the process: those of all cores, and what the last check has found.
#[derive(Debug)]
pub(super) struct Counts {
    cores: Box<[CoreCounts]>,
    is_up: AtomicBool,
    /// Since when a check waits for the store. One that blocks its thread comes to no end of its own.
    checked_since: Mutex<Option<Instant>>,
}

/// Of one core; aligned so that no two cores write to one cache line (two, as processors fetch them in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
struct CoreCounts {
    under_way: AtomicU64,
    errors: [AtomicU64; ERRORS.len()],
    waits: [Waits; OPERATIONS.len()],
}

#[derive(Debug, Default)]
struct Waits {
    /// The last is for all that is longer.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    us: AtomicU64,
}

/// What all cores have counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sums {
    pub(super) is_up: bool,
    /// Operations that were asked for and not answered.
    pub(super) under_way: u64,
    pub(super) errors: [u64; ERRORS.len()],
    pub(super) waits: [WaitSums; OPERATIONS.len()],
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct WaitSums {
    pub(super) buckets: [u64; BOUNDS.len() + 1],
    pub(super) seconds: f64,
}

impl Counts {
    /// The store was opened, so it is taken to be there until a check finds otherwise.
    pub(super) fn new(cores: usize) -> Arc<Self> {
        Arc::new(Self {
            cores: (0..cores.max(1)).map(|_| CoreCounts::default()).collect(),
            is_up: AtomicBool::new(true),
            checked_since: Mutex::new(None),
        })
    }

    fn checked_since(&self) -> MutexGuard<'_, Option<Instant>> {
        // Nothing panics while the lock is held.
        self.checked_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the last check has found, unless one that is late finds the store blocked now.
    fn is_up(&self) -> bool {
        let is_late = self.checked_since().is_some_and(|since| since.elapsed() > WATCH_PATIENCE);
        self.is_up.load(Relaxed) && !is_late
    }

    pub(super) fn sums(&self) -> Sums {
        let mut sums = Sums { is_up: self.is_up(), ..Sums::default() };
        for core in &self.cores {
            sums.under_way += core.under_way.load(Relaxed);
            sums.errors.iter_mut().zip(&core.errors).for_each(|(sum, count)| *sum += count.load(Relaxed));
            for (sum, waits) in sums.waits.iter_mut().zip(&core.waits) {
                sum.buckets.iter_mut().zip(&waits.buckets).for_each(|(sum, count)| *sum += count.load(Relaxed));
                sum.seconds += waits.us.load(Relaxed) as f64 / 1e6;
            }
        }
        sums
    }
}

/// The counts of one core; a clone is the same core's.
#[derive(Clone, Debug)]
pub(super) struct Counter {
    counts: Arc<Counts>,
    core: usize,
}

impl Counter {
    pub(super) fn of_core(counts: &Arc<Counts>, core: usize) -> Self {
        Self { counts: Arc::clone(counts), core: core % counts.cores.len() }
    }

    /// A check begins; its end says for the whole process whether the store is up. Until then, one that is late says that it is not.
    pub(super) fn begin_check(&self) -> UnderCheck<'_> {
        *self.counts.checked_since() = Some(Instant::now());
        UnderCheck(&self.counts)
    }

    /// Counts an operation in; what is returned counts it out.
    pub(super) fn begin(&self, operation: Operation) -> UnderWay<'_> {
        let core = &self.counts.cores[self.core];
        core.under_way.fetch_add(1, Relaxed);
        UnderWay { core, operation, begun: Instant::now() }
    }
}

/// A check that waits for the store.
#[derive(Debug)]
pub(super) struct UnderCheck<'a>(&'a Counts);

impl UnderCheck<'_> {
    /// What the check has found.
    pub(super) fn end(self, is_up: bool) {
        self.0.is_up.store(is_up, Relaxed);
    }
}

impl Drop for UnderCheck<'_> {
    fn drop(&mut self) {
        *self.0.checked_since() = None;
    }
}

/// An operation that is waited for.
#[derive(Debug)]
pub(super) struct UnderWay<'a> {
    core: &'a CoreCounts,
    operation: Operation,
    begun: Instant,
}

impl UnderWay<'_> {
    /// It has ended so.
    pub(super) fn end<T>(self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        match outcome {
            Err(StoreError::QueueFull) => _ = self.core.errors[0].fetch_add(1, Relaxed),
            Err(StoreError::Unavailable) => _ = self.core.errors[1].fetch_add(1, Relaxed),
            _ => {}
        }
        self.core.waits[self.operation as usize].count(self.begun.elapsed());
        outcome
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.core.under_way.fetch_sub(1, Relaxed);
    }
}

impl Waits {
    fn count(&self, wait: Duration) {
        let seconds = wait.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.us.fetch_add(u64::try_from(wait.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_store_whose_check_does_not_return_is_not_up_until_one_does() {
        let counts = Counts::new(1);
        let counter = Counter::of_core(&counts, 0);
        let is_up = || counts.sums().is_up;
        let check = counter.begin_check();
        tokio::time::advance(WATCH_PATIENCE).await;
        assert!(is_up(), "it is not late yet");
        // Nobody polls it: it is within a call to a disk that does not answer.
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!is_up());
        check.end(true);
        assert!(is_up());
        counter.begin_check().end(false);
        let check = counter.begin_check();
        assert!(!is_up(), "the next one has found nothing yet");
        check.end(true);
        assert!(is_up());
    }

    #[tokio::test(start_paused = true)]
    async fn an_operation_is_counted_with_its_wait_and_its_error() {
        let counts = Counts::new(2);
        let [first, second] = [0, 1].map(|core| Counter::of_core(&counts, core));
        let read = first.begin(Operation::Read);
        let change = second.begin(Operation::Change);
        assert_eq!(counts.sums().under_way, 2);
        tokio::time::advance(Duration::from_millis(7)).await;
        assert_eq!(read.end(Ok(3)), Ok(3));
        tokio::time::advance(PATIENCE).await;
        assert_eq!(change.end::<()>(Err(StoreError::Unavailable)), Err(StoreError::Unavailable));
        assert_eq!(second.begin(Operation::Change).end::<()>(Err(StoreError::NameTaken)), Err(StoreError::NameTaken));
        let sums = counts.sums();
        assert_eq!((sums.under_way, sums.errors), (0, [0, 1]), "a name that is taken is an answer");
        assert_eq!((sums.waits[0].buckets[5], sums.waits[1].buckets[BOUNDS.len()]), (1, 1), "up to 10 ms; beyond all");
        assert!((sums.waits[1].seconds - 1.507).abs() < 1e-9, "{sums:?}");
    }

    #[test]
    fn who_goes_away_is_counted_out_and_waited_for_nothing() {
        let counts = Counts::new(1);
        drop(Counter::of_core(&counts, 0).begin(Operation::Read));
        let sums = counts.sums();
        assert_eq!((sums.under_way, sums.waits[0].buckets.iter().sum::<u64>()), (0, 0));
    }
}
