//! Futures that are polled by hand.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake};

use baiwan_task::{Queue, Taken};

#[derive(Default)]
struct Calls(AtomicUsize);

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A future, and how often it was woken.
pub(crate) struct Polled<F> {
    future: Pin<Box<F>>,
    calls: Arc<Calls>,
}

pub(crate) fn polled<F: Future>(future: F) -> Polled<F> {
    Polled { future: Box::pin(future), calls: Arc::default() }
}

impl<F: Future> Polled<F> {
    pub(crate) fn poll(&mut self) -> Poll<F::Output> {
        let waker = Arc::clone(&self.calls).into();
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    pub(crate) fn is_pending(&mut self) -> bool {
        self.poll().is_pending()
    }

    /// What it came to.
    pub(crate) fn ready(&mut self) -> F::Output {
        match self.poll() {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("it waits"),
        }
    }

    pub(crate) fn woken(&self) -> usize {
        self.calls.0.load(Ordering::Relaxed)
    }

    pub(crate) fn forget_calls(&self) {
        self.calls.0.store(0, Ordering::Relaxed);
    }
}

/// Operations that are polled once, and given up if they wait.
pub(crate) trait AtOnce<T> {
    /// Whether the value was put.
    fn put_at_once(&self, value: T) -> bool;

    fn get_at_once(&self) -> Option<Taken<'_, T>>;
}

impl<T> AtOnce<T> for Queue<T> {
    fn put_at_once(&self, value: T) -> bool {
        matches!(polled(self.put(value)).poll(), Poll::Ready(Ok(())))
    }

    fn get_at_once(&self) -> Option<Taken<'_, T>> {
        match polled(self.get()).poll() {
            Poll::Ready(taken) => taken.ok(),
            Poll::Pending => None,
        }
    }
}
