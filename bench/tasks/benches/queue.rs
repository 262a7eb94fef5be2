//! Items that pass through a queue: 1:1, 4:4 and 64:64 producers and consumers at capacity 1,000, on one thread and on two. All
//! queues in one run, one after the other in each case; `cargo run --release` of this package measures the same in turns.

#![allow(missing_docs, reason = "the macros of criterion make public functions without documentation")]

use std::time::Duration;

use baiwan_bench_tasks::queues::{ITEMS, KINDS, PAIRS};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use tokio::runtime::{Builder, Runtime};

fn queues(criterion: &mut Criterion) {
    let one = Builder::new_current_thread().build().expect("a runtime");
    let two = Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let runtimes: [(&str, &Runtime); 2] = [("one_thread", &one), ("two_threads", &two)];
    for (name, runtime) in runtimes {
        for pairs in PAIRS {
            let mut group = criterion.benchmark_group(format!("queue/{name}/{pairs}:{pairs}"));
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
