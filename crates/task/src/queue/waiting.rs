//! The futures that a queue hands out, and how each stands in line and leaves it.
//!
//! All three go the same way: clone the waker without the lock, try, and stand in line if it must wait. A future that
//! is dropped leaves its line and passes on what it was promised. They are *not* fused: one that was ready must not be polled
//! again.
//!
//! Invariant: a future that has a `key` has an entry in the queue's line, and no other has.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::line::Standing;
use super::shared::Shared;
use super::state::{GetStep, Parting, PutStep, State};
use super::{Closed, Drained, Taken};
use crate::clock::now_ns;
use crate::panic::wake;
use crate::turn;

/// The future of [`Queue::put`](super::Queue::put).
#[must_use = "nothing is put unless it is awaited"]
pub struct Put<'a, T> {
    shared: &'a Shared<T>,
    /// `None` once it was put or given back.
    value: Option<T>,
    key: Option<usize>,
}

/// The future of [`Queue::get`](super::Queue::get).
#[must_use = "nothing is taken unless it is awaited"]
pub struct Get<'a, T> {
    shared: &'a Shared<T>,
    key: Option<usize>,
}

/// The future of [`Queue::join`](super::Queue::join).
#[must_use = "nothing is waited for unless it is awaited"]
pub struct Join<'a, T> {
    shared: &'a Shared<T>,
    key: Option<usize>,
}

impl<'a, T> Put<'a, T> {
    pub(super) fn new(shared: &'a Shared<T>, value: T) -> Self {
        Put { shared, value: Some(value), key: None }
    }
}

// A value is never pinned in here: it is moved into the queue.
impl<T> Unpin for Put<'_, T> {}

impl<T> Future for Put<'_, T> {
    type Output = Result<(), Closed<T>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let put = self.get_mut();
        if put.key.is_none()
            && !turn::is_next_counted()
            && let Some(value) = put.value.take()
        {
            let since_ns = now_ns();
            let mut state = put.shared.lock();
            if state.joiners.is_empty() {
                match state.put(None, value, since_ns) {
                    PutStep::Done(waker) => {
                        drop(state);
                        turn::note_uncounted();
                        wake(waker);
                        return Poll::Ready(Ok(()));
                    }
                    PutStep::Closed(unput) | PutStep::Full(unput) => put.value = Some(unput),
                }
            } else {
                put.value = Some(value);
            }
        }
        put.poll_slowly(cx)
    }
}

impl<T> Put<'_, T> {
    /// As [`poll`](Put::poll), whatever the state of the queue.
    #[inline(never)]
    fn poll_slowly(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed<T>>> {
        let progress = ready!(turn::poll_counted(cx));
        // Dropped, if it is not needed, when the lock is released.
        let mut waker = Some(cx.waker().clone());
        let Some(value) = self.value.take() else { panic!("`Put` was polled after it was ready") };
        let since_ns = now_ns();
        let mut state = self.shared.lock();
        match state.put(self.key, value, since_ns) {
            PutStep::Done(getter) => {
                let joined = self.shared.note_put(&mut state);
                let stale = self.key.take().and_then(|key| state.putters.leave(key));
                drop(state);
                drop(stale);
                progress.made_progress();
                wake(getter);
                wake(joined);
                Poll::Ready(Ok(()))
            }
            PutStep::Closed(value) => {
                drop(state);
                leave(self.shared, &mut self.key, State::leave_putters);
                progress.made_progress();
                Poll::Ready(Err(Closed(value)))
            }
            PutStep::Full(value) => {
                state.putters.stand(&mut self.key, &mut waker);
                self.value = Some(value);
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Put<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.key.is_some() {
            leave(self.shared, &mut self.key, State::leave_putters);
        }
    }
}

impl<'a, T> Get<'a, T> {
    pub(super) fn new(shared: &'a Shared<T>) -> Self {
        Get { shared, key: None }
    }
}

impl<'a, T> Future for Get<'a, T> {
    type Output = Result<Taken<'a, T>, Drained>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let get = self.get_mut();
        if get.key.is_none() && !turn::is_next_counted() {
            let mut state = get.shared.lock();
            if let Some(item) = state.get_quickly() {
                let putter = state.promise_place();
                drop(state);
                turn::note_uncounted();
                wake(putter);
                return Poll::Ready(Ok(Taken::new(item, get.shared)));
            }
        }
        get.poll_slowly(cx)
    }
}

impl<'a, T> Get<'a, T> {
    /// As [`poll`](Get::poll), whatever the state of the queue.
    #[inline(never)]
    fn poll_slowly(&mut self, cx: &mut Context<'_>) -> Poll<Result<Taken<'a, T>, Drained>> {
        let progress = ready!(turn::poll_counted(cx));
        // As in `Put`.
        let mut waker = Some(cx.waker().clone());
        let mut state = self.shared.lock();
        match state.get(self.key) {
            GetStep::Done(item, putter, dismissed) => {
                let stale = self.key.take().and_then(|key| state.getters.leave(key));
                drop(state);
                let taken = Taken::new(item, self.shared);
                drop(stale);
                progress.made_progress();
                wake(putter);
                wake(dismissed);
                Poll::Ready(Ok(taken))
            }
            GetStep::Drained => {
                drop(state);
                leave(self.shared, &mut self.key, State::leave_getters);
                progress.made_progress();
                Poll::Ready(Err(Drained))
            }
            GetStep::Empty => {
                state.getters.stand(&mut self.key, &mut waker);
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Get<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.key.is_some() {
            leave(self.shared, &mut self.key, State::leave_getters);
        }
    }
}

/// Leaves a line, and wakes the one who has now what was promised to this one.
#[inline(never)]
fn leave<T>(shared: &Shared<T>, key: &mut Option<usize>, leave: fn(&mut State<T>, usize) -> Parting) {
    if let Some(key) = key.take() {
        let Parting { woken, dropped } = leave(&mut shared.lock(), key);
        drop(dropped);
        wake(woken);
    }
}

impl<'a, T> Join<'a, T> {
    pub(super) fn new(shared: &'a Shared<T>) -> Self {
        Join { shared, key: None }
    }
}

impl<T> Future for Join<'_, T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let progress = ready!(turn::poll_counted(cx));
        let join = self.get_mut();
        // As in `Put`.
        let mut waker = Some(cx.waker().clone());
        let mut state = join.shared.lock();
        let must_wait = match join.key {
            None => join.shared.unfinished(&state) > 0,
            Some(key) => state.joiners.standing(key) == Standing::Waiting,
        };
        // Else the last item was finished just now, by one who did not know yet that somebody waits.
        if must_wait && (!state.joiners.stand(&mut join.key, &mut waker) || join.shared.note_join(&state)) {
            return Poll::Pending;
        }
        drop(state);
        leave_joiners(join.shared, &mut join.key);
        progress.made_progress();
        Poll::Ready(())
    }
}

impl<T> Drop for Join<'_, T> {
    fn drop(&mut self) {
        leave_joiners(self.shared, &mut self.key);
    }
}

fn leave_joiners<T>(shared: &Shared<T>, key: &mut Option<usize>) {
    if let Some(key) = key.take() {
        let mut state = shared.lock();
        let stale = state.joiners.leave(key);
        shared.note_leave(&state);
        drop(state);
        drop(stale);
    }
}
