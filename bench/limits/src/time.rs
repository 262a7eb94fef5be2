//! How long a check takes where all keys are live, on one thread and on two.

use std::hint::black_box;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::stores::{self, Store, client, now};

/// Checks of one thread in a round.
const CHECKS: u32 = 200_000;

/// Fills all stores, and then has them take turns, round by round.
pub(crate) fn measure(keys: u32, rounds: u32) -> Value {
    // Each beside the one of governor's that reads the clock as it does.
    let stores: [Box<dyn Contestant>; 6] = [
        Box::new(stores::baiwan_clients()),
        Box::new(stores::baiwan()),
        Box::new(stores::governor()),
        Box::new(stores::baiwan_clients_told_time()),
        Box::new(stores::baiwan_told_time()),
        Box::new(stores::governor_told_time()),
    ];
    for store in &stores {
        store.fill(keys);
    }
    let mut figures = json!({ "keys": keys, "rounds": rounds });
    for threads in [1, 2] {
        let mut samples = [const { Vec::new() }; 6];
        for round in 0..rounds {
            for turn in 0..stores.len() {
                let which = (turn + round as usize) % stores.len();
                samples[which].push(stores[which].round(keys, threads, round).as_secs_f64() * 1e9 / f64::from(CHECKS));
            }
        }
        let ratios = |ours: usize, theirs: usize| {
            samples[ours].iter().zip(&samples[theirs]).map(|(ours, theirs)| ours / theirs).collect()
        };
        let ratios = [ratios(0, 2), ratios(1, 2), ratios(3, 5), ratios(4, 5)].map(median);
        figures[format!("{threads}")] = json!({
            "ns": stores.iter().zip(&samples).map(|(store, samples)| (store.name().to_owned(), median(samples.clone()).into())).collect::<serde_json::Map<_, _>>(),
            "ratios": ratios,
        });
    }
    figures
}

/// Nothing but checks of 10,000 live keys.
pub(crate) fn check_only(store: &str, checks: u32) -> anyhow::Result<Value> {
    const KEYS: u32 = 10_000;
    let store = stores::store(store)?;
    for number in 0..KEYS {
        store.check(client(number));
    }
    for number in 0..checks {
        black_box(store.check(client(number % KEYS)));
    }
    Ok(json!({ "checks": checks }))
}

/// A store in a loop that knows its type.
trait Contestant {
    fn name(&self) -> &'static str;
    fn fill(&self, keys: u32);
    fn round(&self, keys: u32, threads: u32, round: u32) -> Duration;
}

impl<S: Store> Contestant for S {
    fn name(&self) -> &'static str {
        Store::name(self)
    }

    fn fill(&self, keys: u32) {
        for number in 0..keys {
            self.check(client(number));
        }
    }

    /// The time of the slowest thread.
    fn round(&self, keys: u32, threads: u32, round: u32) -> Duration {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..threads)
                .map(|thread| scope.spawn(move || some_checks(self, keys, round * threads + thread + 1)))
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no check panics")).max().unwrap_or_default()
        })
    }
}

fn some_checks<S: Store>(store: &S, keys: u32, seed: u32) -> Duration {
    let mut random = u64::from(seed) << 32 | 0x9e37_79b9;
    let started = now();
    for _ in 0..CHECKS {
        // Marsaglia, "Xorshift RNGs" (2003).
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        black_box(store.check(client((((random >> 32) * u64::from(keys)) >> 32) as u32)));
    }
    now() - started
}

pub(crate) fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}
