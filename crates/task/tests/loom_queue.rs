//! The queue under every order in which its threads can run, as far as two or three threads and a few operations go.
//!
//! ```text
//! RUSTFLAGS="--cfg baiwan_loom" LOOM_MAX_PREEMPTIONS=2 cargo test -p baiwan-task --release --test loom_queue
//! ```
//!
//! Less than half a minute; with 3 preemptions two minutes, without a bound much longer. Larger cases are in
//! `shuttle_queue.rs`. loom checks the order of memory, too, which is how the count of finished items is known to be right.

#![cfg(baiwan_loom)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::pin::pin;
use std::task::{Context, Waker};

use baiwan_task::{Drained, Queue};
use loom::cell::UnsafeCell;
use loom::future::block_on;
use loom::sync::Arc;
use loom::thread;

fn put(queue: &Queue<u32>, item: u32) -> Result<(), u32> {
    block_on(queue.put(item)).map_err(|closed| closed.0)
}

fn get(queue: &Queue<u32>) -> Result<u32, Drained> {
    block_on(queue.get()).map(|taken| taken.into_inner())
}

/// Polls once and gives up. What it came to, if it was ready.
fn give_up<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

/// A thread with a handle of its own.
fn beside<T, R: 'static>(queue: &Queue<T>, act: impl FnOnce(&Queue<T>) -> R + 'static) -> thread::JoinHandle<R>
where
    T: 'static,
{
    let queue = queue.clone();
    thread::spawn(move || act(&queue))
}

#[test]
fn promise_every_item_is_taken_once_and_each_putter_keeps_its_order() {
    loom::model(|| {
        let queue = Queue::<u32>::new(1);
        let first = beside(&queue, |queue| put(queue, 1).and_then(|()| put(queue, 2)));
        let second = beside(&queue, |queue| put(queue, 11));
        let mut got: Vec<u32> = (0..3).map(|_| get(&queue).unwrap()).collect();
        first.join().unwrap().unwrap();
        second.join().unwrap().unwrap();
        assert!(got.iter().filter(|item| **item < 10).is_sorted());
        got.sort_unstable();
        assert_eq!(got, [1, 2, 11]);
    });
}

#[test]
fn promise_two_getters_get_one_each() {
    loom::model(|| {
        let queue = Queue::<u32>::new(2);
        let getters = [beside(&queue, get), beside(&queue, get)];
        put(&queue, 1).unwrap();
        put(&queue, 2).unwrap();
        let mut got = getters.map(|getter| getter.join().unwrap().unwrap());
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
    });
}

#[test]
fn promise_an_item_for_a_getter_that_gives_up_goes_to_the_next() {
    loom::model(|| {
        let queue = Queue::<u32>::new(1);
        let gives_up = beside(&queue, |queue| give_up(queue.get()).map(|got| got.unwrap().into_inner()));
        let stays = beside(&queue, get);
        put(&queue, 1).unwrap();
        match gives_up.join().unwrap() {
            None => assert_eq!(stays.join().unwrap(), Ok(1)),
            Some(item) => {
                assert_eq!(item, 1);
                put(&queue, 2).unwrap();
                assert_eq!(stays.join().unwrap(), Ok(2));
            }
        }
    });
}

#[test]
fn promise_a_place_for_a_putter_that_gives_up_goes_to_the_next() {
    loom::model(|| {
        let queue = Queue::<u32>::new(1);
        put(&queue, 1).unwrap();
        let gives_up = beside(&queue, |queue| give_up(queue.put(2)).is_some());
        let stays = beside(&queue, |queue| put(queue, 3));
        let mut got = vec![get(&queue).unwrap()];
        if gives_up.join().unwrap() {
            got.push(get(&queue).unwrap());
        }
        assert_eq!(stays.join().unwrap(), Ok(()));
        got.push(get(&queue).unwrap());
        got[1..].sort_unstable();
        assert!(got == [1, 3] || got == [1, 2, 3], "{got:?}");
    });
}

