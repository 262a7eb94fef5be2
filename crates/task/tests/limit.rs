//! What a limit promises, each promise by itself, with a held clock.

#![cfg(not(any(baiwan_loom, baiwan_shuttle)))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use baiwan_task::{Limit, Permit, Refused};
use tokio::time::{advance, sleep};

const MILLISECOND: Duration = Duration::from_millis(1);

type Acquire<'a> = Pin<Box<dyn Future<Output = Result<Permit, Refused>> + 'a>>;

fn poll(acquire: &mut Acquire<'_>) -> Poll<Result<Permit, Refused>> {
    acquire.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

fn ready(acquire: &mut Acquire<'_>) -> Result<Permit, Refused> {
    match poll(acquire) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("it waits"),
    }
}

#[test]
#[should_panic(expected = "a limit of nothing")]
fn promise_a_limit_of_nothing_is_refused() {
    let _ = Limit::new(0);
}

#[test]
fn promise_no_more_than_the_limit_go_on_at_once() {
    let limit = Limit::new(2);
    let first = limit.acquire_nowait().unwrap();
    let _second = limit.acquire_nowait().unwrap();
    assert_eq!(limit.acquire_nowait().unwrap_err(), Refused::InUse);
    let mut third: Acquire<'_> = Box::pin(limit.acquire());
    assert!(poll(&mut third).is_pending());
    drop(first);
    let _third = ready(&mut third).unwrap();
    assert_eq!(limit.acquire_nowait().unwrap_err(), Refused::InUse);
}

#[test]
fn promise_the_line_is_bounded() {
    let limit = Limit::new(1).queue(2);
    let permit = limit.acquire_nowait().unwrap();
    let mut waiting: Vec<Acquire<'_>> = vec![Box::pin(limit.acquire()), Box::pin(limit.acquire_within(MILLISECOND))];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _entered = runtime.enter();
    assert!(waiting.iter_mut().all(|acquire| poll(acquire).is_pending()));
    let refused = Refused::QueueFull { waiting_max: 2 };
    assert_eq!(ready(&mut (Box::pin(limit.acquire()) as Acquire<'_>)).unwrap_err(), refused);
    assert_eq!(ready(&mut (Box::pin(limit.acquire_within(MILLISECOND)) as Acquire<'_>)).unwrap_err(), refused);
    // Who gives up leaves a place in the line.
    waiting.clear();
    assert!(poll(&mut (Box::pin(limit.acquire()) as Acquire<'_>)).is_pending());
    drop(permit);
    assert!(limit.acquire_nowait().is_ok());
}

#[test]
fn promise_those_who_wait_are_served_in_order_and_nobody_comes_between() {
    let limit = Limit::new(1);
    let mut permit = limit.acquire_nowait().unwrap();
    let mut waiting: Vec<Acquire<'_>> = (0..3).map(|_| Box::pin(limit.acquire()) as Acquire<'_>).collect();
    assert!(waiting.iter_mut().all(|acquire| poll(acquire).is_pending()));
    while !waiting.is_empty() {
        drop(permit);
        assert_eq!(limit.acquire_nowait().unwrap_err(), Refused::InUse, "it is promised");
        for later in &mut waiting[1..] {
            assert!(poll(later).is_pending());
        }
        permit = ready(&mut waiting.remove(0)).unwrap();
    }
}

#[test]
fn promise_one_who_gives_up_passes_its_permit_on() {
    let limit = Limit::new(1);
    let permit = limit.acquire_nowait().unwrap();
    let mut first: Acquire<'_> = Box::pin(limit.acquire());
    let mut second: Acquire<'_> = Box::pin(limit.acquire());
    assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending());
    drop(permit);
    drop(first);
    assert!(ready(&mut second).is_ok());
}

#[tokio::test(start_paused = true)]
async fn promise_one_who_waits_too_long_is_told_after_how_long() {
    let limit = Limit::new(1);
    let permit = limit.acquire().await.unwrap();
    let refused = limit.acquire_within(250 * MILLISECOND).await.unwrap_err();
    assert_eq!(refused, Refused::TimedOut { after: 250 * MILLISECOND });
    assert_eq!(refused.to_string(), "there was no permit within 250ms");
    drop(permit);
    assert!(limit.acquire_nowait().is_ok());
}

#[tokio::test(start_paused = true)]
async fn promise_a_permit_in_time_is_had_in_time() {
    let limit = Limit::new(1);
    let permit = limit.acquire().await.unwrap();
    let release = async {
        sleep(10 * MILLISECOND).await;
        drop(permit);
    };
    let (in_time, ()) = tokio::join!(limit.acquire_within(20 * MILLISECOND), release);
    assert!(in_time.is_ok());
}

#[tokio::test(start_paused = true)]
async fn promise_a_permit_never_goes_to_one_whose_time_is_over() {
    let limit = Limit::new(1);
    let permit = limit.acquire().await.unwrap();
    let mut late: Acquire<'_> = Box::pin(limit.acquire_within(10 * MILLISECOND));
    let mut next: Acquire<'_> = Box::pin(limit.acquire_within(20 * MILLISECOND));
    assert!(poll(&mut late).is_pending() && poll(&mut next).is_pending());
    // It is promised in time, and nobody comes for it in time.
    drop(permit);
    advance(10 * MILLISECOND).await;
    assert_eq!(ready(&mut late).unwrap_err(), Refused::TimedOut { after: 10 * MILLISECOND });
    assert!(ready(&mut next).is_ok());
}

#[tokio::test(start_paused = true)]
async fn promise_what_need_not_be_waited_for_is_never_late() {
    let limit = Limit::new(1);
    let permit = limit.acquire_within(Duration::ZERO).await.unwrap();
    let refused = limit.acquire_within(Duration::ZERO).await.unwrap_err();
    assert_eq!(refused, Refused::TimedOut { after: Duration::ZERO });
    drop(permit);
}

#[tokio::test(start_paused = true)]
async fn promise_a_time_without_end_is_no_time_limit() {
    let limit = Limit::new(1);
    let permit = limit.acquire().await.unwrap();
    let release = async {
        sleep(Duration::from_secs(86_400)).await;
        drop(permit);
    };
    let (answer, ()) = tokio::join!(limit.acquire_within(Duration::MAX), release);
    assert!(answer.is_ok());
}

#[tokio::test]
async fn promise_one_who_never_has_to_wait_lets_others_run() {
    let limit = Limit::new(1);
    for within in [None, Some(MILLISECOND)] {
        let other = tokio::spawn(async {});
        while !other.is_finished() {
            match within {
                None => drop(limit.acquire().await.unwrap()),
                Some(within) => drop(limit.acquire_within(within).await.unwrap()),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_the_limit_holds_for_many_tasks_on_threads() {
    const TASKS: usize = if cfg!(miri) { 8 } else { 500 };
    let limit = Limit::new(3).queue(TASKS);
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (limit, now, most) = (limit.clone(), Arc::clone(&now), Arc::clone(&most));
            tokio::spawn(async move {
                let _permit = limit.acquire().await.unwrap();
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                now.fetch_sub(1, Ordering::SeqCst);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert!((1..=3).contains(&most.load(Ordering::SeqCst)));
    let permits: Vec<_> = std::iter::from_fn(|| limit.acquire_nowait().ok()).collect();
    assert_eq!(permits.len(), 3, "all were given back");
}
