//! What runs in the server: the generic cell rate algorithm on one key, and the count of instances.
//!
//! Lua's numbers are doubles: microseconds since a base of our own stay whole far beyond the life of a server.
//!
//! The invariant: what a key owes is never beyond the burst, whatever the server's clock does.

use std::time::Duration;

use redis::ScriptInvocation;

use crate::{Decision, Quota};

/// Charges a key. Arguments: microseconds for each unit, the burst in microseconds, the cost in units. Answer: whether it was let
/// through, and what the key owes now, in microseconds.
pub(super) const CHECK: &str = r"
local time = redis.call('TIME')
local now = (tonumber(time[1]) - 1767225600) * 1000000 + tonumber(time[2])
local unit, burst, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local arrival = tonumber(redis.call('GET', KEYS[1]) or now) or now
local owed = math.max(0, math.min(arrival - now, burst))
local charged = owed + unit * cost
if charged > burst then
    return {0, owed}
end
if cost > 0 then
    redis.call('SET', KEYS[1], string.format('%.0f', now + charged), 'PX', math.ceil(charged / 1000) + 1)
end
return {1, charged}
";

/// Counts an instance in. Key: the set of instances. Arguments: the name of this one, seconds after which one that is silent is counted
/// out. Answer: how many there are.
pub(super) const BEAT: &str = r"
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
redis.call('EXPIRE', KEYS[1], tonumber(ARGV[2]) * 2)
return redis.call('ZCARD', KEYS[1])
";

/// A quota in the units of the script.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    window: Duration,
    unit_us: u64,
    burst_us: u64,
    cost: u32,
}

impl Budget {
    pub(super) fn new(quota: &Quota, cost: u32) -> Self {
        // Rounded up, so that the rate is never exceeded.
        let window_us = quota.window().as_micros() as u64;
        let unit_us = window_us.div_ceil(u64::from(quota.requests()));
        Self { window: quota.window(), unit_us, burst_us: unit_us * u64::from(quota.burst()), cost }
    }

    /// Tells the budgets of one quota from those of another that has its name.
    pub(super) fn of_key(&self) -> (u64, u64) {
        (self.unit_us, self.burst_us)
    }

    pub(super) fn write(&self, invocation: &mut ScriptInvocation<'_>) {
        invocation.arg(self.unit_us).arg(self.burst_us).arg(self.cost);
    }

    /// What the script's answer means; None if it is not one.
    pub(super) fn decision(&self, (allowed, owed_us): (u8, u64)) -> Option<Decision> {
        let left_us = self.burst_us.checked_sub(owed_us)?;
        let cost_us = self.unit_us * u64::from(self.cost);
        let retry_after = match allowed {
            1 => Duration::ZERO,
            // Never: it says when to ask for less.
            _ if cost_us > self.burst_us => self.window,
            _ => Duration::from_micros(cost_us.saturating_sub(left_us)),
        };
        Some(Decision {
            allowed: allowed == 1,
            remaining: (left_us / self.unit_us) as u32,
            reset: Duration::from_micros(owed_us),
            retry_after,
        })
    }
}
