//! Cancels at every await point: each scenario is stopped at its first, second, third … poll, until it ends before that.
//!
//! It is stopped in three ways: the outermost scope is dropped at its k-th poll; the group is cancelled at the k-th poll of
//! anybody in it; a child is aborted at the k-th poll of anybody. After each, no task and nothing that a task owned is left;
//! and if the scope was awaited, that holds at the moment it ends.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use baiwan_task::{Cancelled, Failures, Group, Handle, TaskGroup, cancelled};
use tokio::runtime::Builder;
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::rig::{Alive, Fault, until_no_task_is_left};

/// More polls than any scenario takes.
const POLLS_MAX: usize = 400;

/// What is done at the k-th poll of anybody.
#[derive(Clone, Default)]
struct Trigger(Arc<Mutex<Armed>>);

#[derive(Default)]
struct Armed {
    left: usize,
    action: Option<Box<dyn FnOnce() + Send>>,
}

impl Trigger {
    fn at(polls: usize) -> Self {
        Self(Arc::new(Mutex::new(Armed { left: polls, action: None })))
    }

    fn act(&self, action: impl FnOnce() + Send + 'static) {
        self.0.lock().unwrap().action = Some(Box::new(action));
    }

    fn poll(&self) {
        let mut armed = self.0.lock().unwrap();
        armed.left = armed.left.saturating_sub(1);
        let action = if armed.left == 0 { armed.action.take() } else { None };
        drop(armed);
        if let Some(action) = action {
            action();
        }
    }

    fn was_reached(&self) -> bool {
        self.0.lock().unwrap().left == 0
    }

    /// The future, whose every poll is counted.
    fn around<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        let (mut future, trigger) = (Box::pin(future), self.clone());
        poll_fn(move |cx| {
            trigger.poll();
            future.as_mut().poll(cx)
        })
    }
}

type Ended = Result<u32, Failures<Fault>>;
type Scenario = fn(Trigger, Alive) -> Pin<Box<dyn Future<Output = Ended>>>;

async fn work(alive: Alive, turns: u32) -> Result<u32, Fault> {
    let _guard = alive.guard();
    for _ in 0..turns {
        yield_now().await;
    }
    sleep(Duration::from_millis(1)).await;
    Ok(turns)
}

/// A limit, values that are awaited, a child that spawns, a named one.
fn fan_out(trigger: Trigger, alive: Alive) -> Pin<Box<dyn Future<Output = Ended>>> {
    Box::pin(TaskGroup::new().limit(2).scope(async move |group: Group<Fault>| {
        let _guard = alive.guard();
        let inside = group.clone();
        trigger.act(move || inside.cancel());
        let mut handles = Vec::new();
        for turns in 0..4 {
            handles.push(group.name("worker").spawn(trigger.around(work(alive.clone(), turns))).await);
        }
        let mut sum = 0;
        for handle in handles {
            sum += handle.await?;
        }
        Ok(sum)
    }))
}

/// Groups in a child and in the body; the latter is dropped half-way.
fn nested(trigger: Trigger, alive: Alive) -> Pin<Box<dyn Future<Output = Ended>>> {
    Box::pin(TaskGroup::new().grace(Duration::from_millis(2)).scope(async move |outer: Group<Fault>| {
        let inside = outer.clone();
        trigger.act(move || inside.cancel());
        let (child_trigger, child_alive) = (trigger.clone(), alive.clone());
        let child = outer.spawn(trigger.around(async move {
            let inner = TaskGroup::new().scope(async |inner: Group<Fault>| {
                inner.spawn(child_trigger.around(work(child_alive.clone(), 2))).await;
                inner.spawn(child_trigger.around(work(child_alive.clone(), 1))).await.await.map_err(Fault::from)
            });
            inner.await.map_err(|_| Fault::Number(1))
        }));
        let child = child.await;
        let dropped = TaskGroup::new().scope(async |inner: Group<Fault>| {
            inner.spawn(trigger.around(work(alive.clone(), 9))).await;
            cancelled().await;
            Ok(())
        });
        let _ = baiwan_task::timeout("the inner scope", Duration::from_micros(500), dropped).await;
        Ok(child.await?)
    }))
}

