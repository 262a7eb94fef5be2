//! Tasks that sleep, that yield, and that wait for their first turn. All spawn the same futures.

use std::convert::Infallible;
use std::future::Future;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use baiwan_task::{Cancelled, Group, TaskGroup};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep};

/// How many tasks sleep at a time.
pub const TASKS: usize = 10_000;
/// How long each sleeps.
pub const SLEEP: Duration = Duration::from_millis(1);
/// How many tasks yield to each other.
pub const YIELDING: usize = 100;
/// How often each does.
pub const YIELDS: usize = 1_000;
/// How many tasks are timed from their spawn to their first turn.
pub const DELAYED: usize = 200;

/// Tasks that sleep, in a group.
pub async fn sleep_in_group(tasks: usize) {
    in_group(tasks, sleep_once).await;
}

/// Tasks that sleep, and hold 16 bytes more, in a group.
pub async fn sleep_larger_in_group(tasks: usize) {
    in_group(tasks, sleep_holding).await;
}

async fn in_group<F>(tasks: usize, future: impl Fn() -> F)
where
    F: Future<Output = Result<(), Infallible>> + Send + 'static,
{
    let ended = TaskGroup::new().scope(async |group: Group<Infallible>| {
        for _ in 0..tasks {
            group.spawn(future()).await;
        }
        Ok(())
    });
    assert!(ended.await.is_ok());
}

/// Tasks that sleep, in a group whose handles are all awaited for their values.
pub async fn sleep_in_group_with_values(tasks: usize) {
    let ended = TaskGroup::new().scope(async |group: Group<Cancelled>| {
        let mut handles = Vec::with_capacity(tasks);
        for _ in 0..tasks {
            handles.push(group.spawn(sleep_once()).await);
        }
        for handle in handles {
            handle.await?;
        }
        Ok(())
    });
    assert!(ended.await.is_ok());
}

/// Tasks that sleep, in Tokio's set of tasks.
pub async fn sleep_in_join_set(tasks: usize) {
    in_join_set(tasks, sleep_once).await;
}

/// Tasks that sleep, and hold 16 bytes more, in Tokio's set of tasks.
pub async fn sleep_larger_in_join_set(tasks: usize) {
    in_join_set(tasks, sleep_holding).await;
}

async fn in_join_set<F>(tasks: usize, future: impl Fn() -> F)
where
    F: Future<Output = Result<(), Infallible>> + Send + 'static,
{
    let mut set = JoinSet::new();
    for _ in 0..tasks {
        set.spawn(future());
    }
    while let Some(ended) = set.join_next().await {
        assert!(ended.is_ok());
    }
}

/// Tasks that sleep, their handles awaited as they become ready.
pub async fn sleep_in_unordered(tasks: usize) {
    let mut handles: FuturesUnordered<_> = (0..tasks).map(|_| tokio::spawn(sleep_once::<Infallible>())).collect();
    while let Some(ended) = handles.next().await {
        assert!(ended.is_ok());
    }
}

/// Tasks that sleep, their handles awaited in order.
pub async fn sleep_in_handles(tasks: usize) {
    let handles: Vec<_> = (0..tasks).map(|_| tokio::spawn(sleep_once::<Infallible>())).collect();
    for handle in handles {
        assert!(handle.await.is_ok());
    }
}

/// Tasks that sleep, whose handles are dropped at once: each frees itself, on the thread that ran it. They are counted down.
pub async fn sleep_detached(tasks: usize) {
    let left = Arc::new((AtomicUsize::new(tasks), Notify::new()));
    for _ in 0..tasks {
        let left = Arc::clone(&left);
        tokio::spawn(async move {
            let ended = sleep_once::<Infallible>().await;
            if left.0.fetch_sub(1, Ordering::AcqRel) == 1 {
                left.1.notify_one();
            }
            ended
        });
    }
    left.1.notified().await;
}

/// Tasks that yield to each other, in a group.
pub async fn yield_in_group(tasks: usize, yields: usize) {
    let ended = TaskGroup::new().scope(async |group: Group<Infallible>| {
        for _ in 0..tasks {
            group
                .spawn(async move {
                    yield_often(yields).await;
                    Ok(())
                })
                .await;
        }
        Ok(())
    });
    assert!(ended.await.is_ok());
}

/// Tasks that yield to each other, in Tokio's set of tasks.
pub async fn yield_in_join_set(tasks: usize, yields: usize) {
    let mut set: JoinSet<()> = (0..tasks).map(|_| yield_often(yields)).collect();
    while let Some(ended) = set.join_next().await {
        assert!(ended.is_ok());
    }
}

async fn sleep_once<E>() -> Result<(), E> {
    sleep(SLEEP).await;
    Ok(())
}

async fn sleep_holding<E>() -> Result<(), E> {
    let held = black_box([0_u64; 2]);
    let ended = sleep_once().await;
    black_box(&held);
    ended
}

async fn yield_often(yields: usize) {
    for _ in 0..yields {
        yield_now().await;
    }
}

/// From the spawn of a task to its first turn, while others yield all the time; in a group. One value for each of `tasks`.
///
/// # Panics
/// If a task fails, which none does.
pub async fn delay_in_group(tasks: usize, others: usize) -> Vec<Duration> {
    let stop = Arc::new(AtomicBool::new(false));
    let ended = TaskGroup::new().scope(async |group: Group<Cancelled>| {
        for _ in 0..others {
            let stop = Arc::clone(&stop);
            group
                .spawn(async move {
                    yield_until(&stop).await;
                    Ok(())
                })
                .await;
        }
        let mut delays = Vec::with_capacity(tasks);
        for _ in 0..tasks {
            let spawned = Instant::now();
            delays.push(group.spawn(async move { Ok(spawned.elapsed()) }).await.await?);
        }
        stop.store(true, Ordering::Relaxed);
        Ok(delays)
    });
    ended.await.expect("no task fails")
}

/// The same in Tokio's set of tasks.
///
/// # Panics
/// If a task fails, which none does.
pub async fn delay_in_join_set(tasks: usize, others: usize) -> Vec<Duration> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut set = JoinSet::new();
    for _ in 0..others {
        let stop = Arc::clone(&stop);
        set.spawn(async move { yield_until(&stop).await });
    }
    let mut delays = Vec::with_capacity(tasks);
    for _ in 0..tasks {
        let spawned = Instant::now();
        delays.push(tokio::spawn(async move { spawned.elapsed() }).await.expect("no task fails"));
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = set.join_next().await {
        assert!(ended.is_ok());
    }
    delays
}

async fn yield_until(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        yield_now().await;
    }
}
