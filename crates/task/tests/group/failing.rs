//! Failures and panics.

use std::convert::Infallible;
use std::error::Error;
use std::future::pending;
use std::num::ParseIntError;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use anyhow::Context as _;
use baiwan_task::{AsError, Cancelled, Failure, FailureKind, Failures, Group, Handle, TaskGroup, cancelled};
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::rig::{Alive, Fault, PanicOnDrop, Wakes, poll_once, told, until, until_no_task_is_left};

/// A child that would never end.
async fn forever<E: Send + 'static>(group: &Group<E>, alive: &Alive) -> Handle<()> {
    let guard = alive.guard();
    group
        .spawn(async move {
            let _guard = guard;
            pending().await
        })
        .await
}

/// A body's panic, caught where its scope is awaited.
async fn panic_of<T>(future: impl Future<Output = T> + Send + 'static) -> String
where
    T: Send + 'static,
{
    let ended = tokio::spawn(future).await;
    let payload = ended.err().expect("it panics").into_panic();
    payload.downcast_ref::<&str>().map_or_else(String::new, ToString::to_string)
}

#[tokio::test]
async fn promise_the_first_error_cancels_the_siblings_and_the_body() {
    let alive = Alive::default();
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        let _guard = alive.guard();
        forever(&group, &alive).await;
        group.name("wrong").spawn(async { Err::<(), _>(Fault::Number(1)) }).await;
        forever(&group, &alive).await;
        pending::<Result<(), _>>().await
    });
    assert_eq!(told(scope.await), ["wrong: fault 1"]);
    assert_eq!(alive.count(), 0);
}

#[tokio::test]
async fn promise_the_bodys_error_cancels_the_children() {
    let alive = Alive::default();
    let scope = TaskGroup::new().name("page").scope(async |group: Group<Fault>| {
        forever(&group, &alive).await;
        Err::<(), _>(Fault::Number(7))
    });
    assert_eq!(told(scope.await), ["page: fault 7"]);
    assert_eq!(alive.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn promise_all_failures_are_returned_the_first_one_first() {
    let scope = TaskGroup::new().grace(Duration::from_secs(1)).scope(async |group: Group<Fault>| {
        for number in [3, 1, 2] {
            let child = async move {
                sleep(Duration::from_millis(u64::from(number))).await;
                Err::<(), _>(Fault::Number(number))
            };
            group.name(format!("child {number}")).spawn(child).await;
        }
        cancelled().await;
        Ok(())
    });
    let failures = scope.await.unwrap_err();
    assert_eq!(failures.to_string(), "child 1: fault 1 (and 2 more)");
    assert_eq!(failures.first().name(), Some("child 1"));
    assert!(failures.source().is_none(), "the fault is displayed already, and has none behind it");
    let all: Vec<_> = (&failures).into_iter().map(ToString::to_string).collect();
    assert_eq!(all, ["child 1: fault 1", "child 2: fault 2", "child 3: fault 3"]);
    assert_eq!(failures.into_iter().count(), 3);
}

#[tokio::test]
async fn promise_without_grace_what_awaits_a_failed_sibling_adds_no_failure() {
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        let wrong = group.spawn(async { Err::<(), _>(Fault::Number(1)) }).await;
        Ok(wrong.await?)
    });
    assert_eq!(told(scope.await), ["fault 1"]);
}

#[tokio::test]
async fn promise_a_child_that_fails_leaves_its_handle_without_a_value() {
    let mut kept = None;
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        kept = Some(group.spawn(async { Err::<(), _>(Fault::Number(1)) }).await);
        Ok(())
    });
    assert_eq!(told(scope.await), ["fault 1"]);
    assert_eq!(kept.as_mut().unwrap().take(), None);
    assert_eq!(kept.unwrap().await, Err(Cancelled));
}

