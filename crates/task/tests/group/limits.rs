//! Limits and deadlines of a scope.

use std::future::pending;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Wake};
use std::time::Duration;

use baiwan_task::{Cancelled, FailureKind, Group, Handle, TaskGroup, timeout};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use crate::rig::{Alive, Fault, is_only_cancelled, poll_once, told, until};

#[tokio::test(start_paused = true)]
async fn promise_no_more_children_run_than_the_limit_says() {
    let (alive, started) = (Alive::default(), Instant::now());
    let scope = TaskGroup::new().limit(3).scope(async |group: Group<Fault>| {
        let mut handles = Vec::new();
        for _ in 0..10 {
            let alive = alive.clone();
            let child = async move {
                let _guard = alive.guard();
                let running = alive.count();
                sleep(Duration::from_secs(1)).await;
                Ok(running)
            };
            handles.push(group.spawn(child).await);
        }
        let mut most = 0;
        for handle in handles {
            most = most.max(handle.await?);
        }
        Ok(most)
    });
    assert_eq!(scope.await.unwrap(), 3, "exactly: the limit is used");
    assert_eq!(started.elapsed(), Duration::from_secs(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn promise_no_more_children_run_than_the_limit_says_on_all_threads() {
    let alive = Alive::default();
    let count = if cfg!(miri) { 20 } else { 2_000 };
    let scope = TaskGroup::new().limit(4).scope(async |group: Group<Fault>| {
        for _ in 0..count {
            let alive = alive.clone();
            let child = async move {
                let _guard = alive.guard();
                assert!(alive.count() <= 4);
                yield_now().await;
                assert!(alive.count() <= 4);
                Ok(())
            };
            group.spawn(child).await;
        }
        Ok(())
    });
    scope.await.unwrap();
    assert_eq!(alive.count(), 0);
}

#[tokio::test]
async fn promise_spawning_waits_for_a_place_and_is_served_in_order() {
    let scope = TaskGroup::new().limit(1).scope(async |group: Group<Fault>| {
        let (send, receive) = oneshot::channel::<()>();
        group.spawn(async { Ok(receive.await.is_ok()) }).await;
        let mut second = pin!(group.spawn(async { Ok(2) }));
        let mut third = pin!(group.spawn(async { Ok(3) }));
        assert!(poll_once(second.as_mut(), &Arc::default()).is_pending());
        assert!(poll_once(third.as_mut(), &Arc::default()).is_pending());
        send.send(()).unwrap();
        yield_now().await;
        assert!(poll_once(third.as_mut(), &Arc::default()).is_pending(), "the second is first");
        let second = second.await;
        let third = third.await;
        // It has the place of the second, which has ended.
        assert_eq!(second.await, Ok(2));
        Ok(third.await?)
    });
    assert_eq!(scope.await.unwrap(), 3);
}

#[tokio::test]
async fn promise_who_gives_up_waiting_for_a_place_has_spawned_nothing_and_takes_no_place() {
    let alive = Alive::default();
    let scope = TaskGroup::new().limit(1).scope(async |group: Group<Fault>| {
        let holder = group.spawn(pending::<Result<(), _>>()).await;
        let guard = alive.guard();
        let mut given_up = Box::pin(group.spawn(async move {
            let _guard = guard;
            Ok(())
        }));
        assert!(poll_once(given_up.as_mut(), &Arc::default()).is_pending());
        holder.cancel();
        yield_now().await;
        // Its place is there, but it does not come for it.
        drop(given_up);
        assert_eq!(alive.count(), 0);
        Ok(group.spawn(async { Ok(7) }).await.await?)
    });
    assert_eq!(scope.await.unwrap(), 7);
}

#[tokio::test]
async fn promise_who_waits_for_a_place_when_the_group_ends_waits_no_longer() {
    let (send, receive) = oneshot::channel::<()>();
    let scope = TaskGroup::new().limit(1).scope(async |group: Group<Fault>| {
        group.spawn(async { Ok(receive.await.is_ok()) }).await;
        let outside = [group.clone(), group.clone(), group];
        let waiting = outside.map(|group| {
            tokio::spawn(async move {
                let handle: Handle<()> = group.spawn(async { panic!("it is never polled") }).await;
                handle.await
            })
        });
        yield_now().await;
        // The body ends before the child that has the place.
        tokio::spawn(async {
            yield_now().await;
            send.send(())
        });
        Ok(waiting)
    });
    for waiting in scope.await.unwrap() {
        until(|| waiting.is_finished()).await;
        assert_eq!(waiting.await.unwrap(), Err(Cancelled));
    }
}

#[tokio::test]
async fn promise_a_child_that_is_cancelled_or_panics_gives_its_place_back() {
    let scope = TaskGroup::new().limit(1).scope(async |group: Group<Fault>| {
        for _ in 0..10 {
            group.spawn(pending::<Result<(), _>>()).await.cancel();
        }
        Ok(group.spawn(async { Ok(7) }).await.await?)
    });
    assert_eq!(scope.await.unwrap(), 7);
}

#[test]
#[should_panic(expected = "could never run anything")]
fn promise_a_limit_of_zero_is_the_callers_mistake() {
    let _ = TaskGroup::new().limit(0);
}

#[tokio::test]
async fn promise_any_other_limit_will_do() {
    let scope = TaskGroup::new()
        .limit(usize::MAX)
        .scope(async |group: Group<Fault>| Ok(group.spawn(async { Ok(7) }).await.await?));
    assert_eq!(scope.await.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn promise_a_deadline_cancels_and_is_told() {
    let (alive, started) = (Alive::default(), Instant::now());
    let group = TaskGroup::new().name("page").deadline(Duration::from_millis(2_500));
    let scope = group.scope(async |group: Group<Fault>| {
        let (guard, _in_body) = (alive.guard(), alive.guard());
        group
            .spawn(async move {
                let _guard = guard;
                pending::<Result<(), _>>().await
            })
            .await;
        pending::<Result<(), _>>().await
    });
    let failures = scope.await.unwrap_err();
    assert_eq!(started.elapsed(), Duration::from_millis(2_500));
    assert_eq!(failures.to_string(), "page: not done within 2.5s");
    let after = Duration::from_millis(2_500);
    assert!(matches!(failures.first().kind(), FailureKind::DeadlineExceeded { after: told } if *told == after));
    assert_eq!(alive.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn promise_a_deadline_holds_for_the_children_after_the_body_too() {
    let started = Instant::now();
    let scope = TaskGroup::new().deadline(Duration::from_secs(2)).scope(async |group: Group<Fault>| {
        group.spawn(pending::<Result<(), _>>()).await;
        Ok(())
    });
    assert_eq!(told(scope.await), ["not done within 2s"]);
    assert_eq!(started.elapsed(), Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn promise_a_deadline_with_grace_lets_the_children_end() {
    let group = TaskGroup::new().deadline(Duration::from_secs(2)).grace(Duration::from_secs(2));
    let mut kept = None;
    let scope = group.scope(async |group: Group<Fault>| {
        kept = Some(
            group
                .spawn(async {
                    sleep(Duration::from_secs(3)).await;
                    Ok(7)
                })
                .await,
        );
        Ok(())
    });
    assert_eq!(told(scope.await), ["not done within 2s"]);
    assert_eq!(kept.unwrap().take(), Some(7));
}

#[tokio::test(start_paused = true)]
async fn promise_what_is_done_in_time_is_not_late() {
    let scope = TaskGroup::new().deadline(Duration::ZERO).scope(async |_: Group<Fault>| Ok(7));
    assert_eq!(scope.await.unwrap(), 7);
    let scope = TaskGroup::new().deadline(Duration::from_secs(2)).scope(async |group: Group<Fault>| {
        group
            .spawn(async {
                sleep(Duration::from_secs(1)).await;
                Ok(())
            })
            .await;
        Ok(7)
    });
    assert_eq!(scope.await.unwrap(), 7);
}

/// Each spawn may take of the task's budget, so that every poll ends when none is left.
async fn never_rest(group: &Group<Fault>) -> Result<(), Fault> {
    loop {
        group.spawn(async { Ok(()) }).await;
    }
}

#[tokio::test]
async fn promise_a_deadline_comes_though_the_body_never_rests() {
    let scope = TaskGroup::new()
        .deadline(Duration::from_millis(20))
        .scope(async |group: Group<Fault>| never_rest(&group).await);
    assert_eq!(told(scope.await), ["not done within 20ms"]);
}

#[tokio::test]
async fn promise_a_grace_ends_though_the_body_never_rests() {
    let scope = TaskGroup::new().grace(Duration::from_millis(20)).scope(async |group: Group<Fault>| {
        group.spawn(async { Err::<(), _>(Fault::Number(1)) }).await;
        never_rest(&group).await
    });
    assert_eq!(told(scope.await), ["fault 1"]);
}

/// Waits for a place, first in line, with a waker that panics.
fn wait_with_a_waker_that_panics(group: &Group<Fault>) -> Pin<Box<dyn Future<Output = Handle<()>> + Send>> {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("of a waker");
        }
    }
    let mut waiting = Box::pin(group.spawn(async { Ok(()) }));
    assert!(waiting.as_mut().poll(&mut Context::from_waker(&Arc::new(Panics).into())).is_pending());
    waiting
}

#[tokio::test(start_paused = true)]
async fn promise_a_waker_that_panics_in_the_line_for_a_place_hangs_nobody() {
    for how in ["cancelled", "failed", "ended"] {
        let mut kept = None;
        let scope = TaskGroup::new().limit(1).scope(async |group: Group<Fault>| {
            let (end, ended) = oneshot::channel::<()>();
            let child = async move {
                assert!(ended.await.is_ok(), "it is told");
                if how == "failed" { Err(Fault::Number(1)) } else { Ok(()) }
            };
            group.spawn(child).await;
            kept = Some(wait_with_a_waker_that_panics(&group));
            if how == "cancelled" {
                group.cancel();
            } else {
                end.send(()).unwrap();
            }
            if how == "ended" { Ok(()) } else { pending().await }
        });
        let ended = timeout("the scope", Duration::from_secs(10), scope).await;
        match (how, ended.expect(how)) {
            ("ended", ended) => assert!(ended.is_ok()),
            ("failed", ended) => assert_eq!(told(ended), ["fault 1"]),
            (_, ended) => assert!(is_only_cancelled(ended)),
        }
    }
}
