//! Groups in groups.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use baiwan_task::{Failures, Group, TaskGroup, cancelled, is_cancelled, timeout};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use crate::rig::{Alive, Fault, Guard, is_only_cancelled, poll_once, told, turn, until_no_task_is_left};

async fn hold(guard: Guard) -> Result<(), Fault> {
    let _guard = guard;
    pending().await
}

#[tokio::test]
async fn promise_a_group_inside_is_cancelled_with_the_outer_one() {
    let alive = Alive::default();
    let scope = TaskGroup::new().scope(async |outer: Group<Fault>| {
        let inside = alive.clone();
        let child = async move {
            let inner = TaskGroup::new().scope(async |inner: Group<Fault>| {
                inner.spawn(hold(inside.guard())).await;
                hold(inside.guard()).await
            });
            inner.await.map_err(|_| Fault::Number(1))
        };
        outer.spawn(child).await;
        // A group in the body, too.
        let in_body = TaskGroup::new().scope(async |inner: Group<Fault>| {
            inner.spawn(hold(alive.guard())).await;
            for _ in 0..3 {
                yield_now().await;
            }
            assert_eq!(alive.count(), 3);
            outer.cancel();
            assert!(inner.is_cancelled());
            pending::<Result<(), _>>().await
        });
        in_body.await.map_err(|_| Fault::Number(2))
    });
    assert!(is_only_cancelled(scope.await));
    assert_eq!(alive.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn promise_the_outer_scope_waits_for_the_children_of_a_scope_that_was_dropped() {
    let alive = Alive::default();
    let scope = TaskGroup::new().scope(async |_: Group<Fault>| {
        let inner = TaskGroup::new().scope(async |inner: Group<Fault>| {
            inner.spawn(hold(alive.guard())).await;
            pending::<Result<(), _>>().await
        });
        timeout("the inner scope", Duration::from_secs(1), inner).await.unwrap_err();
        assert_eq!(alive.count(), 1, "its child has had no time to go");
        Ok(())
    });
    scope.await.unwrap();
    assert_eq!(alive.count(), 0);
}

#[tokio::test]
async fn promise_the_outer_scope_waits_for_all_that_is_left_of_dropped_scopes_however_deep() {
    fn nest(alive: Alive, depth: u32) -> std::pin::Pin<Box<dyn Future<Output = Result<(), Fault>> + Send>> {
        Box::pin(async move {
            let inner = TaskGroup::new().scope(async |group: Group<Fault>| {
                group.spawn(hold(alive.guard())).await;
                if depth > 0 {
                    group.spawn(nest(alive.clone(), depth - 1)).await;
                }
                pending::<Result<(), _>>().await
            });
            inner.await.map_err(|_| Fault::Number(1))
        })
    }
    let alive = Alive::default();
    let depth = if cfg!(miri) { 5 } else { 50 };
    let scope = TaskGroup::new().scope(async |_: Group<Fault>| {
        let mut outermost = nest(alive.clone(), depth);
        assert!(poll_once(outermost.as_mut(), &Arc::default()).is_pending());
        for _ in 0..=depth {
            yield_now().await;
        }
        assert_eq!(alive.count(), depth as usize + 1);
        drop(outermost);
        assert_eq!(alive.count(), depth as usize + 1);
        Ok(())
    });
    scope.await.unwrap();
    assert_eq!(alive.count(), 0);
}

#[tokio::test]
async fn promise_a_failure_inside_fails_the_inner_scope_alone() {
    let scope = TaskGroup::new().scope(async |outer: Group<Fault>| {
        let sibling = outer.spawn(turn()).await;
        let inner = TaskGroup::new().scope(async |inner: Group<Fault>| {
            inner.spawn(async { Err::<(), _>(Fault::Number(1)) }).await;
            Ok(())
        });
        assert_eq!(told(inner.await), ["fault 1"]);
        assert!(!outer.is_cancelled());
        Ok(sibling.await?)
    });
    scope.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn promise_a_group_without_grace_has_that_of_the_group_outside() {
    let started = Instant::now();
    let mut kept = None;
    let scope = TaskGroup::new().grace(Duration::from_secs(3)).scope(async |outer: Group<Fault>| {
        let child = async {
            let inner = TaskGroup::new().scope(async |inner: Group<Fault>| {
                let listens = inner.spawn(async {
                    cancelled().await;
                    sleep(Duration::from_secs(1)).await;
                    Ok("flushed")
                });
                let mut listens = listens.await;
                (&mut listens).await.map_err(Fault::from)
            });
            Ok(inner.await.unwrap_err().iter().len())
        };
        kept = Some(outer.spawn(child).await);
        yield_now().await;
        yield_now().await;
        outer.cancel();
        Ok(())
    });
    assert!(is_only_cancelled(scope.await));
    assert_eq!(kept.unwrap().take(), Some(1));
    assert_eq!(started.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn promise_a_failure_within_the_grace_outside_takes_it_from_nobody() {
    let started = Instant::now();
    let scope = TaskGroup::new().grace(Duration::from_secs(3)).scope(async |outer: Group<Fault>| {
        let inner = TaskGroup::new().scope(async |inner: Group<Fault>| {
            let failing = async {
                cancelled().await;
                Err::<(), _>(Fault::Number(1))
            };
            inner.spawn(failing).await;
            let flushing = async {
                cancelled().await;
                sleep(Duration::from_secs(1)).await;
                Ok("flushed")
            };
            let mut flushing = inner.spawn(flushing).await;
            yield_now().await;
            outer.cancel();
            assert_eq!((&mut flushing).await, Ok("flushed"));
            Ok(())
        });
        assert_eq!(told(inner.await), ["cancelled", "fault 1"]);
        Ok(())
    });
    assert!(is_only_cancelled(scope.await));
    assert_eq!(started.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn promise_a_deadline_holds_within_the_grace_outside() {
    let started = Instant::now();
    let scope = TaskGroup::new().grace(Duration::from_secs(60)).scope(async |outer: Group<Fault>| {
        let inner = TaskGroup::new().deadline(Duration::from_secs(1)).scope(async |inner: Group<Fault>| {
            let slow = async {
                sleep(Duration::from_secs(30)).await;
                Ok(())
            };
            inner.spawn(slow).await;
            outer.cancel();
            Ok(())
        });
        assert!(is_only_cancelled(inner.await));
        Ok(())
    });
    assert!(is_only_cancelled(scope.await));
    assert_eq!(started.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn promise_a_group_with_a_shorter_grace_keeps_to_its_own() {
    let (alive, started) = (Alive::default(), Instant::now());
    let scope = TaskGroup::new().grace(Duration::from_secs(30)).scope(async |outer: Group<Fault>| {
        for grace in [0, 2] {
            let inside = alive.clone();
            let child = async move {
                let inner = TaskGroup::new().grace(Duration::from_secs(grace)).scope(async |inner: Group<Fault>| {
                    inner.spawn(hold(inside.guard())).await;
                    pending::<Result<(), _>>().await
                });
                assert!(is_only_cancelled(inner.await));
                assert_eq!(started.elapsed(), Duration::from_secs(grace));
                Ok(())
            };
            outer.spawn(child).await;
        }
        yield_now().await;
        outer.cancel();
        Ok(())
    });
    assert!(is_only_cancelled(scope.await));
    assert_eq!(alive.count(), 0);
    assert_eq!(started.elapsed(), Duration::from_secs(2));
}

#[tokio::test]
async fn promise_a_group_made_in_a_cancelled_one_is_cancelled_from_the_start() {
    let scope = TaskGroup::new().grace(Duration::from_secs(60)).scope(async |outer: Group<Fault>| {
        outer.cancel();
        let inner = TaskGroup::new().scope(async |inner: Group<Fault>| {
            assert!(inner.is_cancelled() && is_cancelled());
            Ok(())
        });
        assert!(is_only_cancelled(inner.await));
        Ok(())
    });
    assert!(is_only_cancelled(scope.await));
}

#[tokio::test]
async fn promise_a_group_inside_that_has_ended_is_forgotten() {
    let scope = TaskGroup::new().scope(async |outer: Group<Fault>| {
        let mut inner = None;
        for _ in 0..100 {
            inner = Some(TaskGroup::new().scope(async |inner: Group<Fault>| Ok(inner)).await.unwrap());
        }
        outer.cancel();
        assert!(!inner.unwrap().is_cancelled(), "it had ended");
        Ok(())
    });
    assert!(is_only_cancelled(scope.await));
}

#[tokio::test]
async fn promise_tasks_that_are_spawned_otherwise_are_in_no_group() {
    let (send, receive) = oneshot::channel();
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        group.cancel();
        tokio::spawn(async { send.send(is_cancelled()) });
        Ok(())
    });
    let _: Failures<Fault> = scope.await.unwrap_err();
    assert_eq!(receive.await, Ok(false));
    until_no_task_is_left().await;
}

#[tokio::test]
async fn promise_groups_may_be_nested_deeper_than_the_stack_is() {
    const LEVELS: u32 = if cfg!(miri) { 50 } else { 50_000 };
    type Level = Pin<Box<dyn Future<Output = Result<(), Fault>> + Send>>;
    fn down(levels: u32, bottom: oneshot::Sender<Group<Fault>>) -> Level {
        Box::pin(async move {
            let scope = TaskGroup::new().scope(async move |group: Group<Fault>| {
                if levels == 0 {
                    bottom.send(group).unwrap();
                    return pending().await;
                }
                group.spawn(down(levels - 1, bottom)).await;
                Ok(())
            });
            scope.await.map_err(|_| Fault::Number(levels))
        })
    }
    let mut innermost = None;
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        let (bottom, reached) = oneshot::channel();
        group.spawn(down(LEVELS, bottom)).await;
        innermost = reached.await.ok();
        group.cancel();
        pending::<Result<(), Fault>>().await
    });
    assert!(is_only_cancelled(scope.await));
    let innermost = innermost.unwrap();
    assert!(innermost.is_cancelled());
    // The last owner of all of them.
    drop(innermost);
}
