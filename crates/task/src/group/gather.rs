//! Every result, in order: what [`TaskGroup::collect`](super::TaskGroup::collect) is made of.
//!
//! It is a scope whose children never fail: the failure of each is its value. The iterator is anybody's: it may take its time, and it
//! may never end. Invariant: when the group is cancelled, no more is asked of it than shows whether anything is missing.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;

use super::failure::{Failure, FailureKind, Failures};
use super::{Group, TaskGroup};
use crate::panic::discard;
use crate::{Panic, clock};

/// The most handles for which there is a place at once. Iterators may promise any number.
const RESERVED_MAX: usize = 1_024;
/// When an iterator has taken so much time, others are let run. The clock is coarse: what takes less is seen now and then.
const ASKED_MAX_NS: u64 = 500_000;

/// What one of the futures came to.
pub(super) type Gathered<T, E> = Result<T, Failure<E>>;

pin_project! {
    /// A future whose failures, panics among them, are values. If it is dropped before its end, a panic by that is told by the panic
    /// hook alone.
    pub(super) struct Caught<F> {
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for Caught<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut future = this.project().future;
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| future.set(None))) {
                discard(payload);
            }
        }
    }
}

impl<F, T, E> Future for Caught<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = Result<Gathered<T, E>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut future = self.project().future;
        let polled = catch_unwind(AssertUnwindSafe(|| {
            future.as_mut().as_pin_mut().map_or(Poll::Pending, |future| future.poll(cx))
        }));
        let mut result = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(Ok(value))) => Ok(value),
            Ok(Poll::Ready(Err(error))) => Err(FailureKind::Error(error)),
            Err(payload) => Err(FailureKind::Panicked(Panic::new(payload))),
        };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| future.set(None))) {
            match result {
                Ok(_) => result = Err(FailureKind::Panicked(Panic::new(payload))),
                // The first failure is the one to be told.
                Err(_) => discard(payload),
            }
        }
        Poll::Ready(Ok(result.map_err(|kind| Failure::new(None, kind))))
    }
}

pub(super) async fn gather<I, F, T, E>(settings: TaskGroup, futures: I) -> Vec<Gathered<T, E>>
where
    I: IntoIterator<Item = F>,
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let name = settings.name.clone();
    let mut futures = futures.into_iter();
    let mut handles = Vec::with_capacity(futures.size_hint().0.min(RESERVED_MAX));
    let (mut taken, mut is_through, mut asked_ns) = (0, false, 0);
    let ended = settings
        .scope(async |group: Group<Infallible>| {
            while !group.is_cancelled() {
                let before_ns = clock::now_ns();
                let Some(future) = futures.next() else {
                    is_through = true;
                    break;
                };
                asked_ns += clock::now_ns().saturating_sub(before_ns);
                // One that waits for its place when the body is dropped has no handle.
                taken += 1;
                handles.push(group.spawn(Caught { future: Some(future) }).await.value_only());
                if asked_ns >= ASKED_MAX_NS {
                    asked_ns = 0;
                    tokio::task::yield_now().await;
                }
            }
            Ok(())
        })
        .await;
    let late = late(ended.err());
    let absent = || {
        let kind = late.map_or(FailureKind::Cancelled, |after| FailureKind::DeadlineExceeded { after });
        Err(Failure::new(name.clone(), kind))
    };
    let started = handles.into_iter().map(|mut handle| handle.take().unwrap_or_else(absent));
    let mut results: Vec<_> = started.collect();
    results.resize_with(taken, absent);
    // Results that are all there must not look like all that there are to be.
    if !is_through
        && !results.last().is_some_and(is_absent)
        && let Some(future) = futures.next()
    {
        drop(Caught { future: Some(future) });
        results.push(absent());
    }
    results
}

/// How long the deadline was, if that is why the scope has failed.
fn late(failures: Option<Failures<Infallible>>) -> Option<Duration> {
    let mut late = None;
    for failure in failures.into_iter().flatten() {
        match failure.into_kind() {
            FailureKind::DeadlineExceeded { after } => late = Some(after),
            // Of the iterator, which nobody may go on with.
            FailureKind::Panicked(panic) => panic.resume(),
            FailureKind::Cancelled => {}
            FailureKind::Error(never) => match never {},
        }
    }
    late
}

/// Whether nothing came of a future because the group was cancelled. What the future itself came to is never that.
fn is_absent<T, E>(result: &Gathered<T, E>) -> bool {
    let kind = result.as_ref().err().map(Failure::kind);
    matches!(kind, Some(FailureKind::DeadlineExceeded { .. } | FailureKind::Cancelled))
}