#[tokio::test]
async fn promise_a_childs_panic_is_a_failure_that_can_be_resumed() {
    let (alive, number) = (Alive::default(), 7);
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        forever(&group, &alive).await;
        group.name("odd").spawn::<_, ()>(async move { panic!("number {number}") }).await;
        Ok(())
    });
    let failure = scope.await.unwrap_err().into_first();
    assert_eq!(alive.count(), 0);
    assert_eq!(failure.to_string(), "odd: panicked: number 7");
    let FailureKind::Panicked(panic) = failure.into_kind() else { panic!("it was one") };
    assert_eq!(panic.message(), "number 7");
    let again = std::panic::catch_unwind(AssertUnwindSafe(|| panic.resume())).unwrap_err();
    assert_eq!(again.downcast_ref::<String>().unwrap(), "number 7");
}

#[tokio::test]
async fn promise_the_bodys_panic_goes_on_when_every_child_has_ended() {
    let alive = Alive::default();
    let inside = alive.clone();
    let scope = async move {
        TaskGroup::new()
            .scope(async |group: Group<Fault>| -> Result<(), Fault> {
                forever(&group, &inside).await;
                tokio::task::yield_now().await;
                panic!("in the body")
            })
            .await
    };
    assert_eq!(panic_of(scope).await, "in the body");
    assert_eq!(alive.count(), 0);
}

#[tokio::test]
async fn promise_a_panic_before_the_bodys_first_line_is_the_bodys() {
    let scope = TaskGroup::new().scope(|group: Group<Fault>| {
        assert!(group.is_cancelled(), "early");
        async { Ok(()) }
    });
    assert_eq!(panic_of(scope).await, "early");
}

/// Ready at once, and panics when it is dropped.
struct Ending(#[expect(dead_code, reason = "it is there to be dropped")] PanicOnDrop);

impl Future for Ending {
    type Output = Result<u32, Fault>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(7))
    }
}

#[tokio::test]
async fn promise_a_panic_in_the_drop_of_a_future_that_has_ended_is_a_failure() {
    let alive = Alive::default();
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        forever(&group, &alive).await;
        group.name("ends").spawn(Ending(PanicOnDrop(Some(alive.guard())))).await;
        Ok(())
    });
    assert_eq!(told(scope.await), ["ends: panicked: in drop"]);
    assert_eq!(alive.count(), 0);
}

#[tokio::test]
async fn promise_a_panic_in_the_drop_of_a_cancelled_future_is_one_failure_more() {
    let alive = Alive::default();
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        for _ in 0..2 {
            let bomb = PanicOnDrop(Some(alive.guard()));
            let child = async move {
                let _bomb = bomb;
                pending::<Result<(), _>>().await
            };
            group.spawn(child).await;
        }
        tokio::task::yield_now().await;
        Err::<(), _>(Fault::Number(1))
    });
    assert_eq!(told(scope.await), ["fault 1", "panicked: in drop", "panicked: in drop"]);
    assert_eq!(alive.count(), 0);
}

#[tokio::test]
async fn promise_a_panic_in_the_drop_of_the_body_is_the_bodys() {
    let alive = Alive::default();
    let inside = alive.clone();
    let scope = async move {
        let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
            forever(&group, &inside).await;
            let _bomb = PanicOnDrop(Some(inside.guard()));
            group.cancel();
            pending::<Result<(), _>>().await
        });
        scope.await
    };
    assert_eq!(panic_of(scope).await, "in drop");
    assert_eq!(alive.count(), 0);
}

#[tokio::test]
async fn promise_a_panic_in_the_drop_of_an_abandoned_body_still_frees_the_children() {
    let alive = Alive::default();
    let inside = alive.clone();
    let abandoned = async move {
        let mut scope = Box::pin(TaskGroup::new().scope(async |group: Group<Fault>| {
            forever(&group, &inside).await;
            let _bomb = PanicOnDrop(Some(inside.guard()));
            pending::<Result<(), _>>().await
        }));
        assert!(poll_once(scope.as_mut(), &Arc::default()).is_pending());
        drop(scope);
    };
    assert_eq!(panic_of(abandoned).await, "in drop");
    until_no_task_is_left().await;
    assert_eq!(alive.count(), 0);
}

