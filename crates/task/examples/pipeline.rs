//! Producers, a queue, consumers: what one side makes faster than the other takes waits in a queue of a hundred, and then the
//! producers wait.
//!
//! `cargo run -p baiwan-task --example pipeline`. Three crawlers find numbers, four workers say which of them are prime, one of
//! which fails now and then and puts its number back; in the end everything was done once.

use std::time::Duration;

use baiwan_task::{Closed, Failures, Group, Queue, Statistics, TaskGroup};

/// Numbers that each crawler finds.
const FINDS: u32 = 1_000;

#[tokio::main]
async fn main() -> Result<(), Failures<Closed<u32>>> {
    let (primes, statistics) = run().await?;
    eprintln!("{primes} primes below {}", 3 * FINDS);
    eprintln!("{statistics:#?}");
    Ok(())
}

/// How many primes there were, and what the queue of numbers has seen.
pub(crate) async fn run() -> Result<(usize, Statistics), Failures<Closed<u32>>> {
    let numbers = Queue::new(100);
    let primes = Queue::new(100);
    let count = TaskGroup::new()
        .name("pipeline")
        .deadline(Duration::from_secs(60))
        .scope(async |group: Group<Closed<u32>>| {
            let counted = group.name("counter").spawn(count(primes.clone())).await;
            for worker in 0..4 {
                group.name(format!("worker {worker}")).spawn(work(worker, numbers.clone(), primes.clone())).await;
            }
            // The crawlers are a group of their own: when it has ended, everything is found.
            let crawlers = TaskGroup::new().collect((0..3).map(|part| crawl(part, numbers.clone()))).await;
            assert!(crawlers.iter().all(Result::is_ok), "nobody closes the queue before");
            numbers.join().await;
            // Now every number was looked at, so that no prime is still to come.
            numbers.close();
            primes.close();
            Ok(counted.await.unwrap_or_default())
        })
        .await?;
    Ok((count, numbers.statistics()))
}

/// Waits whenever the queue is full.
async fn crawl(part: u32, numbers: Queue<u32>) -> Result<(), Closed<u32>> {
    for number in 0..FINDS {
        numbers.put(3 * number + part).await?;
    }
    Ok(())
}

async fn work(worker: u32, numbers: Queue<u32>, primes: Queue<u32>) -> Result<(), Closed<u32>> {
    let mut failures = 0;
    while let Ok(number) = numbers.get().await {
        if worker == 0 && failures < 10 && number.is_multiple_of(7) {
            failures += 1;
            // It is the next that anybody takes.
            number.put_back();
            tokio::task::yield_now().await;
            continue;
        }
        if is_prime(*number) {
            primes.put(*number).await?;
        }
        // Here the number is dropped, so it is done.
    }
    Ok(())
}

async fn count(primes: Queue<u32>) -> Result<usize, Closed<u32>> {
    let mut count = 0;
    while primes.get().await.is_ok() {
        count += 1;
    }
    Ok(count)
}

fn is_prime(number: u32) -> bool {
    number > 1 && (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| !number.is_multiple_of(divisor))
}
