//! Values, and the end of a scope.

use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use baiwan_task::{Cancelled, Failures, Group, TaskGroup, cancelled, is_cancelled};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::rig::{Alive, Fault, Wakes, is_only_cancelled, poll_once, turn, until};

#[tokio::test]
async fn promise_a_handle_gives_its_value_inside_the_scope() {
    let sum = TaskGroup::new().scope(async |group: Group<Fault>| {
        let one = group.spawn(async { Ok(1) }).await;
        let text = group.spawn(async { Ok("two") }).await;
        Ok((one.await?, text.await?))
    });
    assert_eq!(sum.await.unwrap(), (1, "two"));
}

#[tokio::test]
async fn promise_a_handle_gives_its_value_after_the_scope() {
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        Ok((group.spawn(async { Ok(1) }).await, group.spawn(async { Ok(2) }).await))
    });
    let (mut first, second) = scope.await.unwrap();
    assert_eq!(first.take(), Some(1));
    assert_eq!(first.take(), None, "a value is taken once");
    assert_eq!(second.await, Ok(2));
}

#[tokio::test]
async fn promise_a_body_may_borrow_from_its_caller() {
    let (text, mut seen) = (String::from("borrowed"), Vec::new());
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        seen.push(text.len());
        seen.push(group.spawn(async { Ok(2) }).await.await?);
        Ok(())
    });
    scope.await.unwrap();
    assert_eq!(seen, [text.len(), 2]);
}

#[tokio::test(start_paused = true)]
async fn promise_a_scope_ends_only_when_every_child_has_ended() {
    let alive = Alive::default();
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        for number in 0..20 {
            let guard = alive.guard();
            let child = async move {
                sleep(Duration::from_millis(number % 7)).await;
                drop(guard);
                Ok(())
            };
            group.spawn(child).await;
        }
        Ok(alive.count())
    });
    assert_eq!(scope.await.unwrap(), 20, "the body did not wait");
    assert_eq!(alive.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn promise_a_scope_ends_only_when_every_child_has_ended_on_all_threads() {
    let rounds = if cfg!(miri) { 3 } else { 200 };
    for _ in 0..rounds {
        let alive = Alive::default();
        let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
            for number in 0..16 {
                let guard = alive.guard();
                let child = async move {
                    for _ in 0..number {
                        tokio::task::yield_now().await;
                    }
                    // Owned by the future, and so dropped with it, after its last line.
                    let _guard = guard;
                    Ok(())
                };
                group.spawn(child).await;
            }
            Ok(())
        });
        scope.await.unwrap();
        assert_eq!(alive.count(), 0);
    }
}

#[tokio::test]
async fn promise_a_child_may_spawn_siblings_and_the_scope_waits_for_them() {
    fn grow(group: Group<Fault>, alive: Alive, depth: u32) -> impl Future<Output = Result<(), Fault>> + Send + 'static {
        let guard = alive.guard();
        async move {
            let _guard = guard;
            if depth > 0 {
                for _ in 0..2 {
                    let child: std::pin::Pin<Box<dyn Future<Output = Result<(), Fault>> + Send>> =
                        Box::pin(grow(group.clone(), alive.clone(), depth - 1));
                    group.spawn(child).await;
                }
            }
            Ok(())
        }
    }
    let alive = Alive::default();
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        group.spawn(grow(group.clone(), alive.clone(), 5)).await;
        Ok(())
    });
    scope.await.unwrap();
    assert_eq!(alive.count(), 0);
}

#[tokio::test]
async fn promise_after_the_end_nothing_is_spawned() {
    let group = TaskGroup::new().scope(async |group: Group<Fault>| Ok(group)).await.unwrap();
    let alive = Alive::default();
    let guard = alive.guard();
    let late = group
        .spawn(async move {
            let _guard = guard;
            panic!("it is never polled")
        })
        .await;
    assert_eq!(alive.count(), 0, "the future is dropped at once");
    let late: Result<(), Cancelled> = late.await;
    assert_eq!(late, Err(Cancelled));
    assert!(!group.is_cancelled());
}

#[tokio::test]
async fn promise_a_value_that_nobody_wants_is_dropped_before_the_scope_ends() {
    let alive = Alive::default();
    let guard = alive.guard();
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        drop(group.spawn(async { Ok(guard) }).await);
        Ok(())
    });
    scope.await.unwrap();
    assert_eq!(alive.count(), 0);
}

#[tokio::test]
async fn promise_dropping_a_handle_cancels_nothing() {
    let (send, receive) = oneshot::channel();
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        drop(group.spawn(async { Ok(send.send(7)) }).await);
        Ok(receive.await)
    });
    assert_eq!(scope.await.unwrap(), Ok(7));
}

#[tokio::test]
async fn promise_awaiting_a_handle_is_cancel_safe() {
    let (send, receive) = oneshot::channel::<u32>();
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        let mut handle = group.spawn(async { receive.await.map_err(|_| Fault::Number(1)) }).await;
        tokio::select! {
            biased;
            _ = &mut handle => panic!("it cannot be there yet"),
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(handle.take(), None, "nothing is lost by asking early");
        send.send(7).unwrap();
        Ok(handle.await?)
    });
    assert_eq!(scope.await.unwrap(), 7);
}

