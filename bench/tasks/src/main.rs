//! Measures the scenarios in turns, round by round, so that what slows the machine slows all, and prints the medians as JSON.
//!
//! The first argument is the number of rounds, 30 if there is none; a second one selects the figures whose name begins with it, as
//! `queue` or `sleep`. `asyncio.py` beside it prints the same figures of Python.

use std::future::Future;
use std::time::Duration;

use baiwan_bench_tasks::queues::{ITEMS, KINDS, Kind, PAIRS};
use baiwan_bench_tasks::scenarios::{
    DELAYED, TASKS, YIELDING, YIELDS, delay_in_group, delay_in_join_set, sleep_detached, sleep_in_group,
    sleep_in_group_with_values, sleep_in_handles, sleep_in_join_set, sleep_in_unordered, sleep_larger_in_group,
    sleep_larger_in_join_set, yield_in_group, yield_in_join_set,
};
use serde_json::{Map, Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

const ROUNDS: usize = 30;

fn main() -> anyhow::Result<()> {
    let rounds = std::env::args().nth(1).map_or(Ok(ROUNDS), |rounds| rounds.parse())?;
    let wanted = std::env::args().nth(2).unwrap_or_default();
    let one = Builder::new_current_thread().enable_time().build()?;
    let two = Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    let figures = json!({
        "rounds": rounds,
        "one_thread": measure(&one, rounds, &wanted),
        "two_threads": measure(&two, rounds, &wanted),
    });
    #[expect(clippy::print_stdout, reason = "it is what this program is for")]
    {
        println!("{figures:#}");
    }
    Ok(())
}

/// Those that do the same work, and how long each took.
struct Contest {
    names: Vec<&'static str>,
    samples: Vec<Vec<Duration>>,
}

impl Contest {
    fn new(names: impl IntoIterator<Item = &'static str>) -> Self {
        let names: Vec<_> = names.into_iter().collect();
        Self { samples: vec![Vec::new(); names.len()], names }
    }

    /// Runs each once. Who is first is another one in each round, since it pays for what the round before has left behind. The
    /// first round only warms up.
    fn round(&mut self, round: usize, mut run: impl FnMut(usize) -> Vec<Duration>) {
        let count = self.names.len();
        for turn in 0..count {
            let which = (turn + round) % count;
            let times = run(which);
            if round > 0 {
                self.samples[which].extend(times);
            }
        }
    }

    fn figures(&mut self, unit: impl Fn(Duration) -> f64) -> Value {
        let mut all = Map::new();
        for (name, samples) in self.names.iter().zip(&mut self.samples) {
            let mut of = |at| rounded(unit(quantile(samples, at)));
            all.insert((*name).to_owned(), json!({ "p10": of(0.1), "p50": of(0.5), "p99": of(0.99) }));
        }
        Value::Object(all)
    }
}

/// A figure: its name, those who compete, how one of them runs, and the unit.
struct Figure<'a> {
    name: String,
    contest: Contest,
    run: Box<dyn FnMut(usize) -> Vec<Duration> + 'a>,
    unit: fn(Duration) -> f64,
}

fn measure(runtime: &Runtime, rounds: usize, wanted: &str) -> Value {
    let mut figures = figures(runtime);
    figures.retain(|figure| figure.name.starts_with(wanted));
    for round in 0..=rounds {
        for figure in &mut figures {
            figure.contest.round(round, &mut figure.run);
        }
    }
    let named = figures.into_iter().map(|mut figure| (figure.name, figure.contest.figures(figure.unit)));
    Value::Object(named.collect())
}

fn figures(runtime: &Runtime) -> Vec<Figure<'_>> {
    let mut figures = vec![
        Figure {
            name: "sleep_10000_ms".to_owned(),
            contest: Contest::new([
                "TaskGroup",
                "JoinSet",
                "FuturesUnordered",
                "JoinHandles",
                "detached",
                "TaskGroup_values",
            ]),
            run: Box::new(|which| match which {
                0 => timed(|| run(runtime, sleep_in_group(TASKS))),
                1 => timed(|| run(runtime, sleep_in_join_set(TASKS))),
                2 => timed(|| run(runtime, sleep_in_unordered(TASKS))),
                3 => timed(|| run(runtime, sleep_in_handles(TASKS))),
                4 => timed(|| run(runtime, sleep_detached(TASKS))),
                _ => timed(|| run(runtime, sleep_in_group_with_values(TASKS))),
            }),
            unit: |time| time.as_secs_f64() * 1e3,
        },
        Figure {
            name: "sleep_larger_10000_ms".to_owned(),
            contest: Contest::new(["TaskGroup", "JoinSet"]),
            run: Box::new(|which| match which {
                0 => timed(|| run(runtime, sleep_larger_in_group(TASKS))),
                _ => timed(|| run(runtime, sleep_larger_in_join_set(TASKS))),
            }),
            unit: |time| time.as_secs_f64() * 1e3,
        },
        Figure {
            name: "switch_ns".to_owned(),
            contest: Contest::new(["TaskGroup", "JoinSet"]),
            run: Box::new(|which| match which {
                0 => timed(|| run(runtime, yield_in_group(YIELDING, YIELDS))),
                _ => timed(|| run(runtime, yield_in_join_set(YIELDING, YIELDS))),
            }),
            unit: |time| time.as_secs_f64() * 1e9 / (YIELDING * YIELDS) as f64,
        },
        Figure {
            name: "delay_us".to_owned(),
            contest: Contest::new(["TaskGroup", "JoinSet"]),
            run: Box::new(|which| match which {
                0 => run(runtime, delay_in_group(DELAYED, YIELDING)),
                _ => run(runtime, delay_in_join_set(DELAYED, YIELDING)),
            }),
            unit: |time| time.as_secs_f64() * 1e6,
        },
    ];
    figures.extend(PAIRS.map(|pairs| {
        let kinds: Vec<Kind> = KINDS.into_iter().filter(|kind| kind.takes(pairs)).collect();
        Figure {
            name: format!("queue_{pairs}_to_{pairs}_ns"),
            contest: Contest::new(kinds.iter().map(|kind| kind.name())),
            run: Box::new(move |which| timed(|| kinds[which].run(runtime, pairs, ITEMS))),
            unit: |time| time.as_secs_f64() * 1e9 / ITEMS as f64,
        }
    }));
    figures
}

/// Run as a task, as a server's handlers are: what `block_on` is given does not run on a worker.
fn run<T: Send + 'static>(runtime: &Runtime, scenario: impl Future<Output = T> + Send + 'static) -> T {
    runtime.block_on(async { tokio::spawn(scenario).await.expect("the scenario does not panic") })
}

fn timed(work: impl FnOnce()) -> Vec<Duration> {
    let started = Instant::now();
    work();
    vec![started.elapsed()]
}

fn quantile(samples: &mut [Duration], at: f64) -> Duration {
    samples.sort_unstable();
    let last = samples.len().saturating_sub(1);
    samples.get((last as f64 * at) as usize).copied().unwrap_or_default()
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
