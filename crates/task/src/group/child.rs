//! A child of a group: the future that is spawned around the one that was given.
//!
//! It polls that future in the group's context, drops it when the group wants it gone, and sees to the order of an end: the
//! future is dropped first; then its failure is recorded, which cancels the siblings; then its value is sent, which wakes the
//! handle; and only then does it leave the group, which may end the scope. Dropping the child, as an abort or the end of the
//! runtime does, is an end without a value, and not a failure.

use std::any::Any;
use std::borrow::Cow;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::sync::oneshot;
use tracing::Span;

use super::context::within;
use super::failure::FailureKind;
use super::handle::send;
use super::roster::Phase;
use super::shared::Shared;
use super::waiting::Seat;
use crate::Panic;
use crate::panic::discard;
use crate::sync::Arc;

pin_project! {
    pub(super) struct Child<F, T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        #[pin]
        work: Work<F>,
        group: Arc<Shared<E>>,
        // None when the child has left the group.
        handle: Option<oneshot::Sender<T>>,
        label: Option<Box<Label>>,
    }

    impl<F, T, E> PinnedDrop for Child<F, T, E>
    where
        F: Future<Output = Result<T, E>>,
    {
        fn drop(this: Pin<&mut Self>) {
            this.end(End::Gone);
        }
    }
}

pin_project! {
    #[project = WorkProjection]
    enum Work<F> {
        Going {
            // Beside the tag, where it takes no room.
            seat: Seat,
            #[pin]
            future: F,
        },
        Gone,
    }
}

/// What a child has if it was given a name.
pub(super) struct Label {
    pub(super) name: Cow<'static, str>,
    pub(super) span: Span,
}

enum End<T, E> {
    Value(T),
    Failed(FailureKind<E>),
    /// It was cancelled, alone or with the group, or its runtime has ended.
    Gone,
}

impl<F, T, E> Child<F, T, E>
where
    F: Future<Output = Result<T, E>>,
{
    /// The group has admitted it.
    pub(super) fn new(future: F, group: Arc<Shared<E>>, handle: oneshot::Sender<T>, label: Option<Box<Label>>) -> Self {
        Self { work: Work::Going { seat: Seat::NONE, future }, group, handle: Some(handle), label }
    }

    /// Runs the future's code, or its drop.
    fn step<R>(self: Pin<&mut Self>, step: impl FnOnce(Pin<&mut Work<F>>) -> R) -> Result<R, Box<dyn Any + Send>> {
        let this = self.project();
        let code = || {
            let _traced = this.label.as_ref().map(|label| label.span.enter());
            step(this.work)
        };
        within(&this.group.roster, || catch_unwind(AssertUnwindSafe(code)))
    }

    fn end(mut self: Pin<&mut Self>, end: End<T, E>) {
        let Some(handle) = self.as_mut().project().handle.take() else { return };
        let seat = match self.as_mut().project().work.project() {
            WorkProjection::Going { seat, .. } => *seat,
            WorkProjection::Gone => Seat::NONE,
        };
        let dropped = self.as_mut().step(|mut work| work.set(Work::Gone));
        let this = self.project();
        let (name, span) = this.label.take().map_or((None, None), |label| (Some(label.name), Some(label.span)));
        let fail = |kind| this.group.fail(name.clone(), kind);
        let value = match end {
            End::Value(value) => Some(value),
            End::Failed(kind) => {
                fail(kind);
                None
            }
            End::Gone => None,
        };
        if let Err(payload) = dropped {
            fail(FailureKind::Panicked(Panic::new(payload)));
        }
        let unwanted = send(handle, value);
        if let Err(payload) = within(&this.group.roster, || catch_unwind(AssertUnwindSafe(|| drop(unwanted)))) {
            fail(FailureKind::Panicked(Panic::new(payload)));
        }
        // What watches spans may panic, and must not keep the child from leaving.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(span))) {
            discard(payload);
        }
        this.group.roster.leave_as_child(seat);
    }

    /// Returns false if the future must be dropped now.
    fn keep_waker(self: Pin<&mut Self>, cx: &Context<'_>) -> bool {
        let this = self.project();
        let roster = &this.group.roster;
        match this.work.project() {
            // A task of Tokio has one waker all its life, whatever polls it.
            WorkProjection::Going { seat, .. } if seat.is_none() => {
                *seat = roster.keep_waker(cx.waker().clone());
                !seat.is_none()
            }
            _ => roster.phase() < Phase::Dropping,
        }
    }
}

impl<F, T, E> Future for Child<F, T, E>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Fields are read through the projection only: a plain reference to all of the child would be one to the future, too.
        let this = self.as_mut().project();
        if this.handle.is_none() {
            return Poll::Ready(());
        }
        let is_wanted = this.group.roster.phase() < Phase::Dropping;
        let polled = if is_wanted {
            self.as_mut().step(|work| match work.project() {
                WorkProjection::Going { future, .. } => future.poll(cx),
                WorkProjection::Gone => Poll::Pending,
            })
        } else {
            Ok(Poll::Pending)
        };
        let end = match polled {
            Ok(Poll::Pending) if is_wanted && self.as_mut().keep_waker(cx) => return Poll::Pending,
            Ok(Poll::Pending) => End::Gone,
            Ok(Poll::Ready(Ok(value))) => End::Value(value),
            Ok(Poll::Ready(Err(error))) => End::Failed(FailureKind::Error(error)),
            Err(payload) => End::Failed(FailureKind::Panicked(Panic::new(payload))),
        };
        self.end(end);
        Poll::Ready(())
    }
}

#[cfg(all(test, not(any(baiwan_loom, baiwan_shuttle))))]
mod tests {
    use super::super::roster::Roster;
    use super::*;

    /// Tokio's tasks come in steps of 128 bytes, so what a child adds to its future is kept small.
    #[test]
    fn promise_a_child_adds_eight_bytes_and_four_words_to_its_future() {
        const ADDED: usize = 8 + 4 * size_of::<usize>();
        fn added<F: Future<Output = Result<u64, u64>>>(future: F) -> usize {
            let group = Arc::new(Shared::new(Roster::open(None, None, None, None)));
            assert!(group.roster.admit());
            let child = Child::new(future, group, oneshot::channel().0, None);
            size_of_val(&child) - size_of::<F>()
        }
        assert_eq!(added(std::future::ready(Ok(7))), ADDED);
        let work = async {
            let words = std::future::ready([7, 8]).await;
            std::future::ready(()).await;
            Ok(words[0])
        };
        assert_eq!(added(work), ADDED);
    }
}