#[tokio::test]
async fn promise_a_handle_wakes_whoever_polled_it_last() {
    let (send, receive) = oneshot::channel::<u32>();
    let (before, after) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        let handle = group.spawn(async { receive.await.map_err(|_| Fault::Number(1)) }).await;
        let mut handle = pin!(handle);
        assert!(poll_once(handle.as_mut(), &before).is_pending());
        assert!(poll_once(handle.as_mut(), &after).is_pending());
        send.send(7).unwrap();
        until(|| after.count() == 1).await;
        assert_eq!((before.count(), after.count()), (0, 1));
        Ok(handle.await?)
    });
    assert_eq!(scope.await.unwrap(), 7);
}

#[tokio::test]
async fn promise_a_scope_wakes_whoever_polled_it_last() {
    let (send, receive) = oneshot::channel::<()>();
    let (before, after) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
    let mut scope = pin!(TaskGroup::new().scope(async |group: Group<Fault>| {
        group.spawn(async { Ok(receive.await.is_ok()) }).await;
        Ok(())
    }));
    assert!(poll_once(scope.as_mut(), &before).is_pending());
    assert!(poll_once(scope.as_mut(), &after).is_pending());
    send.send(()).unwrap();
    until(|| after.count() == 1).await;
    assert_eq!(before.count(), 0);
    assert!(poll_once(scope, &after).is_ready());
}

#[tokio::test]
#[should_panic(expected = "was taken before")]
async fn promise_a_value_taken_twice_is_the_callers_mistake() {
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        let mut handle = group.spawn(async { Ok(1) }).await;
        while handle.take().is_none() {
            tokio::task::yield_now().await;
        }
        let _ = handle.await;
        Ok(())
    });
    let _: Result<(), Failures<Fault>> = scope.await;
}

#[tokio::test]
async fn promise_a_scope_without_children_ends_with_its_body() {
    let mut scope = pin!(TaskGroup::new().scope(async |_: Group<Fault>| Ok(7)));
    let std::task::Poll::Ready(result) = poll_once(scope.as_mut(), &Arc::default()) else {
        panic!("it is ready at once")
    };
    assert_eq!(result.unwrap(), 7);
}

#[tokio::test]
async fn promise_a_loop_that_spawns_lets_its_children_run() {
    let count = if cfg!(miri) { 300 } else { 10_000 };
    let looping = tokio::spawn(async move {
        let alive = Alive::default();
        let mut most = 0;
        let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
            for _ in 0..count {
                let guard = alive.guard();
                most = most.max(alive.count());
                let child = async move {
                    let _guard = guard;
                    Ok(())
                };
                group.spawn(child).await;
            }
            Ok(())
        });
        scope.await.unwrap();
        most
    });
    let most = looping.await.unwrap();
    assert!(most < 260, "{most} were alive at a time");
}

#[tokio::test]
async fn promise_a_loop_that_spawns_a_few_into_each_of_many_groups_lets_its_children_run() {
    const GROUPS: usize = 300;
    let looping = tokio::spawn(async move {
        let (alive, mut most, mut open) = (Alive::default(), 0, Vec::new());
        for _ in 0..GROUPS {
            let (inside, spawned) = (alive.clone(), Arc::new(AtomicUsize::new(0)));
            let count = Arc::clone(&spawned);
            let mut scope = Box::pin(TaskGroup::new().scope(async move |group: Group<Fault>| {
                for _ in 0..7 {
                    let guard = inside.guard();
                    let child = async move {
                        let _guard = guard;
                        Ok(())
                    };
                    group.spawn(child).await;
                    count.fetch_add(1, Ordering::Relaxed);
                }
                pending::<Result<(), _>>().await
            }));
            poll_fn(|cx| {
                assert!(scope.as_mut().poll(cx).is_pending());
                if spawned.load(Ordering::Relaxed) == 7 { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            most = most.max(alive.count());
            open.push(scope);
        }
        most
    });
    let most = looping.await.unwrap();
    assert!(most < 270, "{most} were alive at a time");
}

#[tokio::test]
async fn promise_debug_forms_tell_the_state() {
    let scope = TaskGroup::new().name("page").scope(async |group: Group<Fault>| {
        let handle = group.spawn(pending::<Result<(), _>>()).await;
        assert_eq!(format!("{handle:?}"), "Handle { .. }");
        assert_eq!(format!("{group:?}"), r#"Group { name: Some("page"), is_cancelled: false, .. }"#);
        handle.cancel();
        Ok(())
    });
    scope.await.unwrap();
}

#[tokio::test]
async fn promise_a_value_that_nobody_wants_is_dropped_as_part_of_its_task() {
    struct Asks(Arc<AtomicBool>);
    impl Drop for Asks {
        fn drop(&mut self) {
            self.0.store(is_cancelled(), Ordering::SeqCst);
        }
    }
    let seen = Arc::new(AtomicBool::new(false));
    let asks = Asks(Arc::clone(&seen));
    let scope = TaskGroup::new().grace(Duration::from_secs(1)).scope(async |group: Group<Fault>| {
        let child = async move {
            cancelled().await;
            Ok(asks)
        };
        drop(group.spawn(child).await);
        turn().await?;
        group.cancel();
        Ok(())
    });
    assert!(is_only_cancelled(scope.await));
    assert!(seen.load(Ordering::SeqCst));
}
