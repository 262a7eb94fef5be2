//! One limit in use: its rule, its counters, and the one place in which requests are judged.

use std::hash::Hasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, Method};

use super::key::address;
use crate::decision::Decision;
use crate::fields::Fields;
use crate::limiter::Limiter;
use crate::listener::{self, CountedAs};
use crate::networks::Networks;
use crate::quota::Quota;
use crate::table::{TICKS, Table};

/// Refusals are logged at most this often, in ticks.
const LOG_INTERVAL: u64 = 10 * TICKS;

/// Feeds the key of a request to a hasher; says whether there is one.
type HashKey = dyn Fn(&Parts, u8, &mut dyn Hasher) -> bool + Send + Sync;
type Cost = dyn Fn(&Parts) -> u32 + Send + Sync;

/// What a [`RateLimit`](crate::RateLimit) was told.
#[derive(Clone)]
pub(super) struct Rule {
    pub(super) quota: Quota,
    pub(super) name: Arc<str>,
    pub(super) key: Arc<HashKey>,
    pub(super) cost: Arc<Cost>,
    pub(super) exempt: Networks,
    pub(super) ipv6_prefix: u8,
    pub(super) report_only: bool,
    pub(super) table: Option<Arc<Table>>,
}

pub(super) struct Limit {
    rule: Rule,
    limiter: Limiter,
    refusals: AtomicU64,
    /// How many there were when the last line was logged.
    refusals_logged: AtomicU64,
    /// From when on the next line may be logged, in ticks of the table.
    log_next: AtomicU64,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on; its answer stays as it is.
    Pass,
    /// It goes on, and its answer gets fields.
    Tell(Decision),
    Refuse(Decision),
}

/// What a request is to be charged.
#[derive(Debug, Clone, Copy)]
struct Charge {
    /// Of its key, with the secret of the table.
    hash: u64,
    cost: u32,
}

impl Rule {
    /// A rule under which all requests have one key.
    pub(super) fn new(quota: Quota) -> Self {
        Self {
            quota,
            name: "default".into(),
            key: Arc::new(|_, _, _| true),
            cost: Arc::new(|_| 1),
            exempt: Networks::default(),
            ipv6_prefix: 64,
            report_only: false,
            table: None,
        }
    }
}

impl Limit {
    pub(super) fn new(rule: &Rule) -> Self {
        let limiter = match &rule.table {
            Some(table) => Limiter::with_table(&rule.name, rule.quota, Arc::clone(table)),
            None => Limiter::new(&rule.name, rule.quota),
        };
        let (refusals, refusals_logged, log_next) = Default::default();
        Self { rule: rule.clone(), limiter, refusals, refusals_logged, log_next }
    }

    /// Judges a request by the table of this process, and counts it unless it is refused.
    pub(super) fn decide(&self, parts: &Parts, now: Instant) -> Verdict {
        match self.charge(parts) {
            Some(charge) => self.judge(self.limiter.check_hash(charge.hash, charge.cost, now), now),
            None => Verdict::Pass,
        }
    }

    /// What a request is to be charged, if it is limited at all.
    fn charge(&self, parts: &Parts) -> Option<Charge> {
        if is_preflight(&parts.method, &parts.headers) {
            return None;
        }
        if !self.rule.exempt.is_empty() && self.rule.exempt.contains(address(&parts.extensions)) {
            return None;
        }
        let cost = (self.rule.cost)(parts);
        // What costs nothing is let through, and nobody is asked.
        let hash = (cost > 0).then(|| self.hash(parts, self.limiter.hasher())).flatten()?;
        Some(Charge { hash, cost })
    }

    /// The key of a request, hashed; `None` if it has none.
    fn hash(&self, parts: &Parts, mut hasher: impl Hasher) -> Option<u64> {
        (self.rule.key)(parts, self.rule.ipv6_prefix, &mut hasher).then(|| hasher.finish())
    }

    /// What a decision means for the request. All requests that are limited come by here, whoever has decided.
    fn judge(&self, decision: Decision, now: Instant) -> Verdict {
        if !decision.allowed {
            self.refusals.fetch_add(1, Ordering::Relaxed);
            self.log(now);
        }
        listener::tell(match (decision.allowed, self.rule.report_only) {
            (true, _) => CountedAs::Allowed,
            (false, true) => CountedAs::Reported,
            (false, false) => CountedAs::Refused,
        });
        match (self.rule.report_only, decision.allowed) {
            (true, _) => Verdict::Pass,
            (false, false) => Verdict::Refuse(decision),
            (false, true) if self.fields().are_due(&decision) => Verdict::Tell(decision),
            (false, true) => Verdict::Pass,
        }
    }

    pub(super) fn fields(&self) -> &Fields {
        self.limiter.fields()
    }

    pub(super) fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// At most one line per interval, by whichever core comes first.
    fn log(&self, now: Instant) {
        let now = self.limiter.table().ticks(now);
        let next = self.log_next.load(Ordering::Relaxed);
        let due = now >= next;
        if !due
            || self.log_next.compare_exchange(next, now + LOG_INTERVAL, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        let refusals = self.refusals();
        let refused = refusals.saturating_sub(self.refusals_logged.swap(refusals, Ordering::Relaxed));
        let (name, quota) = (self.limiter.name(), self.limiter.quota());
        match self.rule.report_only {
            true => {
                tracing::warn!(limit = name, %quota, requests = refused, "the rate limit would refuse requests (report only)")
            }
            false => tracing::info!(limit = name, %quota, requests = refused, "the rate limit refuses requests"),
        }
    }
}

/// With a store that instances share. What is decided there is judged as what is decided here.
#[cfg(feature = "redis")]
impl Limit {
    /// Judges a request by the shared store; by the table of this process, at its share of the budget, where the store does not decide.
    pub(super) fn decide_shared(
        self: &Arc<Self>,
        store: &crate::RedisStore,
        parts: &Parts,
    ) -> Option<impl Future<Output = Verdict> + Send + use<>> {
        let Charge { hash, cost } = self.charge(parts)?;
        let [first, second] = [0, 1].map(|half| self.hash(parts, crate::store::hasher(half)));
        let halves = [first?, second?];
        let (limit, store) = (Arc::clone(self), store.clone());
        Some(async move {
            let quota = limit.limiter.quota();
            let shared = store.check(limit.limiter.name(), halves, cost, &quota).await;
            let now = tokio::time::Instant::now().into_std();
            let decision = shared.unwrap_or_else(|_| {
                // As many times the cost as there are instances: the same as that part of the budget. One request is always within it.
                let instances = store.instances().min(quota.burst() / cost.max(1)).max(1);
                let decision = limit.limiter.check_hash(hash, cost * instances, now);
                Decision { remaining: decision.remaining / instances, ..decision }
            });
            limit.judge(decision, now)
        })
    }
}

/// Whether a browser asks for the leave to send a request (Fetch, section 3.3.2), which it does without the fields that a key may
/// need, and cannot retry.
fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(ORIGIN) && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}
