//! Where tasks run: this thread, other runtimes, servers that demand `Send`.

use std::cell::Cell;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use baiwan_task::{Cancelled, Failures, Group, Handle, TaskGroup};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::{LocalSet, yield_now};

use crate::rig::{Alive, Fault, turn, until};

#[tokio::test]
async fn promise_children_that_are_not_send_run_in_a_local_set() {
    let shared = Rc::new(Cell::new(0));
    let scope = TaskGroup::new().limit(1).scope(async |group: Group<Rc<str>>| {
        for _ in 0..3 {
            let shared = Rc::clone(&shared);
            let child = async move {
                yield_now().await;
                shared.set(shared.get() + 1);
                Ok(Rc::clone(&shared))
            };
            group.spawn_local(child).await;
        }
        group.spawn_local(async { Err::<(), _>(Rc::from("not send")) }).await;
        Ok(())
    });
    let failures = LocalSet::new().run_until(scope).await.unwrap_err();
    assert_eq!(failures.to_string(), "not send");
    assert_eq!((shared.get(), Rc::strong_count(&shared)), (3, 1));
}

#[test]
fn promise_children_that_are_not_send_run_in_a_local_runtime() {
    let runtime = Builder::new_current_thread().enable_time().build_local(LocalOptions::default()).unwrap();
    let shared = Rc::new(Cell::new(0));
    let inside = Rc::clone(&shared);
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        let inside = Rc::clone(&inside);
        let local = group.spawn_local(async move {
            yield_now().await;
            inside.set(7);
            Ok(inside.get())
        });
        let local = local.await;
        // Both kinds may be in one group.
        let send = group.spawn(async { Ok(1) }).await;
        Ok(local.await? + send.await?)
    });
    assert_eq!(runtime.block_on(scope).unwrap(), 8);
}

#[test]
fn promise_a_group_runs_in_a_current_thread_runtime_and_in_one_without_timers() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let scope = TaskGroup::new().limit(2).scope(async |group: Group<Fault>| {
        let handle = group.spawn(turn()).await;
        Ok(handle.await?)
    });
    runtime.block_on(scope).unwrap();
}

#[test]
fn promise_a_dropped_local_set_ends_its_children() {
    let alive = Alive::default();
    let guard = alive.guard();
    let runtime = Builder::new_current_thread().build().unwrap();
    let local = LocalSet::new();
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        let handle: Handle<()> = group
            .spawn_local(async move {
                let _guard = guard;
                pending().await
            })
            .await;
        Ok(handle)
    });
    let mut scope = Box::pin(scope);
    runtime.block_on(local.run_until(async {
        assert!(crate::rig::poll_once(scope.as_mut(), &std::sync::Arc::default()).is_pending());
    }));
    drop(local);
    assert_eq!(alive.count(), 0);
    assert_eq!(runtime.block_on(scope).unwrap().take(), None);
}

#[test]
fn promise_scopes_handles_and_groups_can_be_sent() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    fn is_shareable<T: Send + Sync>() {}
    /// What servers ask of a handler: a future of its own that any thread may poll.
    fn serve<F>(handler: impl Fn() -> F + Clone + Send + Sync + 'static) -> F
    where
        F: Future<Output = Result<usize, Failures<Fault>>> + Send + 'static,
    {
        handler()
    }
    async fn handler() -> Result<usize, Failures<Fault>> {
        let text = String::from("borrowed");
        let nested = TaskGroup::new().limit(2).deadline(Duration::from_secs(1)).scope(async |group: Group<Fault>| {
            let handle = group.name("one").spawn(async { Ok(1) }).await;
            let inner = TaskGroup::new().scope(async |inner: Group<Fault>| {
                inner.spawn(async { Ok(()) }).await;
                group.spawn(async { Ok(()) }).await;
                Ok(text.len())
            });
            let length = inner.await.map_err(|_| Fault::Number(1))?;
            let all = TaskGroup::new().collect([async { Ok::<_, Fault>(1) }]).await;
            Ok(handle.await? + length + all.len())
        });
        nested.await
    }
    is_shareable::<Group<Fault>>();
    is_shareable::<Handle<Cell<u8>>>();
    is_shareable::<TaskGroup>();
    drop(is_send(baiwan_task::cancelled()));
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    assert_eq!(runtime.block_on(serve(handler)).unwrap(), 10);
}

