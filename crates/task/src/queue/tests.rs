//! What cannot be seen from outside: ages under a held clock, lines of those who wait, and counts that wrap around.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::Queue;
use super::line::{Line, Standing};
use super::{Drained, Taken};
use crate::clock::held;

const SECOND: Duration = Duration::from_secs(1);

fn put<T>(queue: &Queue<T>, item: T) {
    assert!(pin!(queue.put(item)).poll(&mut Context::from_waker(Waker::noop())).is_ready());
}

fn get<T>(queue: &Queue<T>) -> Result<Taken<'_, T>, Drained> {
    match pin!(queue.get()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(taken) => taken,
        Poll::Pending => panic!("it waits"),
    }
}

fn stand(line: &mut Line) -> usize {
    let mut key = None;
    assert!(line.stand(&mut key, &mut Some(Waker::noop().clone())));
    key.expect("it stands in line")
}

#[test]
fn promise_the_age_is_that_of_the_item_that_is_taken_next() {
    held::advance(Duration::ZERO);
    let queue = Queue::new(10);
    assert_eq!(queue.statistics().oldest_age, None);
    put(&queue, "first");
    held::advance(SECOND);
    put(&queue, "second");
    held::advance(SECOND);
    assert_eq!(queue.statistics().oldest_age, Some(2 * SECOND));
    drop(get(&queue));
    assert_eq!(queue.statistics().oldest_age, Some(SECOND));
    drop(get(&queue));
    assert_eq!(queue.statistics().oldest_age, None);
}

#[test]
fn promise_an_item_that_is_put_back_is_as_old_as_it_was() {
    held::advance(Duration::ZERO);
    let queue = Queue::new(10);
    put(&queue, "item");
    let taken = get(&queue).unwrap();
    held::advance(3 * SECOND);
    taken.put_back();
    assert_eq!(queue.statistics().oldest_age, Some(3 * SECOND));
}

#[test]
fn promise_a_value_that_waited_for_its_place_is_as_old_as_its_time_in_the_queue() {
    held::advance(Duration::ZERO);
    let queue = Queue::new(1);
    put(&queue, "first");
    let mut second = pin!(queue.put("second"));
    let mut context = Context::from_waker(Waker::noop());
    assert!(second.as_mut().poll(&mut context).is_pending());
    held::advance(SECOND);
    drop(get(&queue));
    assert!(second.as_mut().poll(&mut context).is_ready());
    held::advance(SECOND);
    assert_eq!(queue.statistics().oldest_age, Some(SECOND));
}

#[test]
fn promise_the_clock_that_runs_never_goes_back() {
    let before = crate::clock::now_ns();
    assert!(before > 0 || cfg!(miri));
    assert!(crate::clock::now_ns() >= before);
}

#[test]
fn promise_a_line_is_served_in_order_and_left_from_anywhere() {
    let mut line = Line::new();
    let keys: Vec<usize> = (0..5).map(|_| stand(&mut line)).collect();
    for leaver in [keys[0], keys[2], keys[4]] {
        assert!(line.leave(leaver).is_some(), "a waker that was not called is given back");
    }
    assert!(line.promise_first().is_some());
    assert_eq!((line.standing(keys[1]), line.standing(keys[3])), (Standing::Promised, Standing::Waiting));
    let last = stand(&mut line);
    assert_eq!(line.dismiss_all().len(), 2);
    assert!(line.is_empty() && line.promise_first().is_none());
    assert_eq!((line.standing(keys[3]), line.standing(last)), (Standing::Dismissed, Standing::Dismissed));
    for key in [keys[1], keys[3], last] {
        assert!(line.leave(key).is_none(), "its waker was called");
    }
}

#[test]
fn promise_places_of_a_line_are_used_again() {
    let mut line = Line::new();
    let first = stand(&mut line);
    line.leave(first);
    assert_eq!(stand(&mut line), first);
}

#[test]
fn promise_finished_items_are_counted_right_when_the_counts_wrap_around() {
    let queue = Queue::new(4);
    queue.shared.lock().puts = u64::MAX - 1;
    queue.shared.begin_finished_at(usize::MAX - 3);
    for item in 0..4 {
        put(&queue, item);
    }
    let mut join = pin!(queue.join());
    let mut context = Context::from_waker(Waker::noop());
    for left in (0..4).rev() {
        assert!(join.as_mut().poll(&mut context).is_pending());
        drop(get(&queue));
        assert_eq!(queue.statistics().unfinished, left);
    }
    assert!(join.as_mut().poll(&mut context).is_ready());
}

/// Counts its calls, and may panic.
struct Bell(AtomicUsize, bool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        assert!(!self.1, "by waker");
    }
}

#[test]
fn promise_a_put_wakes_the_getter_though_one_who_has_joined_panics() {
    let queue = Queue::new(2);
    put(&queue, 1);
    let taken = get(&queue).unwrap();
    let (joiner, getter) = (Arc::new(Bell(AtomicUsize::new(0), true)), Arc::new(Bell(AtomicUsize::new(0), false)));
    let mut join = pin!(queue.join());
    assert!(join.as_mut().poll(&mut Context::from_waker(&Arc::clone(&joiner).into())).is_pending());
    let mut get = pin!(queue.get());
    assert!(get.as_mut().poll(&mut Context::from_waker(&Arc::clone(&getter).into())).is_pending());
    // As if the item were being finished in another thread, which has counted it and not come further yet.
    std::mem::forget(taken);
    queue.shared.begin_finished_at(3);
    put(&queue, 2);
    assert_eq!((joiner.0.load(Ordering::Relaxed), getter.0.load(Ordering::Relaxed)), (1, 1));
    assert!(join.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
}
