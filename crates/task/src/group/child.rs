//! A child of a group: the future that is spawned around the one that was given.
//!
//! It polls that future in the group's context, drops it when the group wants it gone, and sees to the order of an end: the
//! future is dropped first; then its failure is recorded, which cancels the siblings; then its value is put down, which wakes the
//! handle; and only then does it leave the group, which may end the scope. Dropping the child, as an abort or the end of the
//! runtime does, is an end without a value, and not a failure.

use std::any::Any;
use std::borrow::Cow;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tracing::Span;

use super::context::within;
use super::failure::FailureKind;
use super::handle::Slot;
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
        // None when the child has left the group. All in one, so that it needs no room of its own to say so.
        membership: Option<Membership<T, E>>,
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
            seat: Option<Seat>,
            #[pin]
            future: F,
        },
        Gone,
    }
}

struct Membership<T, E> {
    group: Arc<Shared<E>>,
    slot: Arc<Slot<T>>,
    label: Option<Box<Label>>,
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

impl<T, E> Membership<T, E> {
    /// Runs the future's code, or its drop.
    fn run<R>(&self, code: impl FnOnce() -> R) -> Result<R, Box<dyn Any + Send>> {
        let code = || {
            let _traced = self.label.as_ref().map(|label| label.span.enter());
            code()
        };
        within(&self.group.roster, || catch_unwind(AssertUnwindSafe(code)))
    }

    /// The future is gone.
    fn leave(self, seat: Option<Seat>, end: End<T, E>, dropped: Result<(), Box<dyn Any + Send>>) {
        let Self { group, slot, label } = self;
        let (name, span) = label.map_or((None, None), |label| (Some(label.name), Some(label.span)));
        let fail = |kind| group.fail(name.clone(), kind);
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
        let unwanted = slot.put(value);
        if let Err(payload) = within(&group.roster, || catch_unwind(AssertUnwindSafe(|| drop(unwanted)))) {
            fail(FailureKind::Panicked(Panic::new(payload)));
        }
        // What watches spans may panic, and must not keep the child from leaving.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(span))) {
            discard(payload);
        }
        group.roster.leave_as_child(seat);
    }
}

impl<F, T, E> Child<F, T, E>
where
    F: Future<Output = Result<T, E>>,
{
    /// The group has admitted it.
    pub(super) fn new(future: F, group: Arc<Shared<E>>, slot: Arc<Slot<T>>, label: Option<Box<Label>>) -> Self {
        Self { work: Work::Going { seat: None, future }, membership: Some(Membership { group, slot, label }) }
    }

    fn end(self: Pin<&mut Self>, end: End<T, E>) {
        let mut this = self.project();
        let Some(membership) = this.membership.take() else { return };
        let seat = match this.work.as_mut().project() {
            WorkProjection::Going { seat, .. } => *seat,
            WorkProjection::Gone => None,
        };
        let dropped = membership.run(|| this.work.set(Work::Gone));
        membership.leave(seat, end, dropped);
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
        let (Some(membership), WorkProjection::Going { seat, future }) = (this.membership, this.work.project()) else {
            return Poll::Ready(());
        };
        let roster = &membership.group.roster;
        let mut end = End::Gone;
        if roster.phase() < Phase::Dropping {
            end = match membership.run(|| future.poll(cx)) {
                Ok(Poll::Pending) => {
                    // A task of Tokio has one waker all its life, whatever polls it.
                    let is_kept = if seat.is_none() {
                        *seat = roster.keep_waker(cx.waker().clone());
                        seat.is_some()
                    } else {
                        roster.phase() < Phase::Dropping
                    };
                    if is_kept {
                        return Poll::Pending;
                    }
                    End::Gone
                }
                Ok(Poll::Ready(Ok(value))) => End::Value(value),
                Ok(Poll::Ready(Err(error))) => End::Failed(FailureKind::Error(error)),
                Err(payload) => End::Failed(FailureKind::Panicked(Panic::new(payload))),
            };
        }
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
    fn promise_a_child_adds_eight_bytes_and_three_words_to_its_future() {
        const ADDED: usize = 8 + 3 * size_of::<usize>();
        fn added<F: Future<Output = Result<u64, u64>>>(future: F) -> usize {
            let group = Arc::new(Shared::new(Roster::open(None, None, None, None)));
            assert!(group.roster.admit());
            let child = Child::new(future, group, Slot::new(), None);
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