#[test]
fn promise_children_may_be_in_several_runtimes() {
    let other = Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let here = Builder::new_current_thread().enable_time().build().unwrap();
    let alive = Alive::default();
    let handle_other = other.handle().clone();
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        let (elsewhere, inside) = (group.clone(), alive.clone());
        let spawned = handle_other.spawn(async move {
            let guard = inside.guard();
            let child = async move {
                let _guard = guard;
                for _ in 0..20 {
                    yield_now().await;
                }
                Ok(std::thread::current().id())
            };
            Some(elsewhere.spawn(child).await)
        });
        let there = spawned.await.ok().flatten().ok_or(Fault::Number(1))?;
        let here = group.spawn(async { Ok(std::thread::current().id()) }).await;
        Ok((there.await?, here.await?))
    });
    let (there, by_us) = here.block_on(scope).unwrap();
    assert_eq!(by_us, std::thread::current().id());
    assert_ne!(there, by_us);
    assert_eq!(alive.count(), 0);
}

#[test]
fn promise_a_runtime_that_ends_takes_its_children_along_and_the_scope_ends() {
    let other = Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let here = Builder::new_current_thread().build().unwrap();
    let alive = Alive::default();
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        let (elsewhere, guard) = (group.clone(), alive.guard());
        let spawned = other.spawn(async move {
            let child = async move {
                let _guard = guard;
                pending::<Result<(), _>>().await
            };
            Some(elsewhere.spawn(child).await)
        });
        let handle = spawned.await.ok().flatten().ok_or(Fault::Number(1))?;
        other.shutdown_background();
        Ok(handle)
    });
    let handle = here.block_on(scope).unwrap();
    assert_eq!(alive.count(), 0);
    assert_eq!(here.block_on(handle), Err(Cancelled));
}

#[test]
fn promise_spawning_where_no_runtime_is_panics_and_hangs_nothing() {
    let (send, receive) = mpsc::sync_channel::<Group<Fault>>(1);
    let runtime = Builder::new_current_thread().build().unwrap();
    let alive = Alive::default();
    let inside = alive.clone();
    let thread = std::thread::spawn(move || {
        let group = receive.recv().unwrap();
        let guard = inside.guard();
        let spawn = group.spawn(async move {
            let _guard = guard;
            Ok(())
        });
        let mut spawn = Box::pin(spawn);
        let spawned =
            std::panic::AssertUnwindSafe(|| crate::rig::poll_once(spawn.as_mut(), &std::sync::Arc::default()));
        assert!(std::panic::catch_unwind(spawned).is_err());
    });
    let scope = TaskGroup::new().scope(async |group: Group<Fault>| {
        send.send(group).unwrap();
        until(|| thread.is_finished()).await;
        Ok(())
    });
    runtime.block_on(scope).unwrap();
    thread.join().unwrap();
    assert_eq!(alive.count(), 0);
}

#[test]
fn promise_a_grace_where_no_timers_are_panics_before_anything_has_begun() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let alive = Alive::default();
    let scope = TaskGroup::new().grace(Duration::from_secs(1)).scope(async |group: Group<Fault>| {
        let guard = alive.guard();
        let held = async move {
            let _guard = guard;
            pending::<Result<(), Fault>>().await
        };
        group.spawn(held).await;
        turn().await?;
        Err::<(), _>(Fault::Number(1))
    });
    assert!(catch_unwind(AssertUnwindSafe(|| runtime.block_on(scope))).is_err());
    assert_eq!(alive.count(), 0);
}
