//! Every result, in order.

use std::cell::Cell;
use std::future::pending;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use baiwan_task::{Failure, FailureKind, Group, TaskGroup, cancelled};
use tokio::task::{LocalSet, yield_now};
use tokio::time::{Instant, sleep};

use crate::rig::{Alive, Fault, PanicOnDrop, turn};

fn told<T: std::fmt::Debug>(results: &[Result<T, Failure<Fault>>]) -> Vec<String> {
    let tell = |result: &Result<T, Failure<Fault>>| match result {
        Ok(value) => format!("{value:?}"),
        Err(failure) => failure.to_string(),
    };
    results.iter().map(tell).collect()
}

#[tokio::test(start_paused = true)]
async fn promise_results_come_in_the_order_of_the_futures_and_nobody_is_cancelled() {
    let futures = (0..6).map(|number: u32| async move {
        sleep(Duration::from_millis(u64::from(10 - number))).await;
        match number {
            1 => Err(Fault::Number(1)),
            3 => panic!("three"),
            _ => Ok(number),
        }
    });
    let results = TaskGroup::new().collect(futures).await;
    assert_eq!(told(&results), ["0", "fault 1", "2", "panicked: three", "4", "5"]);
}

#[tokio::test(start_paused = true)]
async fn promise_with_a_limit_futures_are_taken_one_by_one() {
    let (alive, taken) = (Alive::default(), Cell::new(0_u32));
    let futures = (0..9).map(|_| {
        taken.set(taken.get() + 1);
        let (alive, taken) = (alive.clone(), taken.get());
        async move {
            let _guard = alive.guard();
            sleep(Duration::from_secs(1)).await;
            assert!(alive.count() <= 2);
            Ok::<_, Fault>((taken, Instant::now()))
        }
    });
    let started = Instant::now();
    let results = TaskGroup::new().limit(2).collect(futures).await;
    let taken: Vec<_> = results.iter().map(|result| result.as_ref().unwrap().0).collect();
    assert_eq!(taken, (1..=9).collect::<Vec<_>>());
    assert_eq!(started.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn promise_a_limit_pulls_the_iterator_lazily() {
    let (alive, most) = (Alive::default(), Rc::new(Cell::new(0)));
    let futures = (0..50).map(|_| {
        let guard = alive.guard();
        most.set(most.get().max(alive.count()));
        async move {
            let _guard = guard;
            yield_now().await;
            Ok::<_, Fault>(())
        }
    });
    assert_eq!(TaskGroup::new().limit(4).collect(futures).await.len(), 50);
    assert_eq!(most.get(), 5, "one more than the limit: the one that waits for its place");
}

#[tokio::test(start_paused = true)]
async fn promise_at_the_deadline_what_is_done_is_kept_and_the_rest_is_late() {
    let alive = Alive::default();
    let futures = (1..=5).map(|number: u64| {
        let guard = alive.guard();
        async move {
            let _guard = guard;
            sleep(Duration::from_secs(number)).await;
            Ok::<_, Fault>(number)
        }
    });
    let group = TaskGroup::new().deadline(Duration::from_millis(2_500)).limit(4);
    let results = group.collect(futures).await;
    let late = "not done within 2.5s";
    assert_eq!(told(&results), ["1", "2", late, late, late]);
    assert_eq!(alive.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn promise_in_a_cancelled_group_the_rest_is_cancelled() {
    let mut results = Vec::new();
    let scope = TaskGroup::new().grace(Duration::from_secs(9)).scope(async |outer: Group<Fault>| {
        let inside = outer.clone();
        outer
            .spawn(async move {
                sleep(Duration::from_secs(1)).await;
                inside.cancel();
                Ok(())
            })
            .await;
        let listens = |number: u32| async move {
            match number {
                0 => Ok(0),
                1 => {
                    cancelled().await;
                    Ok(1)
                }
                _ => pending().await,
            }
        };
        let group = TaskGroup::new().grace(Duration::from_secs(1)).limit(3);
        results = group.collect((0..5).map(listens)).await;
        Ok(())
    });
    scope.await.unwrap_err();
    assert_eq!(told(&results), ["0", "1", "cancelled", "cancelled", "cancelled"]);
    assert!(matches!(results[2].as_ref().unwrap_err().kind(), FailureKind::Cancelled));
}

#[tokio::test]
async fn promise_a_panic_in_the_drop_of_one_is_its_own_failure() {
    struct Bomb(#[expect(dead_code, reason = "it is there to be dropped")] PanicOnDrop, Result<u32, u32>);
    impl Future for Bomb {
        type Output = Result<u32, Fault>;
        fn poll(self: Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
            std::task::Poll::Ready(self.1.map_err(Fault::Number))
        }
    }
    type Boxed = Pin<Box<dyn Future<Output = Result<u32, Fault>> + Send>>;
    let futures: [Boxed; 4] = [
        Box::pin(Bomb(PanicOnDrop(None), Ok(1))),
        Box::pin(Bomb(PanicOnDrop(None), Err(1))),
        Box::pin(async { turn().await.map(|()| 2) }),
        Box::pin(async { panic!("plain") }),
    ];
    let results = TaskGroup::new().collect(futures).await;
    assert_eq!(told(&results), ["panicked: in drop", "fault 1", "2", "panicked: plain"]);
}

#[tokio::test]
async fn promise_a_panic_of_the_iterator_goes_on_when_all_have_ended() {
    let alive = Alive::default();
    let inside = alive.clone();
    let collected = tokio::spawn(async move {
        let futures = (0..3).map(|number| {
            assert!(number < 2, "no third");
            let guard = inside.guard();
            async move {
                let _guard = guard;
                pending::<Result<(), Fault>>().await
            }
        });
        TaskGroup::new().collect(futures).await.len()
    });
    assert!(collected.await.unwrap_err().is_panic());
    assert_eq!(alive.count(), 0);
}

#[tokio::test]
async fn promise_nothing_collects_to_nothing() {
    let none: [std::future::Ready<Result<(), Fault>>; 0] = [];
    assert!(TaskGroup::new().limit(1).collect(none).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn promise_what_was_taken_has_its_result_though_it_waited_for_its_place_at_the_deadline() {
    for futures in 0..4 {
        let all = (0..futures).map(|_| pending::<Result<(), Fault>>());
        let results = TaskGroup::new().limit(1).deadline(Duration::from_secs(1)).collect(all).await;
        // One runs and one waits for its place; the third is never taken.
        assert_eq!(told(&results), vec!["not done within 1s"; futures.min(2)]);
    }
}

#[tokio::test(start_paused = true)]
async fn promise_of_an_endless_iterator_no_more_is_taken_than_there_are_places_and_one_to_wait() {
    for grace in [0, 9] {
        let mut taken = 0;
        let endless = std::iter::from_fn(|| {
            taken += 1;
            Some(async {
                cancelled().await;
                Ok::<_, Fault>(())
            })
        });
        let group = TaskGroup::new().limit(2).deadline(Duration::from_secs(1)).grace(Duration::from_secs(grace));
        let results = group.collect(endless).await;
        assert_eq!((taken, results.len()), (3, 3), "{grace}");
    }
}

/// Time is real here: a clock that is held stands still while a task is ready, as one is that never waits.
#[tokio::test]
async fn promise_a_deadline_ends_an_endless_iterator_without_a_limit() {
    let group = TaskGroup::new().deadline(Duration::from_millis(20));
    let results = group.collect((0_u64..).map(|number| async move { Ok::<_, Fault>(number) })).await;
    let (last, others) = results.split_last().unwrap();
    assert!(matches!(last.as_ref().unwrap_err().kind(), FailureKind::DeadlineExceeded { .. }));
    assert!(others.iter().zip(0..).all(|(result, number)| result.as_ref().ok().is_none_or(|value| *value == number)));
}

#[tokio::test]
async fn promise_others_run_between_the_futures_of_a_slow_iterator() {
    const TURNS: usize = 3;
    const TAKEN_MAX: usize = 200;
    let turns = Rc::new(Cell::new(0));
    let (counter, mut taken) = (Rc::clone(&turns), 0);
    let slow = std::iter::from_fn(|| {
        block(Duration::from_millis(2));
        taken += 1;
        assert!(taken < TAKEN_MAX, "nobody else has run");
        (turns.get() < TURNS).then(|| std::future::ready(Ok::<_, Fault>(())))
    });
    let local = LocalSet::new();
    local.spawn_local(async move {
        loop {
            counter.set(counter.get() + 1);
            yield_now().await;
        }
    });
    let results = local.run_until(TaskGroup::new().collect(slow)).await;
    assert!(results.iter().all(Result::is_ok));
}

/// Ready values, with a pause of a second before the one at `pause`, in which the group of this test ends.
async fn cut_at(pause: usize, futures: usize) -> Vec<String> {
    let all = (0..futures).map(|number| async move {
        sleep(Duration::from_secs(if number < pause { 0 } else { 9 })).await;
        Ok::<_, Fault>(number)
    });
    told(&TaskGroup::new().limit(1).deadline(Duration::from_secs(1)).collect(all).await)
}

#[tokio::test(start_paused = true)]
async fn promise_results_that_are_not_all_end_with_one_that_says_so() {
    let late = "not done within 1s";
    assert_eq!(cut_at(2, 2).await, ["0", "1"]);
    assert_eq!(cut_at(1, 2).await, ["0", late]);
    assert_eq!(cut_at(1, 9).await, ["0", late, late], "one ran, and one waited for its place");
}

/// The first future cancels the group outside while the iterator is let rest: all that was taken is done, and whether there is more
/// only the iterator knows.
#[tokio::test]
async fn promise_what_is_cut_short_is_told_though_all_that_was_taken_is_done() {
    for (futures, expected) in [(1, &["0"] as &[_]), (2, &["0", "cancelled"]), (9, &["0", "cancelled"])] {
        let (mut results, mut taken) = (Vec::new(), 0);
        let scope = TaskGroup::new().grace(Duration::from_secs(9)).scope(async |outer: Group<Fault>| {
            let all = (0..futures).map(|number| {
                block(Duration::from_millis(30));
                taken += 1;
                let outer = outer.clone();
                async move {
                    outer.cancel();
                    Ok::<_, Fault>(number)
                }
            });
            results = TaskGroup::new().collect(all).await;
            Ok(())
        });
        scope.await.unwrap_err();
        assert_eq!((told(&results), taken), (expected.iter().map(ToString::to_string).collect(), expected.len()));
    }
}

/// Longer than a tick of any clock, if it is 30 ms.
#[expect(clippy::disallowed_methods, reason = "iterators that block their thread are what this is about")]
fn block(time: Duration) {
    std::thread::sleep(time);
}

#[tokio::test(start_paused = true)]
async fn promise_what_is_late_has_the_name_of_the_group() {
    let group = TaskGroup::new().name("parts").deadline(Duration::from_secs(1));
    let results = group.collect([pending::<Result<(), Fault>>()]).await;
    assert_eq!(told(&results), ["parts: not done within 1s"]);
}

#[tokio::test(start_paused = true)]
async fn promise_a_late_future_whose_drop_panics_is_late_and_nothing_else() {
    let bombs = (0..3).map(|_| PanicOnDrop(None)).map(|bomb| async move {
        let _bomb = bomb;
        pending::<Result<(), Fault>>().await
    });
    let results = TaskGroup::new().limit(1).deadline(Duration::from_secs(1)).collect(bombs).await;
    // One ran, one waited for its place, and the third was never taken.
    assert_eq!(told(&results), ["not done within 1s"; 2]);
}

#[tokio::test]
async fn promise_an_iterator_may_promise_more_than_fits_into_memory() {
    struct Boastful(u32);
    impl Iterator for Boastful {
        type Item = std::future::Ready<Result<u32, Fault>>;
        fn next(&mut self) -> Option<Self::Item> {
            self.0 += 1;
            (self.0 < 3).then(|| std::future::ready(Ok(self.0)))
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            (usize::MAX, None)
        }
    }
    assert_eq!(told(&TaskGroup::new().collect(Boastful(0)).await), ["1", "2"]);
}
