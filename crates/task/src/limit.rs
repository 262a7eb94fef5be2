//! A limit on how much happens at once, whose waiting line is bounded and knows deadlines.
//!
//! It stands on Tokio's semaphore, which serves those who wait in turn, and adds what a server needs: a line that is full says
//! no at once, one who has waited too long is told so, and a permit that comes too late goes to the next. It is *not* a rate:
//! nothing is said about how often, only about how many at a time.
//!
//! Invariant: at most `waiting_max` wait: whoever does has a place in the line, until it has its answer or gives up.

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, timeout_at};

/// How many may wait unless it is said otherwise.
const WAITING_MAX: usize = 1_024;

/// At most a number of permits at once, and at most a number of those who wait for one.
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
#[derive(Clone, Debug)]
pub struct Limit {
    permits: Arc<Semaphore>,
    /// Places to wait.
    line: Arc<Semaphore>,
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
    #[error("there was no permit within {after:?}")]
    TimedOut {
        /// How long it was waited.
        after: Duration,
    },
}

impl Limit {
    /// A limit of `permits` at once; 1,024 may [wait](Limit::queue).
    ///
    /// # Panics
    /// If `permits` is 0, or more than [`Semaphore::MAX_PERMITS`].
    #[must_use]
    pub fn new(permits: usize) -> Self {
        assert!(permits > 0, "a limit of nothing would never let anybody go on");
        Limit {
            permits: Arc::new(Semaphore::new(permits)),
            line: Arc::new(Semaphore::new(WAITING_MAX)),
            waiting_max: WAITING_MAX,
        }
    }

    /// The same limit, for which `waiting_max` may wait; nobody, if it is 0. To be called before anybody waits.
    #[must_use]
    pub fn queue(self, waiting_max: usize) -> Self {
        let line = Arc::new(Semaphore::new(waiting_max.min(Semaphore::MAX_PERMITS)));
        Limit { line, waiting_max, ..self }
    }

    /// Takes a permit, once there is one and it is this caller's turn. It takes part in Tokio's cooperative scheduling: now and
    /// then it yields though it need not wait.
    ///
    /// # Errors
    /// [`Refused::QueueFull`] at once, if there is no permit and too many wait.
    ///
    /// # Cancel safety
    /// If the future is dropped, its place in line is lost; a permit that it was given already goes to the next.
    pub async fn acquire(&self) -> Result<Permit, Refused> {
        self.acquire_by(None).await
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
        self.acquire_by(Some(after)).await
    }

    async fn acquire_by(&self, after: Option<Duration>) -> Result<Permit, Refused> {
        consume_budget().await;
        if let Ok(permit) = self.acquire_nowait() {
            return Ok(permit);
        }
        let full = |_| Refused::QueueFull { waiting_max: self.waiting_max };
        let _place = self.line.try_acquire().map_err(full)?;
        let permit = async {
            let permit = Arc::clone(&self.permits).acquire_owned().await;
            Permit { _permit: permit.expect("it is never closed") }
        };
        // None too, if it is longer than time lasts.
        let Some((after, deadline)) = after.and_then(|after| Some((after, Instant::now().checked_add(after)?))) else {
            return Ok(permit.await);
        };
        // Tokio looks at the clock only if there is no permit; but one who was not polled in time may find both.
        match timeout_at(deadline, permit).await {
            Ok(permit) if Instant::now() < deadline => Ok(permit),
            _ => Err(Refused::TimedOut { after }),
        }
    }

    /// Takes a permit if there is one that nobody waits for.
    ///
    /// # Errors
    /// [`Refused::InUse`].
    pub fn acquire_nowait(&self) -> Result<Permit, Refused> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().map_err(|_| Refused::InUse)?;
        Ok(Permit { _permit: permit })
    }
}
