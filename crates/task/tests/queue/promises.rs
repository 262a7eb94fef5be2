//! What a queue promises, each promise by itself, on one thread: who is served, in which order, and what is told to whom.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use crate::by_hand::{AtOnce, Polled, polled};
use baiwan_task::{Closed, Drained, Queue, Taken};

fn filled<T>(capacity: usize, items: impl IntoIterator<Item = T>) -> Queue<T> {
    let queue = Queue::new(capacity);
    for item in items {
        assert!(queue.put_at_once(item));
    }
    queue
}

fn next<T>(queue: &Queue<T>) -> Option<T> {
    queue.get_at_once().map(Taken::into_inner)
}

fn rest<T>(queue: &Queue<T>) -> Vec<T> {
    std::iter::from_fn(|| next(queue)).collect()
}

#[test]
#[should_panic(expected = "at least one item")]
fn promise_a_queue_without_places_is_refused() {
    let _ = Queue::<u32>::new(0);
}

#[test]
fn promise_items_come_out_in_the_order_in_which_they_went_in() {
    let queue = filled(5, [1, 2, 3]);
    assert_eq!(next(&queue), Some(1));
    assert_eq!(polled(queue.put(4)).ready(), Ok(()));
    assert_eq!(rest(&queue), [2, 3, 4]);
}

#[test]
fn promise_a_full_queue_gives_the_value_back_or_has_it_wait() {
    let queue = filled(2, [1, 2]);
    assert!(!queue.put_at_once(3));
    let mut put = polled(queue.put(3));
    assert!(put.is_pending());
    assert_eq!(next(&queue), Some(1));
    assert_eq!(put.woken(), 1);
    assert_eq!(put.ready(), Ok(()));
    assert_eq!(rest(&queue), [2, 3]);
}

#[test]
fn promise_an_empty_queue_has_nothing_or_has_the_getter_wait() {
    let queue = Queue::new(2);
    assert!(queue.get_at_once().is_none());
    let mut get = polled(queue.get());
    assert!(get.is_pending());
    assert!(queue.put_at_once(1));
    assert_eq!(get.woken(), 1);
    assert_eq!(*get.ready().unwrap(), 1);
}

#[test]
fn promise_getters_are_served_in_the_order_in_which_they_came() {
    let queue = Queue::new(10);
    let mut getters: Vec<_> = (0..4).map(|_| polled(queue.get())).collect();
    assert!(getters.iter_mut().all(Polled::is_pending));
    for served in 0..4 {
        assert!(queue.put_at_once(served));
        let woken: Vec<usize> = getters.iter().map(Polled::woken).collect();
        assert_eq!(woken, (0..4).map(|getter| usize::from(getter <= served)).collect::<Vec<_>>());
    }
    for (getter, item) in getters.iter_mut().zip(0..) {
        assert_eq!(*getter.ready().unwrap(), item);
    }
}

#[test]
fn promise_putters_are_served_in_the_order_in_which_they_came() {
    let queue = filled(2, [0, 1]);
    let mut putters: Vec<_> = (2..6).map(|item| polled(queue.put(item))).collect();
    assert!(putters.iter_mut().all(Polled::is_pending));
    for served in 0..4 {
        assert_eq!(next(&queue), Some(served));
        let woken: Vec<usize> = putters.iter().map(Polled::woken).collect();
        assert_eq!(woken, (0..4).map(|putter| usize::from(putter <= served)).collect::<Vec<_>>());
        assert_eq!(putters[served].ready(), Ok(()));
    }
    assert_eq!(rest(&queue), [4, 5]);
}

