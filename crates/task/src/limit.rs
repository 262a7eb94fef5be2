//! A limit on how much happens at once, whose waiting line is bounded and knows deadlines.
//!
//! It stands on Tokio's semaphore, which serves those who wait in turn, and adds what a server needs: a line that is full says
//! no at once, one who has waited too long is told so, and a permit that comes too late goes to the next. It is *not* a rate:
//! nothing is said about how often, only about how many at a time.
//!
//! Invariant: at most `waiting_max` wait, and each of them is counted once, until it has its answer or gives up.

use std::fmt;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, timeout_at};

use crate::sync::Arc;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::units::Spoken;

/// How many may wait unless it is said otherwise.
const WAITING_MAX: usize = 1_024;

/// At most so many at once, and at most so many who wait for it.
///
/// Clones are handles of the same limit. Those who wait are served in the order in which they began to: when a future is polled
/// first, unless its task has to let others run before.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
/// use std::time::Duration;
/// use baiwan_task::{Limit, Refused};
///
/// let limit = Limit::new(1).queue(10);
/// let permit = limit.acquire().await.unwrap();
/// let late = limit.acquire_within(Duration::from_millis(250)).await;
/// assert_eq!(late.unwrap_err(), Refused::TimedOut { after: Duration::from_millis(250) });
/// drop(permit);
/// assert!(limit.acquire_nowait().is_ok());
/// # }
/// ```
#[derive(Clone)]
pub struct Limit {
    shared: Arc<Shared>,
}

struct Shared {
    // Tokio asks for this kind of pointer, whatever checks the rest.
    semaphore: std::sync::Arc<Semaphore>,
    permits: usize,
    waiting: AtomicUsize,
    waiting_max: usize,
}

/// The right to go on, given back when it is dropped.
#[must_use = "the permit is given back when it is dropped"]
#[derive(Debug)]
pub struct Permit {
    _permit: OwnedSemaphorePermit,
}

/// Why there is no permit.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// All permits are in use, and it was not to be waited for one.
    #[error("all permits are in use")]
    InUse,
    /// All permits are in use, and as many wait for one as may.
    #[error("{waiting_max} are waiting already")]
    QueueFull {
        /// How many may wait.
        waiting_max: usize,
    },
    /// There was none in time.
    #[error("there was no permit within {}", Spoken(*after))]
    TimedOut {
        /// How long it was waited.
        after: Duration,
    },
    /// The limit is closed.
    #[error("the limit is closed")]
    Closed,
}

impl Limit {
    /// A limit of `permits` at once; 1,024 may [wait](Limit::queue).
    ///
    /// # Panics
    /// If `permits` is 0, or more than [`Semaphore::MAX_PERMITS`].
    #[must_use]
    pub fn new(permits: usize) -> Self {
        Limit::with_queue(permits, WAITING_MAX)
    }

    /// A new limit with as many permits as this one, for which `waiting_max` may wait; nobody, if it is 0.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use baiwan_task::{Limit, Refused};
    ///
    /// let limit = Limit::new(1).queue(0);
    /// let permit = limit.acquire().await;
    /// assert_eq!(limit.acquire().await.unwrap_err(), Refused::QueueFull { waiting_max: 0 });
    /// # }
    /// ```
    #[must_use]
    pub fn queue(self, waiting_max: usize) -> Self {
        Limit::with_queue(self.shared.permits, waiting_max)
    }

    fn with_queue(permits: usize, waiting_max: usize) -> Self {
        assert!(permits > 0, "a limit of nothing would never let anybody go on");
        let semaphore = std::sync::Arc::new(Semaphore::new(permits));
        Limit { shared: Arc::new(Shared { semaphore, permits, waiting: AtomicUsize::new(0), waiting_max }) }
    }

