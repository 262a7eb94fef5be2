//! Every result, in order: what [`TaskGroup::collect`](super::TaskGroup::collect) is made of.
//!
//! It is a scope whose children never fail: the failure of each is its value.

use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::failure::{Failure, FailureKind};
use super::{Group, Handle, TaskGroup};
use crate::Panic;
use crate::panic::discard;

/// For so many handles there is a place at once. Iterators may promise any number.
const RESERVED_MAX: usize = 1_024;

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
        let result = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(Ok(value))) => Ok(value),
            Ok(Poll::Ready(Err(error))) => Err(FailureKind::Error(error)),
            Err(payload) => Err(FailureKind::Panicked(Panic::new(payload))),
        };
        let dropped = catch_unwind(AssertUnwindSafe(|| future.set(None)));
        let result = match (result, dropped) {
            (Ok(_), Err(payload)) => Err(FailureKind::Panicked(Panic::new(payload))),
            (result, Err(payload)) => {
                // The first failure is the one to be told.
                discard(payload);
                result
            }
            (result, Ok(())) => result,
        };
        Poll::Ready(Ok(result.map_err(|kind| Failure::new(None, kind))))
    }
}

/// `spawn` is one of the two ways in which a group spawns.
pub(super) async fn gather<I, F, T, E, S>(
    settings: TaskGroup,
    futures: I,
    spawn: impl Fn(Group<Infallible>, Caught<F>) -> S,
) -> Vec<Gathered<T, E>>
where
    I: IntoIterator<Item = F>,
    F: Future<Output = Result<T, E>>,
    S: Future<Output = Handle<Gathered<T, E>>>,
{
    let name = settings.name.clone();
    let mut futures = futures.into_iter();
    let mut handles = Vec::with_capacity(futures.size_hint().0.min(RESERVED_MAX));
    let mut taken = 0;
    let ended = settings
        .scope(async |group: Group<Infallible>| {
            for future in &mut futures {
                // One that waits for its place when the body is dropped has no handle.
                taken += 1;
                handles.push(spawn(group.clone(), Caught { future: Some(future) }).await.value_only());
            }
            Ok(())
        })
        .await;
    let mut late = None;
    for failure in ended.err().into_iter().flatten() {
        match failure.into_kind() {
            FailureKind::DeadlineExceeded { after } => late = Some(after),
            // Of the iterator, which nobody may go on with.
            FailureKind::Panicked(panic) => panic.resume(),
            FailureKind::Cancelled => {}
            FailureKind::Error(never) => match never {},
        }
    }
    let absent = || {
        let kind = late.map_or(FailureKind::Cancelled, |after| FailureKind::DeadlineExceeded { after });
        Err(Failure::new(name.clone(), kind))
    };
    let started = handles.into_iter().map(|mut handle| handle.take().unwrap_or_else(absent));
    let mut results: Vec<_> = started.collect();
    results.resize_with(taken, absent);
    results.extend(futures.map(|future| {
        drop(Caught { future: Some(future) });
        absent()
    }));
    results
}
