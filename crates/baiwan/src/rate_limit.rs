//! The rate limit of clients, as the gate asks it: who counts as whom, who is exempt, and what is said of it.
//!
//! The numbers are the limiter's (`baiwan_limits`), which all cores share without a lock. It is *not* decided here what becomes of a
//! request that is too much, nor which requests do not count: that is the gate's.
//!
//! The invariant: in report mode nothing is refused.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use baiwan_http1::{ShortAnswer, ShortField};
use baiwan_limits::{
    ClientKey, CountedAs, Decision, Fields, Limiter, Moment, Networks, PROBLEM_MEDIA_TYPE, Quota, Table,
};
use http::{HeaderMap, StatusCode};

use crate::say::say;

/// The name of the refusals of a rate limit, the server's or one among the layers of the app.
pub(crate) const RATE_LIMITED: &str = "rate-limited";
/// What clients know the server's limit by.
const NAME: &str = "default";
/// Pauses between two lines that say what report mode would refuse, at least.
const REPORT_PAUSE: Duration = Duration::from_secs(1);

/// What becomes of requests that are too many.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RateLimitMode {
    /// They are refused with 429.
    #[default]
    Enforce,
    /// They are let through, counted, and named in the log: to find out what a limit would do.
    Report,
}

impl RateLimitMode {
    /// The name that [`FromStr`] takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Report => "report",
        }
    }
}

impl FromStr for RateLimitMode {
    type Err = &'static str;

    /// The error says what is allowed.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Enforce, Self::Report];
        all.into_iter().find(|mode| mode.name() == text).ok_or("enforce or report")
    }
}

/// Which clients a limit counts, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scope {
    /// Clients that are never limited.
    pub exempt: Networks,
    /// Nor are those of this machine.
    pub exempts_loopback: bool,
    /// Bits of an IPv6 address that are one client.
    pub ipv6_prefix: u8,
}

/// Nobody is exempt; a /64 is one client.
impl Default for Scope {
    fn default() -> Self {
        Self { exempt: Networks::default(), exempts_loopback: false, ipv6_prefix: 64 }
    }
}

/// The limit in force; one for all cores.
#[derive(Debug)]
pub(crate) struct RateLimit {
    limiter: Limiter,
    mode: RateLimitMode,
    scope: Scope,
    report: Report,
}

/// What report mode has not said yet.
#[derive(Debug)]
struct Report {
    /// When it was said last, in milliseconds of the limit's time, plus one; 0 is never.
    said_ms: AtomicU64,
    unsaid: AtomicU64,
}

/// What a limit says to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ruling {
    /// It is let through. Its answer says how much is left, where that is little.
    Allowed(Option<Left>),
    /// It would have been refused.
    Reported,
    Refused(Decision),
}

/// How often rate limits among the layers have counted the request as what.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Decisions {
    pub(crate) allowed: u8,
    pub(crate) reported: u8,
    pub(crate) refused: u8,
}

impl Decisions {
    pub(crate) const NONE: Self = Self { allowed: 0, reported: 0, refused: 0 };

    pub(crate) fn one(counted: CountedAs) -> Self {
        match counted {
            CountedAs::Allowed => Self { allowed: 1, ..Self::NONE },
            CountedAs::Reported => Self { reported: 1, ..Self::NONE },
            CountedAs::Refused => Self { refused: 1, ..Self::NONE },
        }
    }

    pub(crate) fn add(&mut self, later: Self) {
        self.allowed = self.allowed.saturating_add(later.allowed);
        self.reported = self.reported.saturating_add(later.reported);
        self.refused = self.refused.saturating_add(later.refused);
    }

    /// Whether the app did not hear of the request.
    pub(crate) fn refuse(self) -> bool {
        self.refused > 0
    }
}

/// What is left of a client's limit, in 8 bytes: it waits with an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Left {
    remaining: u32,
    reset_s: u32,
}

