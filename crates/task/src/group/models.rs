//! Models of a group: all that matters of the order in which threads do things, tried by a scheduler that can be repeated.
//!
//! With `--cfg baiwan_shuttle`, a random scheduler with fixed seeds runs whole scopes; with `--cfg baiwan_loom`, all orders of
//! the shared state's few steps are tried. Children are run by threads of the model, not by Tokio, which knows no models.

use super::*;

/// Spawns into a group as `Group::spawn` does, but has `run` poll the child.
fn spawn_with<E, T, F>(group: &Group<E>, future: F, run: impl FnOnce(Child<F, T, E>)) -> Handle<T>
where
    F: Future<Output = Result<T, E>>,
{
    group.clone().start(future, Ok(None), |child| {
        run(child);
        None
    })
}

#[cfg(baiwan_shuttle)]
mod shuttled {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use shuttle::future;
    use shuttle::scheduler::RandomScheduler;
    use shuttle::sync::atomic::{AtomicUsize, Ordering};
    use shuttle::{Config, Runner};

    use super::*;

    const SEEDS: [u64; 3] = [0x5eed_0001, 0x5eed_0002, 0x5eed_0003];

    fn check(model: impl Fn() + Send + Sync + Clone + 'static) {
        let rounds = std::env::var("MODEL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(3_000);
        for seed in SEEDS {
            let scheduler = RandomScheduler::new_from_seed(seed, rounds);
            Runner::new(scheduler, Config::new()).run(model.clone());
        }
    }

    /// Counts those who are alive.
    #[derive(Clone)]
    struct Alive(Arc<AtomicUsize>);

    struct Guard(Alive);

    impl Alive {
        fn new() -> Self {
            Self(Arc::new(AtomicUsize::new(0)))
        }

        fn guard(&self) -> Guard {
            self.0.fetch_add(1, Ordering::SeqCst);
            Guard(self.clone())
        }

        fn count(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn spawn<T: Send + 'static>(
        group: &Group<u32>,
        child: impl Future<Output = Result<T, u32>> + Send + 'static,
    ) -> Handle<T> {
        spawn_with(group, child, |child| drop(future::spawn(child)))
    }

    /// Pending for this many polls. It asks for the next one itself.
    struct Turns(u32);

    impl Future for Turns {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            if self.0 == 0 {
                return Poll::Ready(());
            }
            self.0 -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }

    #[test]
    fn model_a_scope_ends_when_its_last_child_has() {
        check(|| {
            let alive = Alive::new();
            let value = future::block_on(TaskGroup::new().scope(async |group: Group<u32>| {
                let mut handles = Vec::new();
                for turns in 0..3 {
                    let guard = alive.guard();
                    let child = async move {
                        let _guard = guard;
                        Turns(turns).await;
                        Ok(turns)
                    };
                    handles.push(spawn(&group, child));
                }
                let first = handles.remove(0).await.map_err(|_| 9_u32)?;
                Ok((first, handles))
            }));
            assert_eq!(alive.count(), 0);
            let (first, mut handles) = value.unwrap();
            assert_eq!((first, handles[0].take(), handles[1].take()), (0, Some(1), Some(2)));
        });
    }

    #[test]
    fn model_a_failure_reaches_children_that_wait_that_start_and_that_end() {
        check(|| {
            let alive = Alive::new();
            let result = future::block_on(TaskGroup::new().scope(async |group: Group<u32>| {
                let guard = alive.guard();
                // Never ends by itself: only the group's waker can have it dropped.
                spawn(&group, async move {
                    let _guard = guard;
                    std::future::pending::<Result<(), u32>>().await
                });
                spawn(&group, async { Err::<(), _>(1) });
                spawn(&group, async {
                    Turns(1).await;
                    Err::<(), _>(2)
                });
                let (inside, guard) = (group.clone(), alive.guard());
                spawn(&group, async move {
                    let child = async move {
                        let _guard = guard;
                        std::future::pending::<Result<(), u32>>().await
                    };
                    drop(spawn(&inside, child));
                    Ok(())
                });
                std::future::pending::<Result<(), u32>>().await
            }));
            assert_eq!(alive.count(), 0);
            let failures = result.unwrap_err();
            let error = |failure: &Failure<u32>| {
                if let FailureKind::Error(error) = failure.kind() { Some(*error) } else { None }
            };
            let told: Vec<_> = failures.iter().filter_map(error).collect();
            assert!(matches!(told[..], [1] | [2] | [1, 2] | [2, 1]), "{told:?}");
        });
    }

    #[test]
    fn model_a_cancel_from_another_thread_races_with_spawn_and_end() {
        check(|| {
            let alive = Alive::new();
            let inside = alive.clone();
            let result = future::block_on(TaskGroup::new().scope(async move |group: Group<u32>| {
                let outside = group.clone();
                let thread = shuttle::thread::spawn(move || outside.cancel());
                for turns in 0..2 {
                    let guard = inside.guard();
                    drop(spawn(&group, async move {
                        let _guard = guard;
                        Turns(turns).await;
                        Ok(())
                    }));
                }
                drop(thread);
                Ok(7)
            }));
            assert_eq!(alive.count(), 0);
            match result {
                Ok(value) => assert_eq!(value, 7),
                Err(failures) => assert!(matches!(failures.first().kind(), FailureKind::Cancelled)),
            }
        });
    }

    #[test]
    fn model_a_spawn_from_outside_races_with_the_end() {
        check(|| {
            let alive = Alive::new();
            let (inside, outside) = (alive.clone(), alive.clone());
            let (group, thread) = future::block_on(TaskGroup::new().scope(async move |group: Group<u32>| {
                let (copy, guard) = (group.clone(), outside.guard());
                let thread = shuttle::thread::spawn(move || {
                    let child = async move {
                        let _guard = guard;
                        Turns(1).await;
                        Ok(1)
                    };
                    spawn(&copy, child)
                });
                let guard = inside.guard();
                drop(spawn(&group, async move {
                    let _guard = guard;
                    Ok(())
                }));
                Ok((group, thread))
            }))
            .unwrap();
            // Whether it came in time or not, it is known for sure now; a refused one was dropped, an admitted one has ended.
            let mut handle = thread.join().unwrap();
            assert!(matches!(handle.take(), None | Some(1)));
            assert_eq!(alive.count(), 0);
            assert_eq!(spawn(&group, async { Ok(()) }).take(), None);
        });
    }

    #[test]
    fn model_an_outer_scope_waits_for_an_inner_one_that_was_dropped() {
        check(|| {
            let alive = Alive::new();
            let inside = alive.clone();
            let result = future::block_on(TaskGroup::new().scope(async move |outer: Group<u32>| {
                let child = async move {
                    let mut inner = Box::pin(TaskGroup::new().scope(async |inner: Group<u32>| {
                        let guard = inside.guard();
                        spawn(&inner, async move {
                            let _guard = guard;
                            std::future::pending::<Result<(), u32>>().await
                        });
                        std::future::pending::<Result<(), u32>>().await
                    }));
                    let mut polls = 2;
                    std::future::poll_fn(|cx| {
                        polls -= 1;
                        if inner.as_mut().poll(cx).is_ready() || polls == 0 {
                            return Poll::Ready(());
                        }
                        cx.waker().wake_by_ref();
                        Poll::Pending
                    })
                    .await;
                    drop(inner);
                    Ok(())
                };
                spawn(&outer, child).await.map_err(|_| 9)
            }));
            result.unwrap();
            assert_eq!(alive.count(), 0);
        });
    }

    #[test]
    fn model_a_handle_that_is_dropped_races_with_its_child() {
        check(|| {
            let alive = Alive::new();
            let result = future::block_on(TaskGroup::new().scope(async |group: Group<u32>| {
                let guard = alive.guard();
                let handle = spawn(&group, async move { Ok(guard) });
                let thread = shuttle::thread::spawn(move || drop(handle));
                Ok(thread)
            }));
            // Either the child or the handle's owner drops the value.
            result.unwrap().join().unwrap();
            assert_eq!(alive.count(), 0);
        });
    }

    #[test]
    fn model_a_cancellation_is_seen_by_whoever_watches() {
        check(|| {
            // Asked, but without a grace that would need timers.
            let result = future::block_on(TaskGroup::new().scope(async |group: Group<u32>| {
                for _ in 0..2 {
                    spawn(&group, async {
                        cancelled().await;
                        Ok(())
                    });
                }
                let inside = group.clone();
                spawn(&group, async move {
                    inside.shared.roster.advance(Phase::Asked);
                    Ok(())
                });
                group.cancelled().await;
                Ok(())
            }));
            assert!(matches!(result.unwrap_err().first().kind(), FailureKind::Cancelled));
        });
    }
}

#[cfg(baiwan_loom)]
mod loomed {
    use std::future::pending;

    use loom::future::block_on;
    use loom::model::Builder;
    use loom::thread::{self, JoinHandle};

    use super::*;

    fn check(model: impl Fn() + Send + Sync + 'static) {
        let mut builder = Builder::new();
        builder.preemption_bound = Some(2);
        builder.check(model);
    }

    /// Runs the child in a thread of its own.
    fn spawn<T: Send + 'static>(
        group: &Group<u32>,
        child: impl Future<Output = Result<T, u32>> + Send + 'static,
    ) -> (Handle<T>, Option<JoinHandle<()>>) {
        let mut thread = None;
        let handle = spawn_with(group, child, |child| thread = Some(thread::spawn(move || block_on(child))));
        (handle, thread)
    }

    #[test]
    fn model_the_last_child_wakes_the_scope() {
        check(|| {
            let result = block_on(TaskGroup::new().scope(async |group: Group<u32>| Ok(spawn(&group, async { Ok(7) }))));
            let (mut handle, thread) = result.unwrap();
            assert_eq!(handle.take(), Some(7));
            thread.unwrap().join().unwrap();
        });
    }

    #[test]
    fn model_a_child_wakes_whoever_awaits_its_handle() {
        check(|| {
            let result = block_on(TaskGroup::new().scope(async |group: Group<u32>| {
                let (handle, thread) = spawn(&group, async { Ok(7) });
                Ok((handle.await.map_err(|_| 9_u32)?, thread))
            }));
            let (value, thread) = result.unwrap();
            assert_eq!(value, 7);
            thread.unwrap().join().unwrap();
        });
    }

    #[test]
    fn model_a_failure_reaches_a_child_that_begins_to_wait() {
        check(|| {
            let mut started = None;
            let result = block_on(TaskGroup::new().scope(async |group: Group<u32>| {
                started = spawn(&group, pending::<Result<(), u32>>()).1;
                Err::<(), _>(1)
            }));
            assert!(matches!(result.unwrap_err().first().kind(), FailureKind::Error(1)));
            started.unwrap().join().unwrap();
        });
    }

    #[test]
    fn model_a_failure_of_a_child_reaches_the_waiting_body() {
        check(|| {
            let mut started = None;
            let result = block_on(TaskGroup::new().scope(async |group: Group<u32>| {
                started = spawn(&group, async { Err::<(), _>(1) }).1;
                pending::<Result<(), u32>>().await
            }));
            assert!(matches!(result.unwrap_err().first().kind(), FailureKind::Error(1)));
            started.unwrap().join().unwrap();
        });
    }

    #[test]
    fn model_an_admission_from_outside_is_before_the_end_or_refused() {
        check(|| {
            let roster = Roster::open(None, None, None, None);
            let outside = Arc::clone(&roster);
            let thread = thread::spawn(move || {
                let is_admitted = outside.admit();
                if is_admitted {
                    outside.leave_as_child(None);
                }
            });
            roster.leave();
            block_on(std::future::poll_fn(|cx| {
                if roster.park(cx.waker()) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            }));
            assert!(!roster.admit(), "what has ended stays so");
            thread.join().unwrap();
            assert!(!roster.admit());
        });
    }

    #[test]
    fn model_a_cancellation_is_seen_by_who_begins_to_watch() {
        check(|| {
            let roster = Roster::open(None, None, None, None);
            let watching = Arc::clone(&roster);
            let thread = thread::spawn(move || block_on(Cancellation::new(watching)));
            roster.advance(Phase::Asked);
            thread.join().unwrap();
            roster.leave();
        });
    }
}