#[tokio::test]
async fn promise_a_panic_in_the_drop_of_an_unwanted_value_is_a_failure() {
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        drop(group.spawn(async { Ok(PanicOnDrop(None)) }).await);
        Ok(())
    });
    assert_eq!(told(scope.await), ["panicked: in drop"]);
}

/// An error that panics when it is dropped.
#[derive(Debug)]
struct Bomb(#[expect(dead_code, reason = "it is there to be dropped")] PanicOnDrop);

#[tokio::test]
async fn promise_an_error_whose_drop_panics_reaches_its_owner_and_nobody_else() {
    let alive = Alive::default();
    let inside = alive.clone();
    let scope = async move {
        let result = TaskGroup::new()
            .scope(async |group: Group<Bomb>| {
                forever(&group, &inside).await;
                group.spawn(async { Err::<(), _>(Bomb(PanicOnDrop(None))) }).await;
                Ok(())
            })
            .await;
        assert_eq!(inside.count(), 0);
        drop(result);
    };
    assert_eq!(panic_of(scope).await, "in drop");
}

#[tokio::test]
async fn promise_an_error_whose_drop_panics_hangs_nothing_when_nobody_awaits_the_scope() {
    let alive = Alive::default();
    let inside = alive.clone();
    let abandoned = async move {
        let mut scope = Box::pin(TaskGroup::new().grace(Duration::from_secs(9)).scope(async |group: Group<Bomb>| {
            forever(&group, &inside).await;
            group.spawn(async { Err::<(), _>(Bomb(PanicOnDrop(None))) }).await;
            Ok(())
        }));
        let wakes = Arc::new(Wakes::default());
        assert!(poll_once(scope.as_mut(), &wakes).is_pending());
        until(|| wakes.count() == 1).await;
        drop(scope);
    };
    // Whose task is the last to know the failures is not said; the panic ends there.
    let _ = tokio::spawn(abandoned).await;
    until_no_task_is_left().await;
    assert_eq!(alive.count(), 0);
}

#[tokio::test]
async fn promise_a_waker_that_panics_keeps_nobody_else_from_being_woken() {
    struct Bad;
    impl Wake for Bad {
        fn wake(self: Arc<Self>) {
            panic!("in wake");
        }
    }
    let alive = Alive::default();
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        let handle = forever(&group, &alive).await;
        let mut handle = Box::pin(handle);
        let mut seen = Box::pin(group.cancelled());
        let bad = Arc::new(Bad).into();
        assert!(handle.as_mut().poll(&mut Context::from_waker(&bad)).is_pending());
        assert!(seen.as_mut().poll(&mut Context::from_waker(&bad)).is_pending());
        forever(&group, &alive).await;
        tokio::task::yield_now().await;
        Err::<(), _>(Fault::Number(1))
    });
    assert_eq!(told(scope.await), ["fault 1"]);
    assert_eq!(alive.count(), 0);
}

#[test]
fn promise_failures_can_be_any_kind_of_error() {
    fn is_shareable<T: Error + Send + Sync + 'static>() {}
    is_shareable::<Failures<Fault>>();
    is_shareable::<Failure<Fault>>();
    is_shareable::<Cancelled>();
    fn is_unwind_safe<T: UnwindSafe + RefUnwindSafe>() {}
    is_unwind_safe::<Handle<u32>>();
}

/// What `?` makes of the failures of a group whose errors are anyhow's.
async fn any_kind() -> anyhow::Result<u32> {
    let scope = TaskGroup::new().scope(async |group: Group<anyhow::Error>| {
        let bomb = PanicOnDrop(None);
        group
            .spawn(async {
                let _bomb = bomb;
                pending::<anyhow::Result<()>>().await
            })
            .await;
        let number = async { "seven".parse::<u32>().context("reading the number") };
        Ok(group.name("number").spawn(number).await.await?)
    });
    Ok(scope.await.map_err(|failures| failures.map(AsError))?)
}