impl Left {
    fn of(decision: &Decision) -> Self {
        let seconds = decision.reset.as_secs() + u64::from(decision.reset.subsec_nanos() > 0);
        Self { remaining: decision.remaining, reset_s: u32::try_from(seconds).unwrap_or(u32::MAX) }
    }

    fn decision(self) -> Decision {
        let reset = Duration::from_secs(self.reset_s.into());
        Decision { allowed: true, remaining: self.remaining, reset, retry_after: Duration::ZERO }
    }
}

/// What the answer to a request says of its client's limit.
#[derive(Clone, Debug)]
pub(crate) struct Warning {
    limit: Arc<RateLimit>,
    left: Left,
}

impl Warning {
    /// Adds its fields to those of the app's answer.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        self.limit.fields().insert(headers, &self.left.decision(), 0);
    }
}

impl RateLimit {
    pub(crate) fn new(quota: Quota, mode: RateLimitMode, scope: Scope) -> Arc<Self> {
        // A table of its own: the limits of an app, and other servers of the process, may have other clocks.
        Self::with(Limiter::with_table(NAME, quota, Arc::new(Table::new())), mode, scope)
    }

    /// The limit that takes the place of this one: what clients owe, they owe it ([`Limiter::with_quota`]).
    pub(crate) fn changed(&self, quota: Quota, mode: RateLimitMode, scope: Scope) -> Arc<Self> {
        Self::with(self.limiter.with_quota(quota), mode, scope)
    }

    fn with(limiter: Limiter, mode: RateLimitMode, scope: Scope) -> Arc<Self> {
        let report = Report { said_ms: AtomicU64::new(0), unsaid: AtomicU64::new(0) };
        Arc::new(Self { limiter, mode, scope, report })
    }

    /// What its clients are told of it.
    pub(crate) fn fields(&self) -> &Fields {
        self.limiter.fields()
    }

    /// The answer to a request that is refused, with these fields and lines.
    pub(crate) fn refusal<'a>(&'a self, fields: &'a [ShortField<'a>], lines: &'a [&'a [u8]]) -> ShortAnswer<'a> {
        let (status, body) = (StatusCode::TOO_MANY_REQUESTS, self.fields().problem_bytes());
        ShortAnswer { status, content_type: PROBLEM_MEDIA_TYPE, fields, lines, body }
    }

    /// What the answer says to whom so much is left.
    pub(crate) fn warning(self: &Arc<Self>, left: Left) -> Warning {
        Warning { limit: Arc::clone(self), left }
    }

    /// A time as [`check`](Self::check) takes it.
    pub(crate) fn moment(&self, now: Instant) -> Moment {
        self.limiter.moment(now)
    }

    /// Counts a request of the client with this whole address.
    #[inline(always)]
    pub(crate) fn check(&self, client: ClientKey, now: Moment) -> Ruling {
        if self.scope.is_exempt(client) {
            return Ruling::Allowed(None);
        }
        let Some(decision) = self.limiter.check_client(client.within(self.scope.ipv6_prefix), now) else {
            return Ruling::Allowed(None);
        };
        match self.mode {
            RateLimitMode::Enforce if !decision.allowed => Ruling::Refused(decision),
            RateLimitMode::Enforce => Ruling::Allowed(Some(Left::of(&decision))),
            RateLimitMode::Report if !decision.allowed => {
                self.report(client.ip(), now);
                Ruling::Reported
            }
            RateLimitMode::Report => Ruling::Allowed(None),
        }
    }

    /// Says at most once a second what would be refused.
    fn report(&self, ip: IpAddr, now: Moment) {
        let Report { said_ms, unsaid } = &self.report;
        unsaid.fetch_add(1, Relaxed);
        let now_ms = now.as_millis() + 1;
        let said = said_ms.load(Relaxed);
        let is_due = said == 0 || now_ms.saturating_sub(said) >= REPORT_PAUSE.as_millis() as u64;
        // Of the cores that see this at the same time, one says it.
        if is_due && said_ms.compare_exchange(said, now_ms, Relaxed, Relaxed).is_ok() {
            let requests = unsaid.swap(0, Relaxed);
            let limit = self.limiter.quota();
            say(|| {
                tracing::warn!(requests, %limit, client = %ip, "RATE_LIMIT_MODE=report: these would be refused; the client is one of theirs");
            });
        }
    }
}

