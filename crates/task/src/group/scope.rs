//! A scope: the body of a group, run in the calling task, and the wait for all members.
//!
//! It also keeps the group's time, since it is the one who is surely polled: the deadline, and the grace of a cancellation. When
//! it is dropped before its end, everybody is told to go at once; the group then ends without it.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::task::coop::unconstrained;
use tokio::time::{Sleep, sleep};

use super::context::within;
use super::failure::{Failure, FailureKind, Failures};
use super::roster::Phase;
use super::shared::Shared;
use crate::Panic;
use crate::panic::discard;
use crate::sync::Arc;

/// How long it is, and what waits for it.
pub(super) type Deadline = (Duration, Pin<Box<Sleep>>);

pin_project! {
    pub(super) struct Scope<F, R, E>
    where
        F: Future<Output = Result<R, E>>,
    {
        #[pin]
        body: Option<F>,
        group: Arc<Shared<E>>,
        has_body_left: bool,
        value: Option<R>,
        panic: Option<Box<dyn Any + Send>>,
        deadline: Option<Deadline>,
        grace: Option<Pin<Box<Sleep>>>,
    }

    impl<F, R, E> PinnedDrop for Scope<F, R, E>
    where
        F: Future<Output = Result<R, E>>,
    {
        fn drop(this: Pin<&mut Self>) {
            this.abandon();
        }
    }
}

impl<F, R, E> Scope<F, R, E>
where
    F: Future<Output = Result<R, E>>,
{
    /// The body is a member of the group.
    pub(super) fn new(body: F, group: Arc<Shared<E>>, deadline: Option<Deadline>) -> Self {
        Self { body: Some(body), group, has_body_left: false, value: None, panic: None, deadline, grace: None }
    }

    // Here and below, fields are read through the projection only: a plain reference to all of the scope would be one to the
    // body, too.
    fn shared(self: Pin<&mut Self>) -> &Shared<E> {
        self.project().group
    }

    /// Runs the body's code, or its drop.
    fn step<S>(self: Pin<&mut Self>, step: impl FnOnce(Pin<&mut Option<F>>) -> S) -> Result<S, Box<dyn Any + Send>> {
        let this = self.project();
        within(&this.group.roster, || catch_unwind(AssertUnwindSafe(|| step(this.body))))
    }

    /// Polls the body if it is still there, and has it leave the group if it has ended or must.
    fn run_body(mut self: Pin<&mut Self>, phase: Phase, cx: &mut Context<'_>) {
        if *self.as_mut().project().has_body_left {
            return;
        }
        if phase < Phase::Dropping {
            let polled = self.as_mut().step(|body| body.as_pin_mut().map_or(Poll::Pending, |body| body.poll(cx)));
            match polled {
                Ok(Poll::Pending) => return,
                Ok(Poll::Ready(Ok(value))) => *self.as_mut().project().value = Some(value),
                Ok(Poll::Ready(Err(error))) => self.as_mut().shared().fail_itself(FailureKind::Error(error)),
                Err(payload) => self.as_mut().keep_panic(payload),
            }
        }
        if let Err(payload) = self.as_mut().drop_body() {
            self.keep_panic(payload);
        }
    }

    /// The body's future is dropped before it leaves the group, as with every member. It may panic.
    fn drop_body(mut self: Pin<&mut Self>) -> Result<(), Box<dyn Any + Send>> {
        if std::mem::replace(self.as_mut().project().has_body_left, true) {
            return Ok(());
        }
        let dropped = self.as_mut().step(|mut body| body.set(None));
        self.shared().roster.leave();
        dropped
    }

    /// It goes on when everybody has ended, unless something had failed before: then it is one of the failures, of which the cause is
    /// the first.
    fn keep_panic(self: Pin<&mut Self>, payload: Box<dyn Any + Send>) {
        let this = self.project();
        if this.panic.is_some() {
            // The first panic is the one to be resumed.
            discard(payload);
        } else if this.group.has_failed() {
            this.group.fail_itself(FailureKind::Panicked(Panic::new(payload)));
        } else {
            this.group.roster.cancel();
            *this.panic = Some(payload);
        }
    }

    /// Without regard to the budget of the task, which a body may use up at every poll: time must pass all the same.
    fn keep_time(self: Pin<&mut Self>, cx: &mut Context<'_>) {
        let this = self.project();
        let roster = &this.group.roster;
        let is_lent_time = roster.phase() == Phase::Asked && roster.grace.is_none();
        if (roster.phase() == Phase::Open || is_lent_time)
            && let Some((after, deadline)) = this.deadline
            && pin!(unconstrained(deadline.as_mut())).poll(cx).is_ready()
        {
            if is_lent_time {
                // What is left of the grace outside is not longer than its own time.
                roster.advance(Phase::Dropping);
            } else {
                this.group.fail_itself(FailureKind::DeadlineExceeded { after: *after });
            }
        }
        if roster.phase() == Phase::Asked
            && let Some(grace) = roster.grace
        {
            let grace = this.grace.get_or_insert_with(|| Box::pin(sleep(grace)));
            if pin!(unconstrained(grace.as_mut())).poll(cx).is_ready() {
                roster.advance(Phase::Dropping);
            }
        }
    }

    /// What the scope returns, when the group has ended.
    fn finish(self: Pin<&mut Self>) -> Result<R, Failures<E>> {
        let this = self.project();
        if let Some(payload) = this.panic.take() {
            resume_unwind(payload);
        }
        // A value that is not returned is dropped as part of the body.
        if this.group.roster.phase() > Phase::Open
            && let Some(value) = this.value.take()
            && let Err(payload) = within(&this.group.roster, || catch_unwind(AssertUnwindSafe(|| drop(value))))
        {
            this.group.fail_itself(FailureKind::Panicked(Panic::new(payload)));
        }
        if let Some(failures) = this.group.take_failures() {
            return Err(failures);
        }
        match this.value.take() {
            Some(value) if this.group.roster.phase() == Phase::Open => Ok(value),
            _ => Err(Failures::new(Failure::new(this.group.roster.name.clone(), FailureKind::Cancelled))),
        }
    }

    fn abandon(mut self: Pin<&mut Self>) {
        let roster = &self.as_mut().shared().roster;
        roster.advance(Phase::Dropping);
        roster.unpark();
        // Not both: a body that has panicked has left.
        let panic = self.as_mut().drop_body().err().or_else(|| self.project().panic.take());
        if let Some(payload) = panic {
            if std::thread::panicking() {
                discard(payload);
            } else {
                resume_unwind(payload);
            }
        }
    }
}

impl<F, R, E> Future for Scope<F, R, E>
where
    F: Future<Output = Result<R, E>>,
{
    type Output = Result<R, Failures<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let phase = self.as_mut().shared().roster.phase();
            self.as_mut().run_body(phase, cx);
            // Whoever ends or cancels the group from here on wakes this task.
            if self.as_mut().shared().roster.park(cx.waker()) {
                return Poll::Ready(self.finish());
            }
            self.as_mut().keep_time(cx);
            if self.as_mut().shared().roster.phase() == phase {
                return Poll::Pending;
            }
        }
    }
}
