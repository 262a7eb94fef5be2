//! Guards that show who is alive, an error, wakers that count, and futures that misbehave.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake};

use baiwan_task::{Cancelled, FailureKind, Failures};

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("fault {0}")]
    Number(u32),
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// A child that takes one turn of the runtime.
pub(crate) async fn turn() -> Result<(), Fault> {
    tokio::task::yield_now().await;
    Ok(())
}

/// What the failures are, in order, in words.
pub(crate) fn told<R: std::fmt::Debug>(result: Result<R, Failures<Fault>>) -> Vec<String> {
    result.unwrap_err().iter().map(ToString::to_string).collect()
}

pub(crate) fn is_only_cancelled<R: std::fmt::Debug, E: std::fmt::Debug>(result: Result<R, Failures<E>>) -> bool {
    let failures = result.unwrap_err();
    failures.iter().len() == 1 && matches!(failures.first().kind(), FailureKind::Cancelled)
}

/// How many guards of it there are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alive(Arc<AtomicUsize>);

#[derive(Debug)]
pub(crate) struct Guard(Arc<AtomicUsize>);

impl Alive {
    pub(crate) fn guard(&self) -> Guard {
        self.0.fetch_add(1, Ordering::SeqCst);
        Guard(Arc::clone(&self.0))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Panics when it is dropped, after its guard is.
#[derive(Debug)]
pub(crate) struct PanicOnDrop(pub(crate) Option<Guard>);

impl Drop for PanicOnDrop {
    fn drop(&mut self) {
        self.0 = None;
        panic!("in drop");
    }
}

/// A waker that counts.
#[derive(Debug, Default)]
pub(crate) struct Wakes(AtomicUsize);

impl Wakes {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Polls once.
pub(crate) fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>, wakes: &Arc<Wakes>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Arc::clone(wakes).into()))
}

/// Lets all others run until no task of this runtime is left. Fails if they never end.
pub(crate) async fn until_no_task_is_left() {
    let metrics = tokio::runtime::Handle::current().metrics();
    until(|| metrics.num_alive_tasks() == 0).await;
}

/// Lets all others run until it holds. Fails if it never does.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..1_000_000 {
        if holds() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never came to hold");
}
