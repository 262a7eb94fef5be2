//! A thousand seeds, or any number, or one with all that happens in it; and every call of some scenarios.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use baiwan_driver::sim::Call;

use super::super::table::taken;
use super::call::{at_call, every_call};
use super::{Outcome, replay, run, run_bytes};

/// Seeds that are played when nobody says how many.
const SEEDS: u64 = 1000;
/// Scenarios in which every call has every fault; between them, bodies, streams, pipelining and a stop.
const SCENARIOS: [u64; 3] = [0, 4, 7];

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number(name: &str) -> Option<u64> {
    variable(name).map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is a number, not {value:?}")))
}

/// A failure, or a panic where there must be none, as one text.
fn caught<T>(play: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(play)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or("a panic".into()))
    })
}

/// Plays seeds on all processors; the failures, the lowest seed first.
fn play(seeds: std::ops::Range<u64>) -> (Outcome, Vec<(u64, String)>) {
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let worker = || {
        let (mut sum, mut failures) = (Outcome::default(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= seeds.end || failures.len() > 7 {
                return (sum, failures);
            }
            match caught(|| run(seed)) {
                Ok(outcome) => {
                    sum.connections += outcome.connections;
                    sum.requests += outcome.requests;
                    sum.answered += outcome.answered;
                    sum.turns += outcome.turns;
                }
                Err(why) => failures.push((seed, why)),
            }
        }
    };
    let parts: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().expect("panics are caught")).collect()
    });
    let (mut sum, mut failures) = (Outcome::default(), Vec::new());
    for (part, failed) in parts {
        sum.connections += part.connections;
        sum.requests += part.requests;
        sum.answered += part.answered;
        sum.turns += part.turns;
        failures.extend(failed);
    }
    failures.sort();
    (sum, failures)
}

#[test]
fn seeds_hold_what_is_promised() {
    if let Some(seed) = number("SEED") {
        match caught(|| replay(seed)) {
            Ok(outcome) => eprintln!("{outcome:?}"),
            Err(why) => panic!("seed {seed}: {why}"),
        }
        return;
    }
    let first = number("FIRST_SEED").unwrap_or(0);
    let seeds = number("SEEDS").unwrap_or(SEEDS);
    let (sum, failures) = play(first..first + seeds);
    for (seed, why) in failures.iter().skip(1) {
        eprintln!("seed {seed} fails too: {why}");
    }
    if let Some((seed, why)) = failures.first() {
        panic!("seed {seed} fails; replay: SEED={seed} cargo test -p baiwan --lib simulation\n{why}");
    }
    eprintln!("{seeds} seeds: {sum:?}");
    assert!(sum.answered > 5 * seeds, "most seeds have something to say: {sum:?}");
    if seeds >= SEEDS {
        let missing = taken::missing();
        assert!(missing.is_empty(), "edges between states that no connection has taken: {missing:?}");
    }
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    assert_ne!(run(1).unwrap().digest, run(2).unwrap().digest);
}

#[test]
fn every_fault_at_every_call_holds_what_is_promised() {
    // As a failure prints it: scenario, call, number, fault.
    if let Some(at) = variable("AT") {
        let parts: Vec<&str> = at.split(' ').collect();
        let [scenario, call, count, kind] = parts[..] else { panic!("AT has four parts: {at:?}") };
        let call = Call::ALL.into_iter().find(|known| format!("{known:?}") == call).expect("a kind of call");
        let fault = (call, count.parse().unwrap(), kind.parse().unwrap());
        at_call(scenario.parse().unwrap(), Some(fault), true).unwrap();
        return;
    }
    if variable("SEED").is_some() {
        return;
    }
    for scenario in SCENARIOS {
        match every_call(scenario) {
            Ok(outcomes) => {
                eprintln!("scenario {scenario}: {outcomes:?}");
                assert!(outcomes.runs > 100);
            }
            Err((Some((call, count, kind)), why)) => {
                let at = format!("AT='{scenario} {call:?} {count} {kind}'");
                panic!("call {count} fails; replay: {at} cargo test -p baiwan --lib simulation\n{why}");
            }
            Err((None, why)) => panic!("scenario {scenario}, without a fault: {why}"),
        }
    }
}

#[test]
fn bytes_decide_a_run_as_well() {
    run_bytes(&[]);
    let bytes: Vec<u8> = (0..4000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    run_bytes(&bytes);
    run_bytes(&bytes[1000..]);
}
