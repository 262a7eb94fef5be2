//! Items that pass through a queue: 1:1, 4:4 and 64:64 producers and consumers at capacity 1,000, on two workers and on one
//! thread. All queues in one run, one after the other in each case.
//!
//! ```text
//! cargo bench --manifest-path bench/Cargo.toml -p baiwan-bench-queues
//! ```
//!
//! `tokio::sync::mpsc` takes part only with one consumer: it has no more. Behind a lock it would measure the lock.

#![allow(missing_docs, reason = "the macros of criterion make public functions without documentation")]

use std::time::Duration;

use baiwan_bench_queues::KINDS;
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use tokio::runtime::{Builder, Runtime};

/// In one iteration.
const ITEMS: u64 = 64_000;
const PAIRS: [usize; 3] = [1, 4, 64];
const WORKERS: usize = 2;

fn queues(criterion: &mut Criterion) {
    let current = Builder::new_current_thread().build().expect("a runtime");
    let workers = Builder::new_multi_thread().worker_threads(WORKERS).build().expect("a runtime");
    let runtimes: [(&str, &Runtime); 2] = [("current-thread", &current), ("two-workers", &workers)];
    for (name, runtime) in runtimes {
        for pairs in PAIRS {
            let mut group = criterion.benchmark_group(format!("{name}/{pairs}:{pairs}"));
            group.throughput(Throughput::Elements(ITEMS)).sampling_mode(SamplingMode::Flat);
            group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
            for kind in KINDS.into_iter().filter(|kind| kind.takes(pairs)) {
                group.bench_function(kind.name(), |bencher| bencher.iter(|| kind.run(runtime, pairs, ITEMS)));
            }
            group.finish();
        }
    }
}

criterion_group!(benches, queues);
criterion_main!(benches);
