//! Task groups beside what Tokio and futures-util have, in one run: 10,000 tasks that sleep for 1 ms, and the switch between
//! tasks, each on one thread and on two. `cargo run --release` of this package measures the same in turns, and as JSON.

use baiwan_bench_tasks::scenarios::{
    TASKS, YIELDING, YIELDS, sleep_in_group, sleep_in_group_with_values, sleep_in_handles, sleep_in_join_set,
    sleep_in_unordered, yield_in_group, yield_in_join_set,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::{Builder, Runtime};

fn runtimes() -> [(&'static str, Runtime); 2] {
    let one = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let two = Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime");
    [("one_thread", one), ("two_threads", two)]
}

fn sleeping(criterion: &mut Criterion) {
    for (threads, runtime) in runtimes() {
        let mut group = criterion.benchmark_group(format!("sleep_1ms/{threads}"));
        group.sample_size(30).throughput(Throughput::Elements(TASKS as u64));
        group.bench_function("TaskGroup", |b| b.to_async(&runtime).iter(|| sleep_in_group(TASKS)));
        group.bench_function("JoinSet", |b| b.to_async(&runtime).iter(|| sleep_in_join_set(TASKS)));
        group.bench_function("FuturesUnordered", |b| b.to_async(&runtime).iter(|| sleep_in_unordered(TASKS)));
        group.bench_function("JoinHandles", |b| b.to_async(&runtime).iter(|| sleep_in_handles(TASKS)));
        group.bench_function("TaskGroup_values", |b| {
            b.to_async(&runtime).iter(|| sleep_in_group_with_values(TASKS));
        });
        group.finish();
    }
}

fn switching(criterion: &mut Criterion) {
    for (threads, runtime) in runtimes() {
        let mut group = criterion.benchmark_group(format!("switch/{threads}"));
        group.sample_size(10).throughput(Throughput::Elements((YIELDING * YIELDS) as u64));
        group.bench_function("TaskGroup", |b| b.to_async(&runtime).iter(|| yield_in_group(YIELDING, YIELDS)));
        group.bench_function("JoinSet", |b| b.to_async(&runtime).iter(|| yield_in_join_set(YIELDING, YIELDS)));
        group.finish();
    }
}

criterion_group!(benches, sleeping, switching);
criterion_main!(benches);