/// One of them is aborted alone; the others see it as a failure, with grace.
fn aborted(trigger: Trigger, alive: Alive) -> Pin<Box<dyn Future<Output = Ended>>> {
    Box::pin(TaskGroup::new().grace(Duration::from_millis(1)).scope(async move |group: Group<Fault>| {
        let single = group.spawn(trigger.around(work(alive.clone(), 3))).await;
        let aborting = Arc::new(Mutex::new(None::<Handle<u32>>));
        let shared = Arc::clone(&aborting);
        trigger.act(move || {
            if let Some(single) = &*shared.lock().unwrap() {
                single.cancel();
            }
        });
        *aborting.lock().unwrap() = Some(single);
        let sibling = group.spawn(trigger.around(work(alive.clone(), 5))).await;
        let turns = sibling.await?;
        let mut single = aborting.lock().unwrap().take().unwrap();
        Ok(turns + (&mut single).await.map_err(|Cancelled| Fault::Number(2))?)
    }))
}

/// Some fail, some panic; all results are kept.
fn collected(trigger: Trigger, alive: Alive) -> Pin<Box<dyn Future<Output = Ended>>> {
    Box::pin(TaskGroup::new().scope(async move |outer: Group<Fault>| {
        trigger.act(move || outer.cancel());
        let futures = (0..5).map(|turns| trigger.around(work(alive.clone(), turns)));
        let results = TaskGroup::new().limit(2).collect(futures).await;
        results.into_iter().try_fold(0, |sum, result| Ok(sum + result.map_err(|_| Fault::Number(3))?))
    }))
}

const SCENARIOS: [(Scenario, u32); 4] = [(fan_out, 6), (nested, 1), (aborted, 8), (collected, 10)];

#[test]
fn promise_undisturbed_the_scenarios_give_their_values() {
    for (scenario, value) in SCENARIOS {
        run(async move {
            let alive = Alive::default();
            assert_eq!(scenario(Trigger::at(POLLS_MAX), alive.clone()).await.unwrap(), value);
            assert_eq!(alive.count(), 0);
        });
    }
}

#[test]
fn promise_dropped_at_any_await_a_scope_leaves_nothing_behind() {
    for (scenario, value) in SCENARIOS {
        let ended = (1..POLLS_MAX).step_by(step()).any(|polls| {
            run(async move {
                let alive = Alive::default();
                let result = polled(scenario(Trigger::at(POLLS_MAX), alive.clone()), polls).await;
                until_no_task_is_left().await;
                assert_eq!(alive.count(), 0, "after {polls} polls");
                result.map(|result| assert_eq!(result.unwrap(), value)).is_some()
            })
        });
        assert!(ended, "it takes more polls than were tried");
    }
}

#[test]
fn promise_cancelled_at_any_await_a_scope_ends_with_nothing_left() {
    for (scenario, value) in SCENARIOS {
        let ended = (1..POLLS_MAX).step_by(step()).any(|polls| {
            run(async move {
                let (alive, trigger) = (Alive::default(), Trigger::at(polls));
                let result = scenario(trigger.clone(), alive.clone()).await;
                assert_eq!(alive.count(), 0, "at poll {polls}, when the scope has ended");
                until_no_task_is_left().await;
                let was_reached = trigger.was_reached();
                match result {
                    Ok(result) => assert_eq!(result, value),
                    Err(failures) => assert!(was_reached, "{failures}"),
                }
                !was_reached
            })
        });
        assert!(ended, "it takes more polls than were tried");
    }
}

#[test]
fn promise_a_scope_within_a_group_leaves_nothing_behind_when_that_ends_wherever_it_was_dropped() {
    for (scenario, _) in SCENARIOS {
        let ended = (1..POLLS_MAX).step_by(step()).any(|polls| {
            run(async move {
                let alive = Alive::default();
                let outermost = TaskGroup::new().scope(async |_: Group<Fault>| {
                    Ok(polled(scenario(Trigger::at(POLLS_MAX), alive.clone()), polls).await.is_some())
                });
                let ended = outermost.await.unwrap();
                assert_eq!(alive.count(), 0, "after {polls} polls, when the outermost scope has ended");
                ended
            })
        });
        assert!(ended, "it takes more polls than were tried");
    }
}

/// Polls so often, then drops.
async fn polled<F: Future + ?Sized>(mut future: Pin<Box<F>>, mut polls: usize) -> Option<F::Output> {
    let poll = |cx: &mut Context<'_>| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        polls -= 1;
        if polls == 0 { Poll::Ready(None) } else { Poll::Pending }
    };
    pin!(poll_fn(poll)).await
}

fn run<T>(future: impl Future<Output = T>) -> T {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
}

/// Miri is too slow for each of them.
fn step() -> usize {
    if cfg!(miri) { 12 } else { 1 }
}