#[test]
fn promise_what_is_promised_to_one_who_waits_is_not_taken_by_one_who_comes() {
    let queue = Queue::new(10);
    let mut first = polled(queue.get());
    assert!(first.is_pending());
    assert!(queue.put_at_once(1));
    assert!(queue.get_at_once().is_none());
    let mut late = polled(queue.get());
    assert!(late.is_pending());
    assert_eq!(*first.ready().unwrap(), 1);

    let queue = filled(1, [1]);
    let mut first = polled(queue.put(2));
    assert!(first.is_pending());
    assert_eq!(next(&queue), Some(1));
    assert!(!queue.put_at_once(3));
    let mut late = polled(queue.put(4));
    assert!(late.is_pending());
    assert_eq!(first.ready(), Ok(()));
    assert_eq!(late.woken(), 0);
}

#[test]
fn promise_a_getter_that_gives_up_passes_its_item_on_in_order() {
    let queue = Queue::new(10);
    let mut getters: Vec<_> = (0..3).map(|_| polled(queue.get())).collect();
    assert!(getters.iter_mut().all(Polled::is_pending));
    assert!(queue.put_at_once(1));
    assert!(queue.put_at_once(2));
    // The first was promised an item and goes away; the third has it now, and the order of items is as it was.
    drop(getters.remove(0));
    assert_eq!(getters[1].woken(), 1);
    assert_eq!(*getters[0].ready().unwrap(), 1);
    assert_eq!(*getters[1].ready().unwrap(), 2);
}

#[test]
fn promise_a_putter_that_gives_up_passes_its_place_on() {
    let queue = filled(1, [1]);
    let mut first = polled(queue.put(2));
    let mut second = polled(queue.put(3));
    assert!(first.is_pending() && second.is_pending());
    assert_eq!(next(&queue), Some(1));
    drop(first);
    assert_eq!(second.woken(), 1);
    assert_eq!(second.ready(), Ok(()));
    assert_eq!(rest(&queue), [3]);
}

#[test]
fn promise_a_put_that_was_dropped_was_not_done() {
    let queue = filled(1, [1]);
    let mut put = polled(queue.put(2));
    assert!(put.is_pending());
    assert_eq!(next(&queue), Some(1));
    drop(put);
    assert_eq!(rest(&queue), []);
    assert!(queue.put_at_once(3));
}

#[test]
fn promise_a_future_that_was_not_polled_does_not_wait_in_line() {
    let queue = Queue::new(1);
    let (never_get, never_put) = (queue.get(), queue.put(7));
    assert!(queue.put_at_once(1));
    assert_eq!(next(&queue), Some(1));
    drop((never_get, never_put));
    assert_eq!(queue.statistics().puts, 1);
}

