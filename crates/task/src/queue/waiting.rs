//! The futures that a queue hands out, and how each stands in line and leaves it.
//!
//! All three go the same way: try; if it must wait, clone the waker without the lock, try again, and stand in line. A future that
//! is dropped leaves its line and passes on what it was promised. They are *not* fused: one that was ready must not be polled
//! again.
//!
//! Invariant: a future that has a `key` has an entry in the queue's line, and no other has.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::line::{Stand, Standing};
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
            match state.put_quickly(value, since_ns) {
                Ok(waker) => {
                    drop(state);
                    turn::note_uncounted();
                    wake(waker);
                    return Poll::Ready(Ok(()));
                }
                Err(unput) => put.value = Some(unput),
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
        let put = self;
        let Some(mut value) = put.value.take() else { panic!("`Put` was polled after it was ready") };
        let since_ns = now_ns();
        let mut spare = None;
        loop {
            // Made after `spare`, it is released before a waker in there is dropped.
            let mut state = put.shared.lock();
            match state.put(put.key, value, since_ns) {
                PutStep::Done(waker) => {
                    let joined = put.shared.note_put(&mut state);
                    let stale = put.key.take().and_then(|key| state.putters.leave(key));
                    drop(state);
                    drop(stale);
                    progress.made_progress();
                    wake(waker);
                    wake(joined);
                    return Poll::Ready(Ok(()));
                }
                PutStep::Closed(value) => {
                    drop(state);
                    leave(put.shared, &mut put.key, State::leave_putters);
                    progress.made_progress();
                    return Poll::Ready(Err(Closed(value)));
                }
                PutStep::Full(unput) => value = unput,
            }
            if state.putters.stand(&mut put.key, cx.waker(), &mut spare) != Stand::NeedsWaker {
                put.value = Some(value);
                return Poll::Pending;
            }
            drop(state);
            spare = Some(cx.waker().clone());
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
        let get = self;
        let mut spare = None;
        loop {
            // As in `Put`.
            let mut state = get.shared.lock();
            match state.get(get.key) {
                GetStep::Done(item, putter, dismissed) => {
                    let stale = get.key.take().and_then(|key| state.getters.leave(key));
                    drop(state);
                    let taken = Taken::new(item, get.shared);
                    drop(stale);
                    progress.made_progress();
                    wake(putter);
                    wake(dismissed);
                    return Poll::Ready(Ok(taken));
                }
                GetStep::Drained => {
                    drop(state);
                    leave(get.shared, &mut get.key, State::leave_getters);
                    progress.made_progress();
                    return Poll::Ready(Err(Drained));
                }
                GetStep::Empty => {}
            }
            if state.getters.stand(&mut get.key, cx.waker(), &mut spare) != Stand::NeedsWaker {
                return Poll::Pending;
            }
            drop(state);
            spare = Some(cx.waker().clone());
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
        let mut spare = None;
        loop {
            // As in `Put`.
            let mut state = join.shared.lock();
            let done = match join.key {
                None => join.shared.unfinished(&state) == 0,
                Some(key) => state.joiners.standing(key) == Standing::Dismissed,
            };
            if done {
                break;
            }
            match state.joiners.stand(&mut join.key, cx.waker(), &mut spare) {
                Stand::AsBefore => return Poll::Pending,
                Stand::Anew if join.shared.note_join(&state) => return Poll::Pending,
                // The last item was finished just now, by one who did not know yet that somebody waits.
                Stand::Anew => break,
                Stand::NeedsWaker => {}
            }
            drop(state);
            spare = Some(cx.waker().clone());
        }
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