#[tokio::test]
async fn promise_failures_whose_errors_hold_one_become_an_error() {
    let error = any_kind().await.unwrap_err();
    assert_eq!(format!("{error:#}"), "number: reading the number (and 1 more): invalid digit found in string");
    let failures = error.downcast::<Failures<AsError<anyhow::Error>>>().unwrap();
    let others: Vec<_> =
        failures.iter().map(|failure| (failure.name(), matches!(failure.kind(), FailureKind::Panicked(_)))).collect();
    assert_eq!(others, [(Some("number"), false), (None, true)]);
    let FailureKind::Error(error) = failures.into_first().into_kind() else { panic!("it was an error") };
    assert!(error.0.is::<ParseIntError>(), "the error is what it was");
}

#[tokio::test]
async fn promise_who_awaits_a_cancelled_task_of_a_cancelled_group_is_dropped_there() {
    async fn is_told(group: Group<Fault>, panics: bool) -> Result<(), Fault> {
        group.cancel();
        match group.spawn(async { Ok(()) }).await.await {
            Err(Cancelled) if panics => panic!("of no more interest"),
            told => told.map_err(|Cancelled| Fault::Number(9)),
        }
    }
    for panics in [false, true] {
        let scope = TaskGroup::new().scope(async |group: Group<Fault>| is_told(group, panics).await);
        assert_eq!(told(scope.await), ["cancelled"]);
        let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
            group.spawn(is_told(group.clone(), panics)).await;
            pending::<Result<(), _>>().await
        });
        assert_eq!(told(scope.await), ["cancelled"]);
    }
}

#[tokio::test]
async fn promise_what_fails_after_a_cancellation_is_not_lost() {
    let body = TaskGroup::new().scope(async |group: Group<Fault>| {
        group.cancel();
        Err::<(), _>(Fault::Number(9))
    });
    assert_eq!(told(body.await), ["cancelled", "fault 9"]);
    let outside = TaskGroup::new().scope(async |outer: Group<Fault>| {
        let inner = TaskGroup::new().scope(async |inner: Group<Fault>| {
            inner.cancel();
            inner.spawn(async { Ok(()) }).await.await.map_err(|Cancelled| Fault::Number(1))
        });
        assert_eq!(told(inner.await), ["cancelled"]);
        outer.cancel();
        Err::<(), _>(Fault::Number(2))
    });
    assert_eq!(told(outside.await), ["cancelled", "fault 2"]);
    let panicking = TaskGroup::new().scope(async |group: Group<Fault>| {
        group.cancel();
        panic!("the disk is full") as Result<(), _>
    });
    assert!(tokio::spawn(panicking).await.unwrap_err().is_panic());
}

#[tokio::test]
async fn promise_what_another_executor_polls_in_a_cancelled_group_is_told() {
    let mut answer = None;
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        group.cancel();
        let mut handle = Box::pin(group.spawn(async { Ok(()) }).await);
        // As a `block_on` would, it polls until it is ready.
        let wakes = Arc::new(Wakes::default());
        while answer.is_none() {
            if let Poll::Ready(told) = poll_once(handle.as_mut(), &wakes) {
                answer = Some((told, wakes.count()));
            }
        }
        Ok(())
    });
    assert_eq!(told(scope.await), ["cancelled"]);
    assert_eq!(answer, Some((Err(Cancelled), 1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_without_grace_the_cause_is_alone_on_threads_too() {
    for _ in 0..if cfg!(miri) { 20 } else { 2_000 } {
        let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
            let wrong = group.spawn(async { Err::<(), _>(Fault::Number(1)) }).await;
            Ok(wrong.await?)
        });
        assert_eq!(told(scope.await), ["fault 1"]);
    }
}

#[tokio::test(start_paused = true)]
async fn promise_a_panic_of_the_body_hides_no_failure_before_it() {
    let scope = TaskGroup::new().name("page").grace(Duration::from_secs(1)).scope(async |group: Group<Fault>| {
        let failing = group.spawn(async { Err::<(), _>(Fault::Number(1)) }).await;
        failing.await.expect("a value");
        Ok(())
    });
    let failures = scope.await.unwrap_err();
    let kinds: Vec<_> =
        failures.iter().map(|failure| (failure.name(), matches!(failure.kind(), FailureKind::Panicked(_)))).collect();
    assert_eq!(kinds, [(None, false), (Some("page"), true)]);
}

#[tokio::test]
async fn promise_a_panic_of_the_body_goes_on_whatever_fails_after_it() {
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        let bomb = PanicOnDrop(None);
        group
            .spawn(async move {
                let _bomb = bomb;
                pending::<Result<(), _>>().await
            })
            .await;
        panic!("of the body") as Result<(), Fault>
    });
    let payload = tokio::spawn(scope).await.unwrap_err().into_panic();
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"of the body"));
}

