//! What a limiter promises, on a clock that the test holds.

#![cfg(not(baiwan_shuttle))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use baiwan_limits::{ClientKey, Limiter, Quota, Table};
use proptest::prelude::*;

const TICK: Duration = Duration::from_nanos(954);

fn start() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// One line of eight entries: eight keys and no more fit in.
fn limiter(quota: &str) -> Limiter {
    Limiter::with_table("test", quota.parse().unwrap(), Arc::new(Table::with_entries(8)))
}

#[test]
fn a_burst_is_let_through_at_once_and_comes_back_at_the_rate() {
    let (limiter, start) = (limiter("10/s burst 3"), start());
    for left in [2, 1, 0] {
        let decision = limiter.check(&1, 1, start);
        assert!(decision.allowed);
        assert_eq!(decision.remaining, left);
    }
    let refused = limiter.check(&1, 1, start);
    assert!(!refused.allowed);
    assert_eq!(refused.remaining, 0);
    assert_eq!(refused.retry_after.as_millis(), 100);
    assert_eq!(refused.reset.as_millis(), 300);

    assert!(
        !limiter.check(&1, 1, start + refused.retry_after - 2 * TICK).allowed,
        "a refusal says no longer than it must"
    );
    assert!(limiter.check(&1, 1, start + refused.retry_after).allowed, "and no shorter");
    assert!(!limiter.check(&1, 1, start + refused.retry_after).allowed);
}

#[test]
fn a_refusal_takes_nothing_from_the_budget() {
    let (limiter, start) = (limiter("1/s"), start());
    assert!(limiter.check(&1, 1, start).allowed);
    for tenth in 1..10 {
        assert!(!limiter.check(&1, 1, start + Duration::from_millis(100 * tenth)).allowed);
    }
    assert!(limiter.check(&1, 1, start + Duration::from_secs(1)).allowed);
}

#[test]
fn a_cost_of_nothing_is_always_allowed_and_one_above_the_burst_never() {
    let (limiter, start) = (limiter("5/min"), start());
    let never = limiter.check(&1, 6, start);
    assert!(!never.allowed);
    assert_eq!((never.remaining, never.retry_after), (5, Duration::from_secs(60)));
    assert!(!limiter.check(&1, u32::MAX, start).allowed);

    assert_eq!(limiter.check(&1, 3, start).remaining, 2);
    let costly = limiter.check(&1, 4, start);
    assert!(!costly.allowed);
    assert_eq!((costly.remaining, costly.retry_after.as_secs()), (2, 24));
    assert_eq!(limiter.check(&1, 0, start).remaining, 2, "asking costs nothing");
    assert!(limiter.check(&1, 2, start).allowed);
    let spent = limiter.check(&1, 0, start);
    assert!(spent.allowed);
    assert_eq!((spent.remaining, spent.reset.as_secs()), (0, 60));
}

#[test]
fn another_quota_takes_over_what_keys_owe_as_time() {
    let (limiter, start) = (limiter("128/s"), start());
    assert!((0..128).all(|_| limiter.check(&1, 1, start).allowed));
    assert!(!limiter.check(&1, 1, start).allowed);
    // A second is owed, which was all of the burst; of these bursts it is as much as comes back in a second.
    let slower = limiter.with_quota("60/min".parse().unwrap());
    assert_eq!((slower.name(), slower.check(&1, 1, start).remaining), ("test", 58));
    assert_eq!(slower.check(&2, 1, start).remaining, 59, "who owes nothing has a whole burst");
    // 59 seconds more than that are owed now, which is more than the whole burst of this one.
    assert!(slower.check(&1, 58, start).allowed && !slower.check(&1, 1, start).allowed);
    let faster = slower.with_quota("10/s".parse().unwrap());
    assert_eq!(
        faster.check(&1, 1, start).remaining,
        9,
        "such a debt is forgotten: nobody waits longer than the new limit says"
    );
    let back = faster.with_quota("60/min".parse().unwrap());
    assert!(!back.check(&1, 1, start).allowed, "a change to and fro gives nothing away");
}

#[test]
fn limits_that_share_a_table_count_apart() {
    let (table, start) = (Arc::new(Table::with_entries(8)), start());
    let slow = Limiter::with_table("slow", "1/h".parse().unwrap(), Arc::clone(&table));
    let fast = Limiter::with_table("fast", "2/s".parse().unwrap(), Arc::clone(&table));
    assert!(slow.check(&1, 1, start).allowed);
    assert!(!slow.check(&1, 1, start).allowed);
    assert!(fast.check(&1, 2, start).allowed);
    assert!(!fast.check(&1, 1, start).allowed);
    assert!(fast.check(&1, 1, start + Duration::from_secs(1)).allowed);
    assert!(!slow.check(&1, 1, start + Duration::from_secs(3599)).allowed);
    assert!(slow.check(&1, 1, start + Duration::from_secs(3600)).allowed);
    assert_eq!(table.evictions(), 0);
}

