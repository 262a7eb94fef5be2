//! What becomes of keys, and of honest clients, where there are very many. The clock is held: nothing depends on the machine.

use std::sync::Arc;
use std::time::Duration;

use baiwan_limits::{Limiter, Table};
use serde_json::{Value, json};

use crate::memory::resident_bytes;
use crate::stores::{client, now};

/// As many as the service allows by default, a second and at once.
const PER_SECOND: u32 = 100;

const HONEST: u32 = 1_000;

/// Clients of the flood have numbers from here on.
const SPOOFED: u32 = 1 << 24;

fn limiter() -> Limiter {
    let quota = baiwan_limits::Quota::per_second(PER_SECOND).expect("a quota");
    Limiter::with_table("bench", quota, Arc::new(Table::new()))
}

/// How many of `keys` that come at once have lost their entry.
pub(crate) fn lost(keys: u32) -> Value {
    let (limiter, now) = (limiter(), now());
    for number in 0..keys {
        limiter.check(&client(number), 1, now);
    }
    let lost = (0..keys).filter(|number| limiter.check(&client(*number), 0, now).remaining == PER_SECOND).count();
    json!({ "keys": keys, "entries": limiter.table().entries(), "lost": lost, "evictions": limiter.table().evictions() })
}

/// Honest clients that ask for half as much again as they may, evenly, for ten seconds, in which `spoofed` others come: once each,
/// spread over the time, or all at once in the middle of it.
pub(crate) fn honest_clients(spoofed: u32) -> anyhow::Result<Value> {
    Ok(json!({ "spread": honest_share(|_| spoofed / STEPS)?,
               "at once": honest_share(|step| if step == STEPS / 2 { spoofed } else { 0 })? }))
}

/// Requests of each honest client.
const STEPS: u32 = 1_500;
const STEP: Duration = Duration::from_nanos(10_000_000_000 / STEPS as u64);

fn honest_share(arriving: impl Fn(u32) -> u32) -> anyhow::Result<Value> {
    let (limiter, start) = (limiter(), now());
    let mut let_through = vec![0_u32; HONEST as usize];
    let mut next = SPOOFED;
    let mut resident = Vec::new();
    for step in 0..STEPS {
        let now = start + STEP * step;
        for _ in 0..arriving(step) {
            limiter.check(&client(next), 1, now);
            next += 1;
        }
        for (number, count) in (0..HONEST).zip(&mut let_through) {
            *count += u32::from(limiter.check(&client(number), 1, now).allowed);
        }
        if step % (STEPS / 10) == 0 {
            resident.push(resident_bytes()?);
        }
    }
    let budget = (STEP * (STEPS - 1)).as_secs_f64() * f64::from(PER_SECOND) + f64::from(PER_SECOND);
    let share = |count: Option<&u32>| count.map(|count| f64::from(*count) / budget);
    resident.push(resident_bytes()?);
    Ok(json!({
        "spoofed": next - SPOOFED,
        "least": share(let_through.iter().min()),
        "most": share(let_through.iter().max()),
        "resident_bytes": resident,
        "evictions": limiter.table().evictions(),
    }))
}