#[test]
fn promise_the_waker_of_the_last_poll_is_the_one_that_is_called() {
    let queue = Queue::new(1);
    let mut get = Box::pin(queue.get());
    let (old, new) = (Arc::new(Calls::default()), Arc::new(Calls::default()));
    for calls in [&old, &new, &new] {
        let waker = Waker::from(Arc::clone(calls));
        assert!(get.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert!(queue.put_at_once(1));
    assert_eq!((old.0.load(Ordering::Relaxed), new.0.load(Ordering::Relaxed)), (0, 1));
    assert_eq!(Arc::strong_count(&old), 1, "the old waker was dropped");
}

#[derive(Default)]
struct Calls(AtomicUsize);

impl Wake for Calls {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn promise_close_gives_their_values_back_to_those_who_wait_to_put() {
    let queue = filled(1, [1]);
    let mut promised = polled(queue.put(2));
    let mut waiting = polled(queue.put(3));
    assert!(promised.is_pending() && waiting.is_pending());
    assert_eq!(next(&queue), Some(1));
    assert_eq!(promised.woken(), 1);
    queue.close();
    assert_eq!(waiting.woken(), 1);
    assert_eq!(promised.ready(), Err(Closed(2)));
    assert_eq!(waiting.ready(), Err(Closed(3)));
    assert_eq!(polled(queue.put(5)).ready(), Err(Closed(5)));
}

#[test]
fn promise_a_closed_queue_gives_what_it_has_and_is_drained_then() {
    let queue = filled(3, [1, 2]);
    queue.close();
    assert_eq!(*polled(queue.get()).ready().unwrap(), 1);
    assert_eq!(next(&queue), Some(2));
    assert_eq!(polled(queue.get()).ready().unwrap_err(), Drained);
}

#[test]
fn promise_close_wakes_those_who_wait_to_get() {
    let queue = Queue::<u32>::new(3);
    let mut getters: Vec<_> = (0..3).map(|_| polled(queue.get())).collect();
    assert!(getters.iter_mut().all(Polled::is_pending));
    queue.close();
    for getter in &mut getters {
        assert_eq!(getter.woken(), 1);
        assert_eq!(getter.ready().unwrap_err(), Drained);
    }
}

#[test]
fn promise_who_waits_for_a_promised_item_of_a_closed_queue_gets_it_or_is_told() {
    for first_gives_up in [false, true] {
        let queue = Queue::new(3);
        let mut first = polled(queue.get());
        assert!(first.is_pending());
        assert!(queue.put_at_once(1));
        queue.close();
        let mut second = polled(queue.get());
        assert!(second.is_pending(), "the item may still come to it");
        assert!(queue.get_at_once().is_none());
        if first_gives_up {
            drop(first);
            assert_eq!(second.woken(), 1);
            assert_eq!(*second.ready().unwrap(), 1);
        } else {
            assert_eq!(*first.ready().unwrap(), 1);
            assert_eq!(second.woken(), 1);
            assert_eq!(second.ready().unwrap_err(), Drained);
        }
    }
}

#[test]
fn promise_join_waits_until_every_item_is_finished() {
    let queue = filled(3, [1, 2]);
    let mut join = polled(queue.join());
    assert!(join.is_pending());
    let first = queue.get_at_once().unwrap();
    let second = queue.get_at_once().unwrap();
    assert!(join.is_pending());
    drop(second);
    assert_eq!(join.woken(), 0);
    drop(first);
    assert_eq!(join.woken(), 1);
    join.ready();
}

#[test]
fn promise_join_of_a_queue_without_items_is_ready() {
    let queue = Queue::<u32>::new(3);
    polled(queue.join()).ready();
    assert!(queue.put_at_once(1));
    drop(queue.get_at_once());
    polled(queue.join()).ready();
}

#[test]
fn promise_join_waits_for_what_is_put_while_it_waits() {
    let queue = filled(3, [1]);
    let mut join = polled(queue.join());
    assert!(join.is_pending());
    assert!(queue.put_at_once(2));
    assert_eq!(next(&queue), Some(1));
    assert_eq!(join.woken(), 0);
    assert_eq!(next(&queue), Some(2));
    join.ready();
}

#[test]
fn promise_join_is_ready_though_more_was_put_since_all_was_finished() {
    let queue = filled(3, [1]);
    let mut joins = [polled(queue.join()), polled(queue.join())];
    assert!(joins.iter_mut().all(Polled::is_pending));
    assert_eq!(next(&queue), Some(1));
    assert!(queue.put_at_once(2));
    joins.iter_mut().for_each(Polled::ready);
    assert!(polled(queue.join()).is_pending());
}

#[test]
fn promise_a_join_that_was_dropped_is_not_woken_and_others_are() {
    let queue = filled(3, [1]);
    let (mut gone, mut there) = (polled(queue.join()), polled(queue.join()));
    assert!(gone.is_pending() && there.is_pending());
    drop(gone);
    assert_eq!(next(&queue), Some(1));
    assert_eq!(there.woken(), 1);
    there.ready();
}

#[test]
fn promise_an_item_is_finished_when_its_guard_is_dropped_also_by_a_panic() {
    let queue = filled(3, [1]);
    let worker = catch_unwind(AssertUnwindSafe(|| {
        let _job = queue.get_at_once().unwrap();
        panic!("of the worker");
    }));
    assert!(worker.is_err());
    polled(queue.join()).ready();
}

#[test]
fn promise_a_guard_lends_its_item_and_hands_it_out_as_finished() {
    let queue = filled(3, [String::from("job")]);
    let mut taken = queue.get_at_once().unwrap();
    taken.push('s');
    assert_eq!((taken.len(), format!("{taken:?}")), (4, String::from("Taken(\"jobs\")")));
    assert_eq!(queue.statistics().unfinished, 1);
    assert_eq!(taken.into_inner(), "jobs");
    assert_eq!(queue.statistics().unfinished, 0);
}

#[test]
fn promise_an_item_that_is_put_back_is_taken_next_and_stays_unfinished() {
    let queue = filled(3, [1, 2]);
    let mut join = polled(queue.join());
    assert!(join.is_pending());
    queue.get_at_once().unwrap().put_back();
    assert_eq!((join.woken(), queue.statistics().unfinished), (0, 2));
    assert_eq!(rest(&queue), [1, 2]);
    join.ready();
}

#[test]
fn promise_an_item_can_be_put_back_into_a_full_queue() {
    let queue = filled(1, [1]);
    let taken = queue.get_at_once().unwrap();
    assert!(queue.put_at_once(2));
    let mut putter = polled(queue.put(3));
    assert!(putter.is_pending());
    taken.put_back();
    assert_eq!((queue.statistics().length, queue.statistics().length_max), (2, 2));
    assert_eq!(next(&queue), Some(1));
    assert_eq!(putter.woken(), 0, "the queue is still full");
    assert_eq!(next(&queue), Some(2));
    assert_eq!(putter.ready(), Ok(()));
}

#[test]
fn promise_an_item_can_be_put_back_into_a_closed_queue() {
    let queue = filled(1, [1]);
    let taken = queue.get_at_once().unwrap();
    queue.close();
    assert_eq!(polled(queue.get()).ready().unwrap_err(), Drained);
    taken.put_back();
    assert_eq!(next(&queue), Some(1));
}

#[test]
fn promise_an_item_that_is_put_back_goes_to_the_one_who_waits() {
    let queue = filled(1, [1]);
    let taken = queue.get_at_once().unwrap();
    let mut get = polled(queue.get());
    assert!(get.is_pending());
    taken.put_back();
    assert_eq!(get.woken(), 1);
    assert_eq!(*get.ready().unwrap(), 1);
}

#[test]
fn promise_statistics_tell_what_has_happened() {
    let queue = filled(2, [1, 2]);
    let mut put = polled(queue.put(3));
    assert!(put.is_pending() && put.is_pending());
    assert_eq!(next(&queue), Some(1));
    put.ready().unwrap();
    assert_eq!(rest(&queue), [2, 3]);
    let mut get = polled(queue.get());
    assert!(get.is_pending() && get.is_pending());
    assert!(queue.put_at_once(4));
    let taken = get.ready().unwrap();
    let now = queue.statistics();
    assert_eq!((now.length, now.capacity, now.length_max, now.unfinished), (0, 2, 2, 1));
    assert_eq!(now.puts, 4);
    drop(taken);
    assert_eq!(format!("{queue:?}"), "Queue { length: 0, capacity: 2, closed: false, .. }");
}

/// Looks at a queue when it is dropped, woken or cloned, and panics if it is told to.
struct Meddler {
    queue: Queue<Meddler>,
    panics: bool,
}

impl Drop for Meddler {
    fn drop(&mut self) {
        assert!(self.queue.statistics().capacity > 0);
        let _ = self.queue.get_at_once();
        assert!(!self.panics || std::thread::panicking(), "by destructor");
    }
}

#[test]
fn promise_a_destructor_may_use_the_queue() {
    let queue = Queue::new(2);
    let item = |panics| Meddler { queue: queue.clone(), panics };
    assert!(queue.put_at_once(item(false)));
    drop(queue.get_at_once());
    assert!(queue.put_at_once(item(false)));
    assert!(queue.put_at_once(item(false)));
    assert!(!queue.put_at_once(item(false)));
    // A putter that gives up drops its value.
    assert!(queue.put_at_once(item(false)));
    assert!(queue.put_at_once(item(false)));
    let mut put = polled(queue.put(item(false)));
    assert!(put.is_pending());
    drop(put);
    assert!(queue.statistics().length == 0, "its destructor has taken one, whose destructor has taken the other");
    drop(queue.get_at_once());
    polled(queue.join()).ready();
}

/// Looks, when it is dropped, how many are unfinished.
struct Witness(Queue<Witness>, Arc<AtomicUsize>);

impl Drop for Witness {
    fn drop(&mut self) {
        self.1.store(self.0.statistics().unfinished, Ordering::Relaxed);
    }
}

#[test]
fn promise_an_item_is_not_finished_before_its_destructor_is() {
    let (queue, unfinished) = (Queue::new(1), Arc::new(AtomicUsize::new(7)));
    assert!(queue.put_at_once(Witness(queue.clone(), Arc::clone(&unfinished))));
    drop(queue.get_at_once());
    assert_eq!((unfinished.load(Ordering::Relaxed), queue.statistics().unfinished), (1, 0));
}

#[test]
fn promise_an_item_whose_destructor_panics_is_finished() {
    let queue = Queue::new(2);
    assert!(queue.put_at_once(Meddler { queue: queue.clone(), panics: true }));
    let taken = queue.get_at_once().unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| drop(taken))).is_err());
    polled(queue.join()).ready();
    assert!(queue.put_at_once(Meddler { queue: queue.clone(), panics: false }));
    drop(queue.get_at_once());
}