#[test]
fn promise_a_value_is_put_or_given_back_when_close_comes_between() {
    loom::model(|| {
        let queue = Queue::<u32>::new(1);
        let first = beside(&queue, |queue| put(queue, 1));
        let second = beside(&queue, |queue| put(queue, 2));
        queue.close();
        let put = [first, second].map(|putter| putter.join().unwrap());
        let got: Vec<u32> = std::iter::from_fn(|| get(&queue).ok()).collect();
        match put {
            [Ok(()), Err(2)] => assert_eq!(got, [1]),
            [Err(1), Ok(())] => assert_eq!(got, [2]),
            [Err(1), Err(2)] => assert!(got.is_empty()),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn promise_close_wakes_whoever_waits() {
    loom::model(|| {
        let queue = Queue::<u32>::new(1);
        put(&queue, 1).unwrap();
        let getters = [beside(&queue, get), beside(&queue, get)];
        queue.close();
        let mut got = getters.map(|getter| getter.join().unwrap());
        got.sort_unstable_by_key(Result::is_err);
        assert_eq!(got, [Ok(1), Err(Drained)]);
    });
}

#[test]
fn promise_join_ends_when_the_last_item_is_finished() {
    loom::model(|| {
        let queue = Queue::<u32>::new(2);
        put(&queue, 1).unwrap();
        put(&queue, 2).unwrap();
        let workers = [beside(&queue, get), beside(&queue, get)];
        block_on(queue.join());
        assert_eq!(queue.statistics().unfinished, 0);
        for worker in workers {
            worker.join().unwrap().unwrap();
        }
    });
}

#[test]
fn promise_what_was_done_before_finishing_has_happened_after_join() {
    loom::model(|| {
        let queue = Queue::<u32>::new(1);
        put(&queue, 1).unwrap();
        // loom says so if two reach into it at once, or not one after the other for certain.
        let work = Arc::new(UnsafeCell::new(()));
        let workplace = Arc::clone(&work);
        let worker = beside(&queue, move |queue| {
            let taken = block_on(queue.get()).unwrap();
            workplace.with_mut(|_| ());
            drop(taken);
        });
        block_on(queue.join());
        work.with_mut(|_| ());
        worker.join().unwrap();
    });
}

#[test]
fn promise_join_ends_though_more_is_put_and_others_give_up_waiting() {
    loom::model(|| {
        let queue = Queue::<u32>::new(2);
        put(&queue, 1).unwrap();
        let worker = beside(&queue, |queue| {
            get(queue).unwrap();
            get(queue).unwrap();
        });
        let putter = beside(&queue, |queue| {
            give_up(queue.join());
            put(queue, 2).unwrap();
        });
        block_on(queue.join());
        putter.join().unwrap();
        block_on(queue.join());
        worker.join().unwrap();
        assert_eq!(queue.statistics().unfinished, 0);
    });
}

#[test]
fn promise_the_moment_when_all_was_finished_is_not_missed_though_more_is_put() {
    loom::model(|| {
        let queue = Queue::<u32>::new(2);
        put(&queue, 1).unwrap();
        let mut join = pin!(queue.join());
        let mut context = Context::from_waker(Waker::noop());
        assert!(join.as_mut().poll(&mut context).is_pending());
        let finisher = beside(&queue, |queue| assert_eq!(get(queue), Ok(1)));
        let is_moment_seen = queue.statistics().unfinished == 0;
        put(&queue, 2).unwrap();
        if is_moment_seen {
            assert!(join.as_mut().poll(&mut context).is_ready());
        }
        finisher.join().unwrap();
        assert_eq!(get(&queue), Ok(2));
        assert!(is_moment_seen || join.as_mut().poll(&mut context).is_ready());
    });
}

#[test]
fn promise_join_waits_for_an_item_that_is_put_back() {
    loom::model(|| {
        let queue = Queue::<u32>::new(1);
        put(&queue, 1).unwrap();
        // Unless the worker was there before.
        let puts_back = beside(&queue, |queue| {
            if let Some(Ok(taken)) = give_up(queue.get()) {
                taken.put_back();
            }
        });
        let worker = beside(&queue, get);
        block_on(queue.join());
        assert_eq!(worker.join().unwrap(), Ok(1));
        puts_back.join().unwrap();
    });
}

#[test]
fn promise_an_item_put_back_into_a_full_queue_goes_to_one_who_waits() {
    loom::model(|| {
        let queue = Queue::<u32>::new(1);
        put(&queue, 1).unwrap();
        let taken = block_on(queue.get()).unwrap();
        let getter = beside(&queue, |queue| [get(queue).unwrap(), get(queue).unwrap()]);
        let putter = beside(&queue, |queue| put(queue, 2));
        taken.put_back();
        let mut got = getter.join().unwrap();
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
        putter.join().unwrap().unwrap();
    });
}