#[test]
fn the_least_debt_gives_way_and_is_counted() {
    let (limiter, start) = (limiter("100/s"), start());
    for key in 0..8 {
        assert!(limiter.check(&key, 10 + key, start).allowed);
    }
    assert_eq!(limiter.table().evictions(), 0);
    assert_eq!(limiter.check(&8, 1, start).remaining, 99);
    assert_eq!(limiter.table().evictions(), 1);
    assert_eq!(limiter.check(&0, 0, start).remaining, 100, "the key with the least debt has lost its entry");
    for key in 1..8 {
        assert_eq!(limiter.check(&key, 0, start).remaining, 90 - key);
    }
    let later = start + Duration::from_secs(2);
    for key in 20..28 {
        assert!(limiter.check(&key, 1, later).allowed);
    }
    assert_eq!(limiter.table().evictions(), 1, "what has expired loses nothing");
}

#[test]
fn a_flood_of_keys_takes_the_places_of_the_flood() {
    let (limiter, start) = (limiter("100/s"), start());
    assert!(limiter.check(&"honest", 60, start).allowed);
    for key in 0..100_000 {
        assert!(limiter.check(&key, 1, start).allowed);
    }
    assert_eq!(limiter.check(&"honest", 0, start).remaining, 40);
    assert_eq!(limiter.table().entries(), 8);
}

#[test]
fn a_key_that_comes_back_when_the_time_has_wrapped_has_its_whole_burst() {
    let (limiter, start) = (limiter("100/s"), start());
    for days in [0, 1, 12, 13, 25, 400] {
        assert_eq!(limiter.check(&1, 100, start + Duration::from_secs(days * 86_400)).remaining, 0, "day {days}");
    }
}

#[test]
fn a_clock_that_moves_back_gives_nothing_away() {
    let (limiter, start) = (limiter("10/s"), start());
    let later = start + Duration::from_secs(10);
    assert!(limiter.check(&1, 10, later).allowed);
    assert!(limiter.check(&2, 1, start).allowed);
    for back in [0, 1, 999, 9_999, 3_000] {
        assert!(!limiter.check(&1, 1, start + Duration::from_millis(back)).allowed);
        assert!(!limiter.check(&2, 10, start + Duration::from_millis(back)).allowed);
    }
    assert!(!limiter.check(&1, 1, later).allowed);
    assert!(limiter.check(&1, 1, later + Duration::from_millis(101)).allowed);
}