/// A waker that uses the queue when it is called or dropped, and may panic when it is called.
struct Meddling {
    queue: Mutex<Option<Queue<u32>>>,
    calls: AtomicUsize,
    panics: bool,
}

impl Meddling {
    fn new(queue: &Queue<u32>, panics: bool) -> Arc<Self> {
        Arc::new(Meddling { queue: Mutex::new(Some(queue.clone())), calls: AtomicUsize::new(0), panics })
    }
}

impl Wake for Meddling {
    fn wake(self: Arc<Self>) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let queue = self.queue.lock().unwrap().clone();
        assert!(queue.is_some_and(|queue| queue.statistics().capacity > 0));
        assert!(!self.panics, "by waker");
    }
}

impl Drop for Meddling {
    fn drop(&mut self) {
        let queue = self.queue.lock().unwrap().take();
        assert!(queue.is_some_and(|queue| queue.statistics().capacity > 0));
    }
}

#[test]
fn promise_a_waker_may_use_the_queue() {
    let queue = Queue::new(1);
    let (first, second) = (Meddling::new(&queue, false), Meddling::new(&queue, false));
    let mut get = Box::pin(queue.get());
    for waker in [first, Arc::clone(&second)].map(Waker::from) {
        // The first is replaced by the second, and its destructor looks at the queue.
        assert!(get.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert!(queue.put_at_once(1));
    assert_eq!(second.calls.load(Ordering::Relaxed), 1);
    drop(get);
    let mut join = Box::pin(queue.join());
    let third = Waker::from(Meddling::new(&queue, false));
    assert!(join.as_mut().poll(&mut Context::from_waker(&third)).is_pending());
    drop(third);
    drop(join);
    let mut put = Box::pin(queue.put(2));
    let fourth = Waker::from(Meddling::new(&queue, false));
    assert!(put.as_mut().poll(&mut Context::from_waker(&fourth)).is_pending());
    drop(fourth);
    queue.close();
    drop(put);
    assert_eq!(rest(&queue), [1]);
}

#[test]
fn promise_a_waker_that_panics_is_no_concern_of_whoever_calls_it() {
    let queue = Queue::new(1);
    let bad = Waker::from(Meddling::new(&queue, true));
    let mut get = Box::pin(queue.get());
    assert!(get.as_mut().poll(&mut Context::from_waker(&bad)).is_pending());
    assert!(queue.put_at_once(1));
    let mut put = Box::pin(queue.put(2));
    assert!(put.as_mut().poll(&mut Context::from_waker(&bad)).is_pending());
    drop(get);
    assert_eq!(next(&queue), Some(1));
    assert!(put.as_mut().poll(&mut Context::from_waker(&bad)).is_ready(), "it was promised the place all the same");
    assert_eq!(next(&queue), Some(2));

    // Of those that are woken together, all others are.
    let mut bad_get = Box::pin(queue.get());
    assert!(bad_get.as_mut().poll(&mut Context::from_waker(&bad)).is_pending());
    let mut good = polled(queue.get());
    assert!(good.is_pending());
    queue.close();
    assert_eq!(good.woken(), 1);
    assert_eq!(good.ready().unwrap_err(), Drained);
}

#[tokio::test(flavor = "current_thread")]
async fn promise_one_who_never_has_to_wait_lets_others_run() {
    const MANY: usize = 10_000;
    for (puts, gets) in [(true, true), (true, false), (false, true)] {
        let queue = Queue::new(2 * MANY);
        for item in 0..MANY {
            queue.put(item).await.unwrap();
        }
        let other = tokio::spawn(async {});
        for turn in 0.. {
            if other.is_finished() {
                break;
            }
            assert!(turn < MANY, "{puts} {gets}");
            if puts {
                queue.put(turn).await.unwrap();
            }
            if gets {
                drop(queue.get().await.unwrap());
            }
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn promise_a_loop_that_looks_at_one_queue_and_uses_another_lets_others_run() {
    const MANY: usize = 10_000;
    for (before, use_get) in (0..24).flat_map(|before| [(before, false), (before, true)]) {
        let (stop, work) = (Queue::new(1), Queue::new(2 * MANY));
        for item in 0..MANY {
            work.put(item).await.unwrap();
        }
        // Wherever the count of operations stands.
        for item in 0..before {
            work.put(item).await.unwrap();
        }
        let stopper = stop.clone();
        tokio::spawn(async move { stopper.put(()).await });
        for turn in 0.. {
            assert!(turn < MANY - 24, "{before}, {use_get}");
            tokio::select! {
                biased;
                _ = stop.get() => break,
                put = work.put(turn), if !use_get => put.unwrap(),
                got = work.get(), if use_get => drop(got.unwrap()),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_every_item_is_taken_once_by_many_on_threads() {
    const EACH: u64 = if cfg!(miri) { 20 } else { 2_000 };
    let queue = Queue::<u64>::new(7);
    let consumers: Vec<_> = (0..4)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let mut got = Vec::new();
                while let Ok(item) = queue.get().await {
                    got.push(item.into_inner());
                }
                got
            })
        })
        .collect();
    let producers: Vec<_> = (0..4)
        .map(|producer| {
            let queue = queue.clone();
            tokio::spawn(async move {
                for item in 0..EACH {
                    queue.put(producer * EACH + item).await.unwrap();
                }
            })
        })
        .collect();
    for producer in producers {
        producer.await.unwrap();
    }
    queue.join().await;
    queue.close();
    let mut all = Vec::new();
    for consumer in consumers {
        let got = consumer.await.unwrap();
        for producer in 0..4 {
            let of_one = got.iter().filter(|item| **item / EACH == producer);
            assert!(of_one.is_sorted(), "what one puts and another gets keeps its order");
        }
        all.extend(got);
    }
    all.sort_unstable();
    assert_eq!(all, (0..4 * EACH).collect::<Vec<_>>());
}

#[test]
fn promise_a_queue_may_be_used_where_a_panic_is_caught() {
    let queue = Queue::new(1);
    let put = std::panic::catch_unwind(|| {
        assert!(queue.put_at_once(1));
        panic!("after it was put");
    });
    assert!(put.is_err());
    assert_eq!(next(&queue), Some(1));
}