    /// Takes a permit, once there is one and it is this caller's turn. It takes part in Tokio's cooperative scheduling: now and
    /// then it yields though it need not wait.
    ///
    /// # Errors
    /// [`Refused::QueueFull`] at once, if there is no permit and too many wait; [`Refused::Closed`] if the limit is closed, also
    /// while it waits.
    ///
    /// # Cancel safety
    /// If the future is dropped, its place in line is lost; a permit that it was given already goes to the next.
    pub async fn acquire(&self) -> Result<Permit, Refused> {
        consume_budget().await;
        match self.acquire_nowait() {
            Err(Refused::InUse) => {
                let _place = Place::new(&self.shared)?;
                permit(self.semaphore().acquire_owned().await)
            }
            answer => answer,
        }
    }

    /// As [`acquire`](Limit::acquire), but waits no longer than `after`, counted from when it has to. A permit never goes to one
    /// whose time is over: if both come together, it goes to the next in line. What need not be waited for is never late, even if
    /// `after` is 0.
    ///
    /// # Errors
    /// [`Refused::TimedOut`], and as for [`acquire`](Limit::acquire).
    ///
    /// # Panics
    /// If it has to wait and there is no Tokio runtime with timers.
    ///
    /// # Cancel safety
    /// As [`acquire`](Limit::acquire).
    pub async fn acquire_within(&self, after: Duration) -> Result<Permit, Refused> {
        consume_budget().await;
        match self.acquire_nowait() {
            Err(Refused::InUse) => {}
            answer => return answer,
        }
        let _place = Place::new(&self.shared)?;
        let Some(deadline) = Instant::now().checked_add(after) else {
            // Longer than time lasts.
            return permit(self.semaphore().acquire_owned().await);
        };
        // Tokio looks at the clock only if there is no permit; but one who was not polled in time may find both.
        match timeout_at(deadline, self.semaphore().acquire_owned()).await {
            Ok(Ok(_)) if Instant::now() >= deadline => Err(Refused::TimedOut { after }),
            Ok(answer) => permit(answer),
            Err(_elapsed) => Err(Refused::TimedOut { after }),
        }
    }

    /// Takes a permit if there is one that nobody waits for.
    ///
    /// # Errors
    /// [`Refused::InUse`] or [`Refused::Closed`].
    pub fn acquire_nowait(&self) -> Result<Permit, Refused> {
        match self.semaphore().try_acquire_owned() {
            Ok(permit) => Ok(Permit { _permit: permit }),
            Err(TryAcquireError::NoPermits) => Err(Refused::InUse),
            Err(TryAcquireError::Closed) => Err(Refused::Closed),
        }
    }

    /// Gives out no permits any more, and sends away those who wait. Permits that are out stay good.
    pub fn close(&self) {
        self.shared.semaphore.close();
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.semaphore.is_closed()
    }

    /// How many permits there are in all.
    #[must_use]
    pub fn permits(&self) -> usize {
        self.shared.permits
    }

    /// How many permits are neither in use nor promised to one who waited.
    #[must_use]
    pub fn available(&self) -> usize {
        self.shared.semaphore.available_permits()
    }

    /// How many wait for a permit. One who was promised a permit counts until it has come for it.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// How many may wait.
    #[must_use]
    pub fn waiting_max(&self) -> usize {
        self.shared.waiting_max
    }

    fn semaphore(&self) -> std::sync::Arc<Semaphore> {
        std::sync::Arc::clone(&self.shared.semaphore)
    }
}

fn permit(answer: Result<OwnedSemaphorePermit, tokio::sync::AcquireError>) -> Result<Permit, Refused> {
    match answer {
        Ok(permit) => Ok(Permit { _permit: permit }),
        Err(_closed) => Err(Refused::Closed),
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Limit");
        shown.field("permits", &self.permits()).field("available", &self.available());
        shown.field("waiting", &self.waiting()).field("waiting_max", &self.waiting_max()).finish()
    }
}

/// A place in the line. The number only bounds it; nothing else depends on it, so no order of memory is needed.
struct Place<'a>(&'a Shared);

impl<'a> Place<'a> {
    fn new(shared: &'a Shared) -> Result<Self, Refused> {
        let waiting_max = shared.waiting_max;
        let one_more = |waiting| (waiting < waiting_max).then_some(waiting + 1);
        match shared.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(Place(shared)),
            Err(_) => Err(Refused::QueueFull { waiting_max }),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
