//! One rate limit: the generic cell rate algorithm over a shared table.
//!
//! The algorithm is that of ITU-T Recommendation I.371 (03/2004), Annex A.1, "virtual scheduling": each key has a theoretical
//! arrival time; a request conforms if that lies at most a tolerance ahead, and moves it by one period. All numbers are whole: time is
//! counted in ticks of 2^-20 s, and a period is rounded up, so that the rate is never exceeded. It is less by a tick of each period at the
//! most: less than 1 % at 10,000 a second, where a period has 104 ticks.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use crate::client_ip::ClientKey;
use crate::decision::Decision;
use crate::fields::Fields;
use crate::quota::Quota;
use crate::table::{Charge, TICKS, Table, duration_ceil};

/// The table of all limits that are not given one, made on first use.
static TABLE: LazyLock<Arc<Table>> = LazyLock::new(|| Arc::new(Table::new()));

/// Numbers the limits of the process.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// A time as a limit counts it: what several checks at the same time have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Since the first check of the limit's table.
    ticks: u64,
}

impl Moment {
    /// Milliseconds since the first check of the limit's table.
    pub fn as_millis(self) -> u64 {
        self.ticks / TICKS * 1_000 + self.ticks % TICKS * 1_000 / TICKS
    }
}

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
    /// Random, added to each key's hash: the keys of one limit are not those of another in the same table.
    offset: u64,
    /// How much time one request takes, in ticks.
    period: u64,
    /// The time of a whole burst, in ticks.
    tolerance: u64,
    /// A client whose debt is not more has nothing to be told, in ticks.
    debt_untold_max: u64,
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
        let mut hasher = table.hasher();
        ("limit", NEXT_ID.fetch_add(1, Ordering::Relaxed)).hash(&mut hasher);
        let name = name.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).collect();
        Self::counting(name, quota, table, hasher.finish())
    }

    /// The same limit with another quota: for one that changes while it is in use. Both may be asked at the same time, as long as some of
    /// the callers have not heard of the change.
    ///
    /// What a key owes is kept as the time at which its burst will be whole again, and that time stays. So a key that owes a second of an
    /// old quota of 100 a second, which is 100 requests, owes a second of the new one: 10 requests at 10 a second, 1000 at 1000. A key that
    /// owes more time than the whole burst of the new quota takes to come back begins anew, with a whole burst.
    #[must_use]
    pub fn with_quota(&self, quota: Quota) -> Self {
        Self::counting(self.name.clone(), quota, Arc::clone(&self.table), self.offset)
    }

    fn counting(name: Box<str>, quota: Quota, table: Arc<Table>, offset: u64) -> Self {
        // At most an hour for one request: a burst of at least 1 comes back within an hour.
        let period = (quota.window().as_secs() * TICKS).div_ceil(quota.requests().into());
        let tolerance = period * u64::from(quota.burst());
        Self {
            fields: Fields::new(&name, quota),
            name,
            quota,
            offset,
            period,
            tolerance,
            // As `Fields::are_due` has it, in requests.
            debt_untold_max: tolerance - period * u64::from(quota.burst()).div_ceil(4),
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

    /// A time for [`check_client`](Self::check_client), from the caller's clock. It counts with this limit, and others of its table.
    pub fn moment(&self, now: Instant) -> Moment {
        Moment { ticks: self.table.ticks(now) }
    }

    /// Counts a request of a client, unless that would be too much. Returns what to tell it; `None` is a request that is allowed, of a
    /// client that has a quarter of its burst left ([`Fields::are_due`]).
    ///
    /// For servers that count every request: the same limit as [`check`](Self::check), for less than half of its price. The keys of the two are
    /// not the same, so one limit should be asked in one of these ways.
    ///
    /// ```
    /// use baiwan_limits::{ClientKey, Limiter};
    ///
    /// let limiter = Limiter::new("default", "4/min".parse()?);
    /// let now = limiter.moment(tokio::time::Instant::now().into_std());
    /// let client = ClientKey::new("192.0.2.1".parse()?, 64);
    /// for _ in 0..3 {
    ///     assert_eq!(limiter.check_client(client, now), None);
    /// }
    /// let last = limiter.check_client(client, now).expect("nothing is left");
    /// assert!(last.allowed && last.remaining == 0);
    /// assert!(limiter.check_client(client, now).is_some_and(|refused| !refused.allowed));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn check_client(&self, client: ClientKey, now: Moment) -> Option<Decision> {
        let hash = self.table.clients().hash(client).wrapping_add(self.offset);
        let charge = self.table.charge(hash, self.tolerance, self.period, now.ticks);
        let is_untold = charge.admitted && charge.debt <= self.debt_untold_max;
        (!is_untold).then(|| self.decide(charge, 1))
    }

    /// A hasher for the keys of this limit.
    pub(crate) fn hasher(&self) -> impl Hasher + use<> {
        self.table.hasher()
    }

    /// As [`check`](Self::check), by what [`hasher`](Self::hasher) made of the key.
    pub(crate) fn check_hash(&self, hash: u64, cost: u32, now: Instant) -> Decision {
        // At most 2^32 requests of 2^32 ticks each.
        let cost_ticks = u64::from(cost) * self.period;
        let charge =
            self.table.charge(hash.wrapping_add(self.offset), self.tolerance, cost_ticks, self.table.ticks(now));
        self.decide(charge, cost)
    }

    fn decide(&self, charge: Charge, cost: u32) -> Decision {
        let cost_ticks = u64::from(cost) * self.period;
        let retry_after = match charge.admitted {
            true => Duration::ZERO,
            false if cost > self.quota.burst() => self.quota.window(),
            false => duration_ceil((charge.debt + cost_ticks).saturating_sub(self.tolerance)),
        };
        Decision {
            allowed: charge.admitted,
            // Both are less than 2^32, for which processors divide faster.
            remaining: self.tolerance.saturating_sub(charge.debt) as u32 / self.period as u32,
            reset: duration_ceil(charge.debt),
            retry_after,
        }
    }
}
