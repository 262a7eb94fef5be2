//! The queue under many orders in which its threads can run, chosen by fixed seeds: more threads and operations than
//! `loom_queue.rs` can go through.
//!
//! ```text
//! RUSTFLAGS="--cfg baiwan_shuttle" cargo test -p baiwan-task --release --test shuttle_queue
//! ```
//!
//! A failure prints the schedule, and the same command repeats it: nothing here depends on time. Some seconds.

#![cfg(baiwan_shuttle)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use baiwan_task::Queue;
use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, Runner, thread};

const SEED: u64 = 0x6261_6977_616e;
const ITERATIONS: usize = 5_000;

/// Plays it under schedules that are random, and under such that have few but unlikely preemptions.
fn model(act: impl Fn() + Send + Sync + Clone + 'static) {
    Runner::new(RandomScheduler::new_from_seed(SEED, ITERATIONS), Config::new()).run(act.clone());
    Runner::new(PctScheduler::new_from_seed(SEED, 4, ITERATIONS), Config::new()).run(act);
}

/// What went in and came out, seen from outside. Its locks are none that shuttle knows: nothing else may be done while one is held.
#[derive(Clone, Default)]
struct Ledger {
    put: Arc<Mutex<Vec<u32>>>,
    done: Arc<Mutex<Vec<u32>>>,
}

impl Ledger {
    fn check(&self) {
        let (mut put, mut done) = (self.put.lock().unwrap().clone(), self.done.lock().unwrap().clone());
        put.sort_unstable();
        done.sort_unstable();
        assert_eq!(put, done);
    }
}

/// Polls up to three times and gives up.
fn give_up<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..thread_rng().gen_range(1..4) {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return Some(output);
        }
        thread::yield_now();
    }
    None
}

fn produce(queue: &Queue<u32>, ledger: &Ledger, items: std::ops::Range<u32>) {
    for item in items {
        let put = match thread_rng().gen_range(0..4) {
            0 | 1 => give_up(queue.put(item)).is_some_and(|put| put.is_ok()),
            _ => block_on(queue.put(item)).is_ok(),
        };
        if put {
            ledger.put.lock().unwrap().push(item);
        }
    }
}

/// Until the queue is drained. Whoever puts back goes on getting.
fn consume(queue: &Queue<u32>, ledger: &Ledger) {
    loop {
        let taken = match thread_rng().gen_range(0..4) {
            0 => match give_up(queue.get()) {
                Some(Ok(taken)) => taken,
                Some(Err(_)) => return,
                None => continue,
            },
            _ => match block_on(queue.get()) {
                Ok(taken) => taken,
                Err(_) => return,
            },
        };
        match thread_rng().gen_range(0..6) {
            0 | 1 => taken.put_back(),
            2 => {
                let item = taken.into_inner();
                ledger.done.lock().unwrap().push(item);
            }
            _ => {
                ledger.done.lock().unwrap().push(*taken);
                drop(taken);
            }
        }
    }
}

#[test]
fn promise_nothing_is_lost_or_doubled_among_many_who_come_and_go() {
    model(|| {
        let queue = Queue::new(2);
        let ledger = Ledger::default();
        let spawn = |act: fn(&Queue<u32>, &Ledger, u32), number| {
            let (queue, ledger) = (queue.clone(), ledger.clone());
            thread::spawn(move || act(&queue, &ledger, number))
        };
        let consumers: Vec<_> = (0..3).map(|number| spawn(|queue, ledger, _| consume(queue, ledger), number)).collect();
        let producers: Vec<_> = (0..3)
            .map(|number| spawn(|queue, ledger, number| produce(queue, ledger, number * 10..number * 10 + 4), number))
            .collect();
        for producer in producers {
            producer.join().unwrap();
        }
        block_on(queue.join());
        let now = queue.statistics();
        queue.close();
        for consumer in consumers {
            consumer.join().unwrap();
        }
        ledger.check();
        assert_eq!((now.length, now.unfinished), (0, 0));
    });
}

#[test]
fn promise_close_in_the_middle_gives_back_or_delivers_every_value() {
    model(|| {
        let queue = Queue::new(2);
        let ledger = Ledger::default();
        let spawn = |act: fn(&Queue<u32>, &Ledger, u32), number| {
            let (queue, ledger) = (queue.clone(), ledger.clone());
            thread::spawn(move || act(&queue, &ledger, number))
        };
        let consumers: Vec<_> = (0..2).map(|number| spawn(|queue, ledger, _| consume(queue, ledger), number)).collect();
        let producers: Vec<_> = (0..3)
            .map(|number| spawn(|queue, ledger, number| produce(queue, ledger, number * 10..number * 10 + 3), number))
            .collect();
        for _ in 0..thread_rng().gen_range(0..20) {
            thread::yield_now();
        }
        queue.close();
        for thread in producers.into_iter().chain(consumers) {
            thread.join().unwrap();
        }
        // What was put back after the others had left.
        consume(&queue, &ledger);
        ledger.check();
        block_on(queue.join());
    });
}

#[test]
fn promise_everybody_who_joins_is_woken() {
    model(|| {
        let queue = Queue::new(3);
        let ledger = Ledger::default();
        let consumers: Vec<_> = (0..2)
            .map(|_| {
                let (queue, ledger) = (queue.clone(), ledger.clone());
                thread::spawn(move || consume(&queue, &ledger))
            })
            .collect();
        let joiners: Vec<_> = (0..3)
            .map(|number: u32| {
                let (queue, ledger) = (queue.clone(), ledger.clone());
                thread::spawn(move || {
                    produce(&queue, &ledger, number * 10..number * 10 + 2);
                    give_up(queue.join());
                    block_on(queue.join());
                })
            })
            .collect();
        for joiner in joiners {
            joiner.join().unwrap();
        }
        queue.close();
        for consumer in consumers {
            consumer.join().unwrap();
        }
        ledger.check();
    });
}
