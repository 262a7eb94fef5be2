//! What offloading promises, each promise by itself. Work that is to last waits for a message, so nothing depends on time.

#![cfg(all(feature = "offload", not(any(baiwan_loom, baiwan_shuttle))))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use baiwan_task::{Offload, OffloadError};
use tokio::task::yield_now;

/// The two kinds of work, which promise the same.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Cpu,
    Blocking,
}

const KINDS: [Kind; 2] = [Kind::Cpu, Kind::Blocking];

type Running<'a, T> = Pin<Box<dyn Future<Output = Result<T, OffloadError>> + 'a>>;

impl Kind {
    fn run<T: Send + 'static>(self, offload: &Offload, work: impl FnOnce() -> T + Send + 'static) -> Running<'_, T> {
        match self {
            Kind::Cpu => Box::pin(offload.cpu(work)),
            Kind::Blocking => Box::pin(offload.blocking(work)),
        }
    }
}

fn offload(threads: usize, queue: usize) -> Offload {
    Offload::builder().cpu_threads(threads).blocking_threads(threads).queue(queue).build().unwrap()
}

fn poll<T>(running: &mut Running<'_, T>) -> Poll<Result<T, OffloadError>> {
    running.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Work that says that it has begun, and ends when it is told to.
fn held() -> (impl FnOnce() + Send + 'static, Receiver<()>, SyncSender<()>) {
    let (begins, begun) = sync_channel(1);
    let (end, ends) = sync_channel(1);
    let work = move || {
        begins.send(()).unwrap();
        // Also if nobody will ever tell.
        let _ = ends.recv();
    };
    (work, begun, end)
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        yield_now().await;
    }
}

#[test]
#[should_panic(expected = "a limit of nothing")]
fn promise_no_threads_are_refused() {
    drop(Offload::builder().blocking_threads(0).build());
}

#[tokio::test]
async fn promise_work_runs_elsewhere_and_its_value_comes_back() {
    let offload = offload(1, 1);
    let here = std::thread::current().id();
    for kind in KINDS {
        let there = kind.run(&offload, || std::thread::current().id()).await.unwrap();
        assert_ne!(here, there, "{kind:?}");
    }
    let threads = offload.cpu(rayon_threads).await.unwrap();
    assert_eq!(threads, Some(String::from("offload-0")));
}

fn rayon_threads() -> Option<String> {
    std::thread::current().name().map(String::from)
}

#[tokio::test]
async fn promise_no_more_runs_at_once_than_there_are_threads() {
    for kind in KINDS {
        let offload = offload(2, 10);
        let mut ends = Vec::new();
        let mut begun = Vec::new();
        let mut works: Vec<Running<'_, ()>> = Vec::new();
        for _ in 0..5 {
            let (work, has_begun, end) = held();
            begun.push(has_begun);
            ends.push(end);
            works.push(kind.run(&offload, work));
            assert!(poll(works.last_mut().unwrap()).is_pending());
        }
        begun[0].recv().unwrap();
        begun[1].recv().unwrap();
        // In order: when the first ends, the third begins.
        ends[0].send(()).unwrap();
        works.remove(0).await.unwrap();
        assert!(poll(&mut works[1]).is_pending());
        begun[2].recv().unwrap();
        assert!(begun[3].try_recv().is_err() && begun[4].try_recv().is_err());
        drop(ends);
        for work in works {
            work.await.unwrap();
        }
    }
}

#[tokio::test]
async fn promise_what_finds_the_line_full_is_told_and_not_run() {
    for kind in KINDS {
        let offload = offload(1, 1);
        let (work, begun, end) = held();
        let mut runs = kind.run(&offload, work);
        assert!(poll(&mut runs).is_pending());
        begun.recv().unwrap();
        let mut waits = kind.run(&offload, || ());
        assert!(poll(&mut waits).is_pending());
        let ran = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ran);
        let refused = kind.run(&offload, move || flag.store(true, Ordering::SeqCst)).await.unwrap_err();
        assert!(matches!(refused, OffloadError::QueueFull { waiting_max: 1 }), "{kind:?}: {refused}");
        end.send(()).unwrap();
        runs.await.unwrap();
        waits.await.unwrap();
        assert!(!ran.load(Ordering::SeqCst), "{kind:?}");
    }
}

#[tokio::test]
async fn promise_work_that_is_dropped_while_it_waits_never_runs() {
    for kind in KINDS {
        let offload = offload(1, 10);
        let (work, begun, end) = held();
        let mut runs = kind.run(&offload, work);
        assert!(poll(&mut runs).is_pending());
        begun.recv().unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        let mut waiting: Vec<Running<'_, ()>> = (0..3)
            .map(|number| {
                let ran = Arc::clone(&ran);
                kind.run(&offload, move || _ = ran.fetch_add(1 << number, Ordering::SeqCst))
            })
            .collect();
        assert!(waiting.iter_mut().all(|work| poll(work).is_pending()));
        drop(waiting.remove(1));
        assert_eq!(Arc::strong_count(&ran), 3, "{kind:?}: what it held was dropped at once");
        end.send(()).unwrap();
        runs.await.unwrap();
        for work in waiting {
            work.await.unwrap();
        }
        assert_eq!(ran.load(Ordering::SeqCst), 0b101, "{kind:?}");
    }
}