#[tokio::test(start_paused = true)]
async fn promise_what_went_wrong_first_becomes_an_error_whatever_it_was() {
    let first = async |deadline, child: fn() -> anyhow::Result<()>| {
        let group = TaskGroup::new().name("page").deadline(deadline);
        let scope = group.scope(async |group: Group<anyhow::Error>| {
            group.name("child").spawn(async move { child() }).await;
            pending().await
        });
        let failures: Failures<_> = scope.await.map(|(): ()| ()).unwrap_err();
        failures.into_first().into_error()
    };
    let second = Duration::from_secs(1);
    assert!(first(second, || Ok("seven".parse::<u32>().map(drop)?)).await.is::<ParseIntError>());
    assert_eq!(first(second, || panic!("of the child")).await.to_string(), "child: panicked: of the child");
    let late = first(second, || Ok(())).await;
    assert_eq!(late.to_string(), "page: not done within 1s");
    assert!(late.is::<Failure<Infallible>>());
}

#[tokio::test]
async fn promise_a_group_that_was_only_cancelled_says_so() {
    let cancelled = TaskGroup::new().scope(async |group: Group<Fault>| {
        group.cancel();
        Ok(())
    });
    assert!(cancelled.await.unwrap_err().is_cancellation());
    let failed = TaskGroup::new().scope(async |_: Group<Fault>| Err::<(), _>(Fault::Number(1)));
    assert!(!failed.await.unwrap_err().is_cancellation());
}

#[tokio::test]
async fn promise_a_panic_in_the_drop_of_a_scope_goes_on_though_something_has_failed() {
    let bomb = PanicOnDrop(None);
    let mut scope = Box::pin(TaskGroup::new().grace(Duration::from_secs(1)).scope(async move |group: Group<Fault>| {
        let _bomb = bomb;
        group.spawn(async { Err::<(), _>(Fault::Number(1)) }).await;
        pending::<Result<(), _>>().await
    }));
    let wakes = Arc::new(Wakes::default());
    assert!(poll_once(scope.as_mut(), &wakes).is_pending());
    until_no_task_is_left().await;
    let dropped = std::panic::catch_unwind(AssertUnwindSafe(|| drop(scope)));
    assert_eq!(dropped.unwrap_err().downcast_ref::<&str>(), Some(&"in drop"));
}

#[tokio::test]
async fn promise_a_value_of_the_body_whose_drop_panics_hides_no_failure() {
    let scope = TaskGroup::new().name("page").scope(async |group: Group<Fault>| {
        let child = async {
            yield_now().await;
            Err::<(), _>(Fault::Number(1))
        };
        group.spawn(child).await;
        Ok(PanicOnDrop(None))
    });
    assert_eq!(told(scope.await), ["fault 1", "page: panicked: in drop"]);
}

#[tokio::test]
async fn promise_a_refused_future_whose_drop_panics_is_the_panic_of_who_spawned_it() {
    let scope = TaskGroup::new().grace(Duration::from_secs(1)).scope(async |group: Group<Fault>| {
        group.cancel();
        let bomb = PanicOnDrop(None);
        let refused = async move {
            drop(bomb);
            Ok(())
        };
        group.spawn(refused).await;
        Ok(())
    });
    assert_eq!(tokio::spawn(scope).await.unwrap_err().into_panic().downcast_ref::<&str>(), Some(&"in drop"));
}
