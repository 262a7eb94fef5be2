//! One rate limit: the generic cell rate algorithm over a shared table.
//!
//! The algorithm is that of ITU-T Recommendation I.371 (03/2004), Annex A.1, "virtual scheduling": each key has a theoretical
//! arrival time; a request conforms if that lies at most a tolerance ahead, and moves it by one period. All numbers are whole: time is
//! counted in ticks of 2^-20 s, and a period is rounded up, so that the rate is never exceeded (it is at most 0.14 % less, at
//! 10,000 a second).

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use crate::decision::Decision;
use crate::fields::Fields;
use crate::quota::Quota;
use crate::table::{TICKS, Table, duration_ceil};

/// The table of all limits that are not given one, made on first use.
static TABLE: LazyLock<Arc<Table>> = LazyLock::new(|| Arc::new(Table::new()));

/// Tells the keys of one limit from those of another in the same table.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// A limit of how often each key may ask; shared by all cores.
///
/// Over any time `t`, each key is let through at most `rate * t + burst` times, whatever cores ask at once. A time that is more than a
/// millisecond behind the newest one counts as that, so a clock that moves back gives nothing away beyond this millisecond.
///
/// ```
/// use baiwan_limits::Limiter;
///
/// let limiter = Limiter::new("login", "2/min".parse()?);
/// let now = tokio::time::Instant::now().into_std();
/// assert_eq!(limiter.check(&"alice", 1, now).remaining, 1);
/// assert!(limiter.check(&"alice", 1, now).allowed);
/// let refused = limiter.check(&"alice", 1, now);
/// assert!(!refused.allowed);
/// assert_eq!(refused.retry_after.as_secs(), 30);
/// assert!(limiter.check(&"bob", 1, now).allowed);
/// # Ok::<(), baiwan_limits::QuotaError>(())
/// ```
#[derive(Debug)]
pub struct Limiter {
    name: Box<str>,
    quota: Quota,
    id: u64,
    /// How much time one request takes, in ticks.
    period: u64,
    /// The time of a whole burst, in ticks.
    tolerance: u64,
    table: Arc<Table>,
    fields: Fields,
}

impl Limiter {
    /// A limit with a table that all limits of the process share, of 16 MiB at the most.
    ///
    /// The name is what clients read in `RateLimit` and in the problem document. It should be printable ASCII; what is not becomes `?`.
    pub fn new(name: &str, quota: Quota) -> Self {
        Self::with_table(name, quota, Arc::clone(&TABLE))
    }

    /// A limit with a table of the caller's, which several limits may share.
    pub fn with_table(name: &str, quota: Quota, table: Arc<Table>) -> Self {
        let name: Box<str> = name.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect();
        // At most an hour for one request: a burst of at least 1 comes back within an hour.
        let period = (quota.window().as_secs() * TICKS).div_ceil(quota.requests().into());
        Self {
            fields: Fields::new(&name, quota),
            name,
            quota,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            period,
            tolerance: period * u64::from(quota.burst()),
            table,
        }
    }

    /// What clients know the limit by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How often each key may ask.
    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// What clients are told of it.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// Where the keys are kept.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Counts a request of `cost` against the key, unless that would be too much.
    ///
    /// A cost of 0 is always allowed, and one above the burst never. `now` is the caller's clock, the same one for each check.
    pub fn check(&self, key: &impl Hash, cost: u32, now: Instant) -> Decision {
        let mut hasher = self.hasher();
        key.hash(&mut hasher);
        self.check_hash(hasher.finish(), cost, now)
    }

    /// A hasher for the keys of this limit.
    pub(crate) fn hasher(&self) -> impl Hasher {
        self.table.hasher(self.id)
    }

    /// As [`check`](Self::check), by what [`hasher`](Self::hasher) made of the key.
    pub(crate) fn check_hash(&self, hash: u64, cost: u32, now: Instant) -> Decision {
        // At most 2^32 requests of 2^32 ticks each.
        let cost_ticks = u64::from(cost) * self.period;
        let charge = self.table.charge(hash, self.tolerance, cost_ticks, self.table.ticks(now));
        let retry_after = match charge.admitted {
            true => Duration::ZERO,
            false if cost > self.quota.burst() => self.quota.window(),
            false => duration_ceil((charge.debt + cost_ticks).saturating_sub(self.tolerance)),
        };
        Decision {
            allowed: charge.admitted,
            remaining: u32::try_from(self.tolerance.saturating_sub(charge.debt) / self.period).unwrap_or(u32::MAX),
            reset: duration_ceil(charge.debt),
            retry_after,
        }
    }
}
