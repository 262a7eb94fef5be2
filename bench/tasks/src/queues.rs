//! One job for every queue: a number of producers put a number of items, and as many consumers get them all, on a given runtime.
//!
//! Each queue is used as its users would: a task for each producer and each consumer, each awaiting one operation after the
//! other. An item is a number of 64 bits. Nothing is done with an item but to look at it, so what is measured is the queue and
//! the switching of tasks that it causes; not fairness, in which the queues differ, as [`Kind`] says.

use std::hint::black_box;

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// How many producers there are, and as many consumers.
pub const PAIRS: [usize; 3] = [1, 4, 64];
/// How many items pass through in one run.
pub const ITEMS: u64 = 64_000;
/// How many items fit in each queue.
pub const CAPACITY: usize = 1_000;

/// A kind of queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `baiwan_task::Queue`: waiting producers and consumers are served in turn, items are known until they are finished.
    Baiwan,
    /// `tokio::sync::mpsc`: waiting producers are served in turn. One consumer only: behind a lock, the lock would be measured.
    TokioMpsc,
    /// `flume`: waiting producers and consumers are served in turn, until somebody comes in between.
    Flume,
    /// `async_channel`: a task that waits is woken and competes with those that come.
    AsyncChannel,
}

/// All of them.
pub const KINDS: [Kind; 4] = [Kind::Baiwan, Kind::TokioMpsc, Kind::Flume, Kind::AsyncChannel];

impl Kind {
    /// As it stands in reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Baiwan => "Queue",
            Kind::TokioMpsc => "tokio mpsc",
            Kind::Flume => "flume",
            Kind::AsyncChannel => "async-channel",
        }
    }

    /// Whether it can have this number of consumers.
    pub fn takes(self, consumers: usize) -> bool {
        self != Kind::TokioMpsc || consumers == 1
    }

    /// Has `pairs` producers put `items` in all, and as many consumers get them.
    ///
    /// # Panics
    /// If a task does, or if the number of items that came out is another.
    pub fn run(self, runtime: &Runtime, pairs: usize, items: u64) {
        let share = items / pairs as u64;
        let got = runtime.block_on(async {
            match self {
                Kind::Baiwan => baiwan(pairs, share).await,
                Kind::TokioMpsc => tokio_mpsc(share).await,
                Kind::Flume => flume(pairs, share).await,
                Kind::AsyncChannel => async_channel(pairs, share).await,
            }
        });
        assert_eq!(got, share * pairs as u64, "{}", self.name());
    }
}

async fn baiwan(pairs: usize, share: u64) -> u64 {
    let queue = baiwan_task::Queue::new(CAPACITY);
    let consumers = spawn_each(pairs, || {
        let queue = queue.clone();
        async move {
            let mut got = 0;
            while let Ok(item) = queue.get().await {
                black_box(*item);
                got += 1;
            }
            got
        }
    });
    let producers = spawn_each(pairs, || {
        let queue = queue.clone();
        async move {
            for item in 0..share {
                assert!(queue.put(item).await.is_ok());
            }
            0
        }
    });
    sum(producers).await;
    queue.close();
    sum(consumers).await
}

async fn tokio_mpsc(share: u64) -> u64 {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(CAPACITY);
    let consumer = tokio::spawn(async move {
        let mut got = 0;
        while let Some(item) = receiver.recv().await {
            black_box(item);
            got += 1;
        }
        got
    });
    let producer = tokio::spawn(async move {
        for item in 0..share {
            assert!(sender.send(item).await.is_ok());
        }
        0
    });
    sum(vec![producer]).await;
    sum(vec![consumer]).await
}

async fn flume(pairs: usize, share: u64) -> u64 {
    let (sender, receiver) = flume::bounded(CAPACITY);
    let consumers = spawn_each(pairs, || {
        let receiver = receiver.clone();
        async move {
            let mut got = 0;
            while let Ok(item) = receiver.recv_async().await {
                black_box(item);
                got += 1;
            }
            got
        }
    });
    let producers = spawn_each(pairs, || {
        let sender = sender.clone();
        async move {
            for item in 0..share {
                assert!(sender.send_async(item).await.is_ok());
            }
            0
        }
    });
    drop(sender);
    sum(producers).await;
    sum(consumers).await
}

async fn async_channel(pairs: usize, share: u64) -> u64 {
    let (sender, receiver) = async_channel::bounded(CAPACITY);
    let consumers = spawn_each(pairs, || {
        let receiver = receiver.clone();
        async move {
            let mut got = 0;
            while let Ok(item) = receiver.recv().await {
                black_box(item);
                got += 1;
            }
            got
        }
    });
    let producers = spawn_each(pairs, || {
        let sender = sender.clone();
        async move {
            for item in 0..share {
                assert!(sender.send(item).await.is_ok());
            }
            0
        }
    });
    drop(sender);
    sum(producers).await;
    sum(consumers).await
}

fn spawn_each<F>(count: usize, mut make: impl FnMut() -> F) -> Vec<JoinHandle<u64>>
where
    F: Future<Output = u64> + Send + 'static,
{
    (0..count).map(|_| tokio::spawn(make())).collect()
}

async fn sum(tasks: Vec<JoinHandle<u64>>) -> u64 {
    let mut total = 0;
    for task in tasks {
        total += task.await.expect("a task of the measurement does not panic");
    }
    total
}
