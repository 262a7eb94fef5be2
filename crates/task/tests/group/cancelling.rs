//! Cancellation: by token, then by drop.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use baiwan_task::{Cancelled, Group, TaskGroup, cancelled, is_cancelled};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use crate::rig::{Alive, Fault, is_only_cancelled, poll_once, told, turn, until_no_task_is_left};

#[tokio::test]
async fn promise_cancelling_from_the_body_ends_everybody() {
    let alive = Alive::default();
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        let guard = alive.guard();
        group
            .spawn(async move {
                let _guard = guard;
                pending::<Result<(), _>>().await
            })
            .await;
        yield_now().await;
        group.cancel();
        Ok(())
    });
    assert!(is_only_cancelled(scope.await), "even if the body has ended with a value");
    assert_eq!(alive.count(), 0);
}

#[tokio::test]
async fn promise_cancelling_from_a_child_ends_everybody() {
    let alive = Alive::default();
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        let _guard = alive.guard();
        let (guard, inside) = (alive.guard(), group.clone());
        group
            .spawn(async move {
                let _guard = guard;
                inside.cancel();
                pending::<Result<(), _>>().await
            })
            .await;
        pending::<Result<(), _>>().await
    });
    assert!(is_only_cancelled(scope.await));
    assert_eq!(alive.count(), 0);
}

#[tokio::test]
async fn promise_cancelling_from_outside_ends_everybody() {
    let alive = Alive::default();
    let (send, receive) = oneshot::channel::<Group<Fault>>();
    let outside = tokio::spawn(async move {
        let group = receive.await.unwrap();
        assert!(!group.is_cancelled());
        group.cancel();
        assert!(group.is_cancelled());
    });
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        let _guard = alive.guard();
        send.send(group).unwrap();
        pending::<Result<(), _>>().await
    });
    assert!(is_only_cancelled(scope.await));
    assert_eq!(alive.count(), 0);
    outside.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn promise_with_grace_who_listens_ends_by_himself_and_who_does_not_is_dropped_after_it() {
    let (alive, started) = (Alive::default(), Instant::now());
    let mut handles = Vec::new();
    let scope = TaskGroup::new().grace(Duration::from_secs(3)).scope(async |group: Group<Fault>| {
        let inside = group.clone();
        handles.push(
            group
                .spawn(async {
                    cancelled().await;
                    sleep(Duration::from_secs(1)).await;
                    Ok(is_cancelled())
                })
                .await,
        );
        handles.push(
            group
                .spawn(async move {
                    inside.cancelled().await;
                    Ok(true)
                })
                .await,
        );
        let guard = alive.guard();
        handles.push(
            group
                .spawn(async move {
                    let _guard = guard;
                    sleep(Duration::from_secs(60)).await;
                    Ok(true)
                })
                .await,
        );
        group.cancel();
        yield_now().await;
        assert_eq!(alive.count(), 1);
        Ok(())
    });
    assert!(is_only_cancelled(scope.await));
    assert_eq!(started.elapsed(), Duration::from_secs(3));
    assert_eq!(alive.count(), 0);
    let values: Vec<_> = handles.iter_mut().map(baiwan_task::Handle::take).collect();
    assert_eq!(values, [Some(true), Some(true), None]);
}

#[tokio::test(start_paused = true)]
async fn promise_a_grace_is_over_when_everybody_has_ended() {
    let started = Instant::now();
    let scope = TaskGroup::new().grace(Duration::from_secs(30)).scope(async |group: Group<Fault>| {
        let listens = group.spawn(async {
            cancelled().await;
            Ok(())
        });
        listens.await;
        Err::<(), _>(Fault::Number(1))
    });
    assert_eq!(told(scope.await), ["fault 1"]);
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn promise_without_grace_a_child_goes_at_its_next_await() {
    let mut steps = 0;
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        steps += 1;
        group.cancel();
        // Ready at once: that is no await at which one could be dropped.
        std::future::ready(()).await;
        steps += 1;
        yield_now().await;
        steps += 1;
        Ok(())
    });
    assert!(is_only_cancelled(scope.await));
    assert_eq!(steps, 2);
}

#[tokio::test]
async fn promise_a_child_that_computes_can_see_the_cancellation() {
    let (send, receive) = oneshot::channel::<()>();
    let mut kept = None;
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        let inside = group.clone();
        kept = Some(
            group
                .spawn(async move {
                    let before = is_cancelled();
                    inside.cancel();
                    send.send(()).unwrap();
                    Ok((before, is_cancelled()))
                })
                .await,
        );
        let _ = receive.await;
        Ok(())
    });
    assert!(is_only_cancelled(scope.await));
    assert_eq!(kept.unwrap().take(), Some((false, true)), "what is given without an await counts");
}