impl Scope {
    #[inline]
    fn is_exempt(&self, client: ClientKey) -> bool {
        (self.exempts_loopback || !self.exempt.is_empty()) && self.exempts(client.ip())
    }

    fn exempts(&self, ip: IpAddr) -> bool {
        (self.exempts_loopback && ip.is_loopback()) || self.exempt.contains(ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(mode: RateLimitMode, exempt: &str, exempts_loopback: bool) -> (Arc<RateLimit>, Moment) {
        let exempt = if exempt.is_empty() { Networks::default() } else { exempt.parse().unwrap() };
        let scope = Scope { exempt, exempts_loopback, ipv6_prefix: 64 };
        let limit = RateLimit::new("4/min".parse().unwrap(), mode, scope);
        let now = limit.moment(time());
        (limit, now)
    }

    fn time() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn ask(limit: &RateLimit, ip: &str, now: Moment) -> Ruling {
        limit.check(ClientKey::of(ip.parse().unwrap()), now)
    }

    #[test]
    fn a_client_is_warned_before_it_is_refused() {
        let (limit, now) = limit(RateLimitMode::Enforce, "", false);
        for _ in 0..3 {
            assert_eq!(ask(&limit, "127.0.0.1", now), Ruling::Allowed(None));
        }
        let Ruling::Allowed(Some(left)) = ask(&limit, "127.0.0.1", now) else { panic!("nothing is left") };
        let mut headers = HeaderMap::new();
        limit.warning(left).apply(&mut headers);
        assert_eq!(headers["ratelimit"], "\"default\";r=0;t=60");
        assert!(!headers.contains_key("retry-after"));
        assert!(matches!(ask(&limit, "127.0.0.1", now), Ruling::Refused(_)));
        assert_eq!(ask(&limit, "127.0.0.2", now), Ruling::Allowed(None), "another client");
        let later = limit.moment(time() + Duration::from_secs(16));
        assert!(matches!(ask(&limit, "127.0.0.1", later), Ruling::Allowed(Some(_))));
    }

    #[test]
    fn those_who_are_exempt_are_never_refused() {
        let (limit, now) = limit(RateLimitMode::Enforce, "192.0.2.0/24", true);
        for ip in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "192.0.2.7"] {
            assert!((0..10).all(|_| ask(&limit, ip, now) == Ruling::Allowed(None)), "{ip}");
        }
        assert!((0..10).any(|_| ask(&limit, "192.0.3.7", now) != Ruling::Allowed(None)));
    }

    #[test]
    fn row_60_addresses_of_one_prefix_are_one_client() {
        let (limit, now) = limit(RateLimitMode::Enforce, "", false);
        for host in 0..4 {
            assert!(matches!(ask(&limit, &format!("2001:db8::{host}"), now), Ruling::Allowed(_)));
        }
        assert!(matches!(ask(&limit, "2001:db8::1:0:0:1", now), Ruling::Refused(_)), "the same /64");
        assert!(matches!(ask(&limit, "2001:db8:0:1::1", now), Ruling::Allowed(_)), "the next one");
    }

    #[test]
    fn report_mode_refuses_nobody() {
        let (limit, now) = limit(RateLimitMode::Report, "", false);
        let rulings: Vec<_> = (0..6).map(|_| ask(&limit, "192.0.2.7", now)).collect();
        assert_eq!(rulings[..4], [Ruling::Allowed(None); 4]);
        assert_eq!(rulings[4..], [Ruling::Reported; 2]);
    }
}
