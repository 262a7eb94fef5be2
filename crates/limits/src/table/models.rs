//! Models of a line that cores share: all orders of their steps, or many orders of more steps, chosen by fixed seeds.
//!
//! ```text
//! RUSTFLAGS="--cfg baiwan_shuttle" cargo test -p baiwan-limits --release --lib
//! ```
//!
//! A line has two entries here. Atomics are sequentially consistent in these models, as they are in the table.

use std::sync::Arc;

use shuttle::scheduler::{DfsScheduler, PctScheduler, RandomScheduler};
use shuttle::sync::atomic::AtomicU64 as Count;
use shuttle::{Config, Runner, thread};

use super::*;

const SEED: u64 = 0x6261_6977_616e;

/// Keys of one line, by their tags.
const SHARED: u64 = 1 << TIME_BITS;
const OTHERS: [u64; 2] = [2 << TIME_BITS, 3 << TIME_BITS];

/// The time of one burst, which is one request in most models.
const BURST: u64 = 100;

/// Plays all orders.
fn all_orders(model: impl Fn() + Send + Sync + 'static) {
    Runner::new(DfsScheduler::new(None, false), Config::new()).run(model);
}

/// Plays orders that are random, and such that have few but unlikely preemptions.
fn many_orders(model: impl Fn() + Send + Sync + Clone + 'static) {
    let rounds = std::env::var("MODEL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(3_000);
    Runner::new(RandomScheduler::new_from_seed(SEED, rounds), Config::new()).run(model.clone());
    Runner::new(PctScheduler::new_from_seed(SEED, 4, rounds), Config::new()).run(model);
}

/// Runs each core in a thread of its own: it charges the shared key once at each of its times. How many were let through.
fn cores<const N: usize>(table: &Arc<Table>, times: [&'static [u64]; N], cost: u64) -> u64 {
    let admitted = Arc::new(Count::new(0));
    let cores = times.map(|times| {
        let (table, admitted) = (Arc::clone(table), Arc::clone(&admitted));
        thread::spawn(move || {
            for now in times {
                let charge = table.charge(SHARED, BURST, cost, *now);
                admitted.fetch_add(charge.admitted.into(), Ordering::SeqCst);
            }
        })
    });
    for core in cores {
        core.join().unwrap();
    }
    admitted.load(Ordering::SeqCst)
}

/// A line that a core at time 0 finds in debt, the second entry less so, and one at time 10 expired: they put a new key into
/// different entries.
fn contested() -> Arc<Table> {
    let table = Arc::new(Table::with_entries(ENTRIES));
    assert!(table.charge(OTHERS[0], BURST, 6, 0).admitted);
    assert!(table.charge(OTHERS[1], BURST, 5, 0).admitted);
    table
}

#[test]
fn two_cores_that_insert_a_key_into_different_entries_share_its_budget() {
    all_orders(|| {
        let admitted = cores(&contested(), [&[0], &[10]], BURST);
        // Each may find the other's entry after its own and be refused for it.
        assert!(admitted <= 1, "{admitted} instead of 1");
    });
}

#[test]
fn three_cores_that_insert_a_key_into_different_entries_share_its_budget() {
    many_orders(|| {
        let admitted = cores(&contested(), [&[0, 0], &[10, 10], &[0, 10]], BURST / 2);
        assert!(admitted <= 2, "{admitted} instead of 2");
    });
}

#[test]
fn cores_that_find_the_same_place_let_through_exactly_the_burst() {
    many_orders(|| {
        let table = Arc::new(Table::with_entries(ENTRIES));
        assert_eq!(cores(&table, [&[0, 0], &[0, 0], &[0, 0]], BURST / 4), 4);
        assert_eq!(table.evictions(), 0);
    });
}

#[test]
fn a_core_that_comes_late_with_an_old_time_takes_nothing_that_was_not_there_then() {
    const LATER: u64 = 8 * STEP;
    many_orders(|| {
        let table = Arc::new(Table::with_entries(ENTRIES));
        let admitted = cores(&table, [&[0, 0, 0], &[LATER, LATER], &[0, LATER]], BURST);
        // One at time 0, and one later.
        assert!((1..=2).contains(&admitted), "{admitted}");
    });
}

#[test]
fn keys_that_come_and_go_beside_it_give_a_key_nothing_unless_it_is_counted() {
    many_orders(|| {
        let table = contested();
        let neighbour = {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                for now in [10, 13, 16] {
                    table.charge(OTHERS[now as usize % 2], BURST, 3, now);
                }
            })
        };
        let admitted = cores(&table, [&[13, 10], &[10, 16]], BURST);
        neighbour.join().unwrap();
        // Only if the key was in both entries, and a neighbour had to take one of them.
        assert!(admitted <= 1 || table.evictions() > 0, "{admitted} instead of 1");
    });
}