#[test]
fn cores_together_stay_within_the_bound() {
    for round in 0..200 {
        let (limiter, start) = (limiter("1000/s burst 40"), start());
        let allowed = AtomicU32::new(0);
        thread::scope(|scope| {
            for core in 0..4 {
                let (limiter, allowed) = (&limiter, &allowed);
                scope.spawn(move || {
                    for _ in 0..40 {
                        limiter.check(&core, 1, start);
                        allowed.fetch_add(limiter.check(&"shared", 1, start).allowed.into(), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(allowed.into_inner(), 40, "round {round}");
    }
}

/// The algorithm as the recommendation has it, over a map that forgets nothing, in the same whole ticks.
struct Naive {
    quota: Quota,
    arrivals: HashMap<u8, u128>,
}

impl Naive {
    fn allows(&mut self, key: u8, cost: u32, since_start: Duration) -> bool {
        let period =
            (self.quota.window().as_nanos() * (1 << 20) / 1_000_000_000).div_ceil(self.quota.requests().into());
        let now = since_start.as_nanos() * (1 << 20) / 1_000_000_000;
        let arrival = self.arrivals.get(&key).copied().unwrap_or(0).max(now) + period * u128::from(cost);
        let allowed = arrival <= now + period * u128::from(self.quota.burst());
        if allowed && cost > 0 {
            self.arrivals.insert(key, arrival);
        }
        allowed
    }
}

/// What was let through of one key: when by the newest clock that any check came with, and for which cost.
#[derive(Default)]
struct Log(Vec<(Duration, u32)>);

impl Log {
    /// Over any time `t`, at most `rate * t + burst`; `blur` is how exactly the time is known.
    fn check(&self, quota: Quota, blur: Duration) -> Result<(), TestCaseError> {
        for first in 0..self.0.len() {
            let mut sum = 0;
            for (until, cost) in &self.0[first..] {
                sum += u128::from(*cost);
                let time = (*until - self.0[first].0 + blur).as_nanos();
                let most = time * u128::from(quota.requests()) / quota.window().as_nanos() + u128::from(quota.burst());
                prop_assert!(sum <= most, "{sum} in {time} ns, where {quota} allows {most}");
            }
        }
        Ok(())
    }
}

fn quotas() -> impl Strategy<Value = Quota> {
    prop_oneof![1..=20_u32, 21..=10_000_u32]
        .prop_flat_map(|requests| {
            (Just(requests), prop_oneof![Just("s"), Just("min"), Just("h")], prop_oneof![1..10_u32, 1..=requests])
        })
        .prop_map(|(requests, unit, burst)| format!("{requests}/{unit} burst {burst}").parse::<Quota>())
        .prop_filter_map("bursts of at most an hour", Result::ok)
}

/// Steps of the clock that matter for a quota: none, parts of a period, and much more.
fn steps(back: bool) -> impl Strategy<Value = i64> {
    prop_oneof![4 => Just(0_i64), 4 => 0..2_000_000_i64, 4 => 0..2_000_000_000_i64, 1 => 0..4_000_000_000_000_i64]
        .prop_flat_map(
            move |step| if back { prop_oneof![2 => Just(step), 1 => Just(-step)].boxed() } else { Just(step).boxed() },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn a_clock_that_only_advances_has_the_decisions_of_the_naive_model(
        quota in quotas(),
        asked in prop::collection::vec((0..8_u8, 0..4_u32, steps(false)), 1..200),
    ) {
        let limiter = limiter(&quota.to_string());
        let (start, mut since_start) = (start(), Duration::ZERO);
        let mut naive = Naive { quota, arrivals: HashMap::new() };
        let mut logs: HashMap<u8, Log> = HashMap::new();
        for (key, cost, step) in asked {
            since_start += Duration::from_nanos(step.unsigned_abs());
            let decision = limiter.check(&key, cost, start + since_start);
            prop_assert_eq!(decision.allowed, naive.allows(key, cost, since_start));
            if decision.allowed {
                logs.entry(key).or_default().0.push((since_start, cost));
            } else if cost <= quota.burst() {
                let again = since_start + decision.retry_after;
                prop_assert!(limiter.check(&key, 0, start + since_start).remaining < cost);
                prop_assert!(decision.retry_after > Duration::ZERO && decision.retry_after <= decision.reset);
                prop_assert!(!naive.allows(key, cost, again.saturating_sub(2 * TICK).max(since_start)));
            }
        }
        for log in logs.values() {
            log.check(quota, TICK)?;
        }
    }

    #[test]
    fn no_request_too_many_whatever_the_clock_does(
        quota in quotas(),
        asked in prop::collection::vec((0..8_u8, 1..4_u32, steps(true)), 1..200),
    ) {
        let limiter = limiter(&quota.to_string());
        let (start, mut at, mut newest) = (start(), Duration::from_secs(20_000), Duration::ZERO);
        let mut logs: HashMap<u8, Log> = HashMap::new();
        for (key, cost, step) in asked {
            let size = Duration::from_nanos(step.unsigned_abs());
            at = if step < 0 { at.saturating_sub(size) } else { at + size };
            newest = newest.max(at);
            if limiter.check(&key, cost, start + at).allowed {
                logs.entry(key).or_default().0.push((newest, cost));
            }
        }
        for log in logs.values() {
            log.check(quota, Duration::from_millis(1))?;
        }
    }
}

#[test]
fn a_client_is_told_what_any_other_key_would_be_told_and_only_when_it_is_due() {
    for quota in ["1/s", "7/min burst 5", "100/s", "10000/h burst 3", "10000/s burst 10001"] {
        let [limiter, same] = [quota, quota].map(|quota| {
            let table = Arc::new(Table::with_entries(64));
            Limiter::with_table("test", quota.parse().unwrap(), table)
        });
        let start = start();
        let client = ClientKey::new("2001:db8::1".parse().unwrap(), 64);
        let mut told = 0;
        for step in 0..400_u32 {
            let now = start + Duration::from_millis(17) * (step / 7);
            let expected = same.check(&"key", 1, now);
            let found = limiter.check_client(client, limiter.moment(now));
            assert_eq!(found, same.fields().are_due(&expected).then_some(expected), "{quota}, step {step}");
            told += u32::from(found.is_some());
        }
        assert!(told > 0 || quota.starts_with("10000/s"), "{quota}");
    }
}

#[test]
fn clients_have_budgets_of_their_own_and_limits_have_clients_of_their_own() {
    let table = Arc::new(Table::new());
    let [first, second] =
        ["first", "second"].map(|name| Limiter::with_table(name, "1/h".parse().unwrap(), Arc::clone(&table)));
    let now = first.moment(start());
    for number in 0..1_000_u32 {
        let client = ClientKey::new(std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).into(), 64);
        for limiter in [&first, &second] {
            assert!(limiter.check_client(client, now).is_some_and(|last| last.allowed), "{number}");
            assert!(limiter.check_client(client, now).is_some_and(|refused| !refused.allowed), "{number}");
        }
    }
    assert_eq!(table.evictions(), 0);
}
