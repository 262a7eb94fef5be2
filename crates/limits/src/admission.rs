//! A bounded number of places, and a bounded queue in front of them.
//!
//! Places are given in the order in which they were asked for. The queue refuses those that it has no room for, and those that would wait
//! too long, by how long places were held lately.
//!
//! The invariant: never more than `max` places are held, and never do more than `queue_max` requests wait; a place and a seat in the queue
//! are freed by a drop, whatever ends their owner.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Each measurement of how long a place was held changes the mean by one sixteenth of the difference.
const MEAN_WEIGHT: u64 = 16;
/// A place that is held longer counts as this in the mean.
const HELD_MAX: Duration = Duration::from_secs(10);

/// What all services of one limit share.
#[derive(Debug)]
pub(crate) struct Places {
    permits: Arc<Semaphore>,
    max: usize,
    waiting: AtomicUsize,
    /// The mean of the times that places were held lately, in nanoseconds; 0 before the first was free again.
    held_mean_ns: AtomicU64,
    pub(crate) admitted: AtomicU64,
    pub(crate) refused_full: AtomicU64,
    pub(crate) refused_late: AtomicU64,
}

/// How many may wait, and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) queue_max: usize,
    pub(crate) wait_max: Duration,
}

/// A place that is held; a drop frees it.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    since: Instant,
    // Freed after the time was noted.
    _permit: OwnedSemaphorePermit,
}

/// A request is not served: the queue is full, or the wait too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Refused;

/// A wait for a place.
pub(crate) type Waiting = Pin<Box<dyn Future<Output = Result<Place, Refused>> + Send>>;

/// What becomes of a request.
pub(crate) enum Admission {
    Admitted(Place),
    Waits(Waiting),
    Refused,
}

/// A seat in the queue; a drop frees it.
struct Seat(Arc<Places>);

impl Places {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        let max = max.min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            permits: Arc::new(Semaphore::new(max)),
            max,
            waiting: AtomicUsize::new(0),
            held_mean_ns: AtomicU64::new(0),
            admitted: AtomicU64::new(0),
            refused_full: AtomicU64::new(0),
            refused_late: AtomicU64::new(0),
        })
    }

    /// How many places are held. One that is promised to a request that waits is.
    pub(crate) fn held(&self) -> usize {
        self.max - self.permits.available_permits()
    }

    /// How many requests wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Asks for a place.
    pub(crate) fn admit(self: &Arc<Self>, bounds: Bounds) -> Admission {
        // The semaphore is fair: none is free while anybody waits.
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Admission::Admitted(self.place(permit));
        }
        let more = |waiting: usize| (waiting < bounds.queue_max).then_some(waiting + 1);
        let Ok(ahead) = self.waiting.fetch_update(Relaxed, Relaxed, more) else {
            self.refused_full.fetch_add(1, Relaxed);
            return Admission::Refused;
        };
        let seat = Seat(Arc::clone(self));
        if self.expected_wait(ahead) > bounds.wait_max {
            self.refused_late.fetch_add(1, Relaxed);
            return Admission::Refused;
        }
        Admission::Waits(wait(seat, bounds.wait_max))
    }

    /// How long a request will wait that has `ahead` others before it, if places are held as long as they were lately.
    fn expected_wait(&self, ahead: usize) -> Duration {
        let held_ns = u128::from(self.held_mean_ns.load(Relaxed));
        // Among `max` places one becomes free in each `max`-th part of that time, and the next one in half of it.
        let wait_ns = held_ns * (2 * ahead as u128 + 1) / (2 * self.max as u128);
        Duration::from_nanos(u64::try_from(wait_ns).unwrap_or(u64::MAX))
    }

    fn place(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Place {
        self.admitted.fetch_add(1, Relaxed);
        Place { places: Arc::clone(self), since: Instant::now(), _permit: permit }
    }

    /// Notes for how long a place was held.
    fn note(&self, held: Duration) {
        // One that streams for hours says little of when the next place is free.
        let held_ns = u64::try_from(held.min(HELD_MAX).as_nanos()).unwrap_or(u64::MAX).max(1);
        let mean = |mean: u64| match mean {
            0 => Some(held_ns),
            mean => Some((mean - mean / MEAN_WEIGHT).saturating_add(held_ns / MEAN_WEIGHT).max(1)),
        };
        let _ = self.held_mean_ns.fetch_update(Relaxed, Relaxed, mean);
    }
}

/// Waits for a place. The seat is freed with the future, even if that is never polled.
fn wait(seat: Seat, wait_max: Duration) -> Waiting {
    Box::pin(async move {
        let Seat(places) = &seat;
        match tokio::time::timeout(wait_max, Arc::clone(&places.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(places.place(permit)),
            // Nobody closes the semaphore, so the time is over.
            Ok(Err(_)) | Err(_) => {
                places.refused_late.fetch_add(1, Relaxed);
                Err(Refused)
            }
        }
    })
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.note(self.since.elapsed());
    }
}