#[tokio::test]
async fn promise_a_single_child_is_cancelled_without_a_failure() {
    let alive = Alive::default();
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        let guard = alive.guard();
        let child = async move {
            let _guard = guard;
            pending::<Result<u32, _>>().await
        };
        let (single, other) = (group.spawn(child).await, group.spawn(turn()).await);
        single.cancel();
        assert_eq!(single.await, Err(Cancelled));
        assert_eq!(alive.count(), 0);
        other.cancel_after_end().await;
        Ok(7)
    });
    assert_eq!(scope.await.unwrap(), 7);
}

/// Cancelling what has ended does nothing.
trait CancelAfterEnd {
    async fn cancel_after_end(self);
}

impl CancelAfterEnd for baiwan_task::Handle<()> {
    async fn cancel_after_end(self) {
        tokio::task::yield_now().await;
        self.cancel();
        assert_eq!(self.await, Ok(()));
    }
}

#[tokio::test]
async fn promise_a_dropped_scope_has_its_children_dropped_at_their_next_await() {
    let alive = Alive::default();
    let mut scope = Box::pin(TaskGroup::new().grace(Duration::from_secs(60)).scope(async |group: Group<Fault>| {
        for _ in 0..10 {
            let guard = alive.guard();
            group
                .spawn(async move {
                    let _guard = guard;
                    pending::<Result<(), _>>().await
                })
                .await;
        }
        let _guard = alive.guard();
        pending::<Result<(), _>>().await
    }));
    assert!(poll_once(scope.as_mut(), &Arc::default()).is_pending());
    yield_now().await;
    assert_eq!(alive.count(), 11);
    drop(scope);
    assert_eq!(alive.count(), 10, "the body is gone at once, its children are tasks");
    until_no_task_is_left().await;
    assert_eq!(alive.count(), 0);
}

#[tokio::test]
async fn promise_a_scope_that_was_never_polled_does_nothing() {
    let mut called = false;
    drop(TaskGroup::new().deadline(Duration::from_secs(1)).scope(async |_: Group<Fault>| {
        called = true;
        Ok(())
    }));
    assert!(!called);
}

#[tokio::test]
async fn promise_a_cancelled_group_starts_nothing() {
    let alive = Alive::default();
    let scope = TaskGroup::new().grace(Duration::from_secs(60)).scope(async |group: Group<Fault>| {
        group.cancel();
        let guard = alive.guard();
        let late = group.spawn(async move {
            let _guard = guard;
            panic!("it is never polled")
        });
        let late: Result<(), _> = late.await.await;
        assert_eq!(late, Err(Cancelled));
        assert_eq!(alive.count(), 0);
        Ok(())
    });
    assert!(is_only_cancelled(scope.await));
}

#[tokio::test]
async fn promise_who_waits_for_a_place_in_a_cancelled_group_waits_no_longer() {
    let scope = TaskGroup::new().limit(1).grace(Duration::from_secs(60)).scope(async |group: Group<Fault>| {
        let holder = group.spawn(pending::<Result<(), _>>()).await;
        let mut second = pin!(group.spawn(async { Ok(()) }));
        assert!(poll_once(second.as_mut(), &Arc::default()).is_pending());
        group.cancel();
        assert_eq!(second.await.await, Err(Cancelled));
        holder.cancel();
        Ok(())
    });
    assert!(is_only_cancelled(scope.await));
}

#[tokio::test]
async fn promise_outside_of_groups_nothing_is_cancelled() {
    assert!(!is_cancelled());
    assert!(poll_once(pin!(cancelled()), &Arc::default()).is_pending());
    // And what was current is so again when a scope has been polled.
    TaskGroup::new()
        .scope(async |group: Group<Fault>| {
            group.cancel();
            assert!(is_cancelled());
            Ok(())
        })
        .await
        .unwrap_err();
    assert!(!is_cancelled());
}

#[tokio::test]
async fn promise_cancelling_after_the_end_does_nothing() {
    let group = TaskGroup::new().scope(async |group: Group<Fault>| Ok(group)).await.unwrap();
    group.cancel();
    assert!(!group.is_cancelled());
    assert!(poll_once(pin!(group.cancelled()), &Arc::default()).is_pending());
}

#[tokio::test]
async fn promise_all_who_watch_are_told() {
    let (send, receive) = oneshot::channel::<Group<Fault>>();
    let watchers: Vec<_> = {
        let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
            send.send(group).unwrap();
            pending::<Result<(), _>>().await
        });
        let mut scope = pin!(scope);
        assert!(poll_once(scope.as_mut(), &Arc::default()).is_pending());
        let group = receive.await.unwrap();
        let watchers = (0..10).map(|_| tokio::spawn(group.cancelled())).collect();
        let given_up = Box::pin(group.cancelled());
        yield_now().await;
        drop(given_up);
        watchers
        // The scope is dropped here.
    };
    for watcher in watchers {
        watcher.await.unwrap();
    }
    until_no_task_is_left().await;
}