#[tokio::test]
async fn promise_work_that_is_dropped_while_it_runs_keeps_its_thread_to_its_end() {
    for kind in KINDS {
        let offload = offload(1, 10);
        let (work, begun, end) = held();
        let mut runs = kind.run(&offload, work);
        assert!(poll(&mut runs).is_pending());
        begun.recv().unwrap();
        drop(runs);
        let mut next = kind.run(&offload, || 7);
        assert!(poll(&mut next).is_pending());
        end.send(()).unwrap();
        assert_eq!(next.await.unwrap(), 7, "{kind:?}");
    }
}

#[test]
fn promise_blocking_work_that_waits_for_a_thread_of_tokio_can_be_taken_back() {
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let offload = offload(4, 10);
        let (work, begun, end) = held();
        let others = tokio::task::spawn_blocking(work);
        begun.recv().unwrap();
        let ran = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ran);
        let mut waits: Running<'_, ()> = Box::pin(offload.blocking(move || flag.store(true, Ordering::SeqCst)));
        assert!(poll(&mut waits).is_pending());
        drop(waits);
        end.send(()).unwrap();
        others.await.unwrap();
        offload.blocking(|| ()).await.unwrap();
        assert!(!ran.load(Ordering::SeqCst));
    });
}

#[tokio::test]
async fn promise_a_panic_is_an_error_and_the_thread_goes_on() {
    for kind in KINDS {
        let offload = offload(1, 10);
        for _ in 0..3 {
            match kind.run::<()>(&offload, || panic!("of the work")).await {
                Err(error @ OffloadError::Panicked(_)) => {
                    assert_eq!(error.to_string(), "the work panicked: of the work");
                }
                other => panic!("{kind:?}: {other:?}"),
            }
        }
        assert_eq!(kind.run(&offload, || 7).await.unwrap(), 7, "{kind:?}");
    }
}

/// Panics when it is dropped, says so, and throws what panics when it is dropped.
struct Bomb(Arc<AtomicBool>);

impl Drop for Bomb {
    fn drop(&mut self) {
        struct Thrown;
        impl Drop for Thrown {
            fn drop(&mut self) {
                panic!("of what the destructor threw");
            }
        }
        self.0.store(true, Ordering::SeqCst);
        std::panic::panic_any(Thrown);
    }
}

#[tokio::test]
async fn promise_a_result_that_nobody_wants_and_whose_destructor_panics_does_no_harm() {
    for kind in KINDS {
        let offload = offload(1, 10);
        let dropped = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&dropped);
        let (work, begun, end) = held();
        let mut runs = kind.run(&offload, move || {
            work();
            Bomb(flag)
        });
        assert!(poll(&mut runs).is_pending());
        begun.recv().unwrap();
        drop(runs);
        end.send(()).unwrap();
        until(|| dropped.load(Ordering::SeqCst)).await;
        assert_eq!(kind.run(&offload, || 7).await.unwrap(), 7, "{kind:?}");
    }
}

#[test]
fn promise_work_for_a_runtime_that_shuts_down_is_told() {
    let offload = offload(1, 10);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let handle = runtime.handle().clone();
    drop(runtime);
    let _entered = handle.enter();
    let mut runs = Kind::Blocking.run(&offload, || ());
    assert!(matches!(poll(&mut runs), Poll::Ready(Err(OffloadError::Closed))));
}

#[tokio::test]
async fn promise_the_threads_end_when_the_last_handle_is_gone() {
    let offload = offload(1, 10);
    let other = offload.clone();
    drop(offload);
    let seen = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&seen);
    // A thread's own values are dropped when it ends.
    std::thread_local! {
        static OWN: std::cell::RefCell<Option<SyncSender<()>>> = const { std::cell::RefCell::new(None) };
    }
    let (alive, ended) = sync_channel::<()>(1);
    other
        .cpu(move || {
            OWN.set(Some(alive));
            *keep.lock().unwrap() = std::thread::current().name().map(String::from);
        })
        .await
        .unwrap();
    drop(other);
    assert!(ended.recv().is_err(), "the thread has ended");
    assert_eq!(seen.lock().unwrap().as_deref(), Some("offload-0"));
}

#[test]
fn promise_any_number_of_threads_but_none_may_be_allowed_to_block() {
    assert!(Offload::builder().cpu_threads(1).blocking_threads(usize::MAX).build().is_ok());
}
