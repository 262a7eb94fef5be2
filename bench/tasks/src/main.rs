//! Measures the scenarios in turns, round by round, so that what slows the machine slows all, and prints the medians as JSON.
//!
//! The first argument is the number of rounds, 30 if there is none. `asyncio.py` beside it prints the same figures of Python.

use std::future::Future;
use std::time::{Duration, Instant};

use baiwan_bench_tasks::scenarios::{
    DELAYED, TASKS, YIELDING, YIELDS, delay_in_group, delay_in_join_set, sleep_in_group, sleep_in_group_with_values,
    sleep_in_handles, sleep_in_join_set, sleep_in_unordered, yield_in_group, yield_in_join_set,
};
use serde_json::{Map, Value, json};
use tokio::runtime::{Builder, Runtime};

const ROUNDS: usize = 30;

fn main() -> anyhow::Result<()> {
    let rounds = std::env::args().nth(1).map_or(Ok(ROUNDS), |rounds| rounds.parse())?;
    let one = Builder::new_current_thread().enable_time().build()?;
    let two = Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    let figures = json!({
        "tasks": TASKS,
        "rounds": rounds,
        "one_thread": measure(&one, rounds),
        "two_threads": measure(&two, rounds),
    });
    #[expect(clippy::print_stdout, reason = "it is what this program is for")]
    {
        println!("{figures:#}");
    }
    Ok(())
}

fn measure(runtime: &Runtime, rounds: usize) -> Value {
    let mut sleeps: [Vec<Duration>; 5] = Default::default();
    let mut switches: [Vec<Duration>; 2] = Default::default();
    let mut delays: [Vec<Duration>; 2] = Default::default();
    // The first round only warms up.
    for round in 0..=rounds {
        let sleep = [
            timed(runtime, sleep_in_group(TASKS)),
            timed(runtime, sleep_in_join_set(TASKS)),
            timed(runtime, sleep_in_unordered(TASKS)),
            timed(runtime, sleep_in_handles(TASKS)),
            timed(runtime, sleep_in_group_with_values(TASKS)),
        ];
        let switch =
            [timed(runtime, yield_in_group(YIELDING, YIELDS)), timed(runtime, yield_in_join_set(YIELDING, YIELDS))];
        let delay =
            [run(runtime, delay_in_group(DELAYED, YIELDING)), run(runtime, delay_in_join_set(DELAYED, YIELDING))];
        if round > 0 {
            sleeps.iter_mut().zip(sleep).for_each(|(all, one)| all.push(one));
            switches.iter_mut().zip(switch).for_each(|(all, one)| all.push(one));
            delays.iter_mut().zip(delay).for_each(|(all, some)| all.extend(some));
        }
    }
    let names = ["TaskGroup", "JoinSet", "FuturesUnordered", "JoinHandles", "TaskGroup_values"];
    let sleep_ms = named(&names, &mut sleeps, |time| time.as_secs_f64() * 1e3);
    let ratio = quantile(&mut sleeps[0], 0.5).as_secs_f64() / quantile(&mut sleeps[1], 0.5).as_secs_f64();
    let count = (YIELDING * YIELDS) as f64;
    json!({
        "sleep_10000_ms": sleep_ms,
        "sleep_ratio_to_join_set": rounded(ratio),
        "switch_ns": named(&names, &mut switches, |time| time.as_secs_f64() * 1e9 / count),
        "delay_us": named(&names, &mut delays, |time| time.as_secs_f64() * 1e6),
    })
}

/// Run as a task, as a server's handlers are: what `block_on` is given does not run on a worker.
fn run<T: Send + 'static>(runtime: &Runtime, scenario: impl Future<Output = T> + Send + 'static) -> T {
    runtime.block_on(async { tokio::spawn(scenario).await.expect("the scenario does not panic") })
}

fn timed(runtime: &Runtime, scenario: impl Future<Output = ()> + Send + 'static) -> Duration {
    let started = Instant::now();
    run(runtime, scenario);
    started.elapsed()
}

fn named(names: &[&str], samples: &mut [Vec<Duration>], unit: impl Fn(Duration) -> f64) -> Value {
    let mut all = Map::new();
    for (name, samples) in names.iter().zip(samples) {
        let mut of = |at| rounded(unit(quantile(samples, at)));
        all.insert((*name).to_owned(), json!({ "p10": of(0.1), "p50": of(0.5), "p99": of(0.99) }));
    }
    Value::Object(all)
}

fn quantile(samples: &mut [Duration], at: f64) -> Duration {
    samples.sort_unstable();
    let last = samples.len().saturating_sub(1);
    samples.get((last as f64 * at) as usize).copied().unwrap_or_default()
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
