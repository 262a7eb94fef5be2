//! A limit of time for any future, whose error says what took too long.
//!
//! It cancels by dropping the future, as every timeout in Rust does. It is not a deadline of a group, which waits for the tasks
//! that it cancels: see [`TaskGroup::deadline`](crate::TaskGroup::deadline).

use std::borrow::Cow;
use std::future::Future;
use std::time::Duration;

/// Something was not done in time.
///
/// Displayed: `reading the profile took longer than 250ms`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} took longer than {after:?}")]
pub struct TimedOut {
    what: Cow<'static, str>,
    after: Duration,
}

/// Awaits `future` for at most `after`, from the first time that this is polled.
///
/// `what` begins a sentence that ends with "took longer than 250ms". A future that is ready at once is never late, even if
/// `after` is zero.
///
/// Cancel safe if `future` is.
///
/// # Errors
/// [`TimedOut`] if it was not ready in time. It is dropped then, before this returns.
///
/// # Panics
/// Outside of a Tokio runtime, and in one without timers.
pub async fn timeout<F: Future>(
    what: impl Into<Cow<'static, str>>,
    after: Duration,
    future: F,
) -> Result<F::Output, TimedOut> {
    tokio::time::timeout(after, future).await.map_err(|_| TimedOut { what: what.into(), after })
}

#[cfg(all(test, not(any(baiwan_loom, baiwan_shuttle))))]
mod tests {
    use std::future::{pending, ready};
    use std::sync::Arc;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn promise_a_timeout_says_what_and_after_how_long() {
        let late = timeout("reading the profile", Duration::from_millis(250), pending::<()>()).await.unwrap_err();
        assert_eq!(late.to_string(), "reading the profile took longer than 250ms");
    }

    #[tokio::test(start_paused = true)]
    async fn promise_what_is_ready_is_never_late() {
        assert_eq!(timeout("nothing", Duration::ZERO, ready(7)).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn promise_what_is_late_is_gone_when_the_error_is_there() {
        let owned = Arc::new(());
        let held = Arc::clone(&owned);
        let late = timeout("holding", Duration::from_secs(1), async move {
            pending::<()>().await;
            drop(held);
        });
        assert!(late.await.is_err());
        assert_eq!(Arc::strong_count(&owned), 1);
    }
}
