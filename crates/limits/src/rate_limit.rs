//! The rate limit as a tower layer, for any axum server or tower service over `http`.
//!
//! It decides in one place, [`Limit::decide`], before the inner service sees anything of the request.

mod key;
mod limit;
mod service;
#[cfg(feature = "redis")]
mod shared;

use std::fmt;
use std::sync::{Arc, OnceLock};

use http::request::Parts;
use tower_layer::Layer;

use crate::networks::Networks;
use crate::quota::Quota;
use crate::table::Table;

pub use key::{ByAddress, ByField, ByFunction, RateLimitKey};
use limit::{Limit, Rule};
pub use service::{RateLimitFuture, RateLimitService};
#[cfg(feature = "redis")]
pub use shared::{SharedRateLimit, SharedRateLimitFuture, SharedRateLimitService};

/// Refuses requests of those who ask too often, with 429 and the time after which to ask again.
///
/// Each client may send as many requests at once as the burst says ([`Quota`]), and after that as many as the rate gives back: over any
/// time `t` at most `rate * t + burst`. The keys are kept in a table of fixed size ([`Table`]), however many clients come.
///
/// # Who counts as one client
/// By default an address, and of IPv6 a /64: that of the extension [`ClientIp`](crate::ClientIp), which baiwan and
/// `ClientIpLayer` insert, else that in axum's `ConnectInfo<SocketAddr>` (with the feature `axum`). Requests without either count as one client, and a
/// warning says so. [`by`](Self::by) chooses another key.
///
/// A value and its clones count together, wherever they are layered; each call of a method that changes it makes another limit.
///
/// # What a client is told
/// A refusal is a 429 with a problem document, `Retry-After`, `RateLimit-Policy` and `RateLimit` ([`Fields`](crate::Fields)). The latter two are also
/// on answers when less than a quarter of the burst is left. A request that accepts `text/event-stream` is refused with 200, the time after which the `EventSource` connects
/// again, and the end, because any other status would close it for ever. For pages of other origins, put a CORS layer outside of this one, and
/// let it expose these three fields. CORS preflights never count.
///
/// # Example
/// ```
/// use std::net::SocketAddr;
///
/// use axum::Router;
/// use axum::routing::{get, post};
/// use baiwan_limits::{ClientIp, RateLimit};
///
/// let app = Router::new()
///     .route("/", get("hello"))
///     .route("/login", post("welcome").layer(RateLimit::new("10/min").by(ClientIp).name("login")))
///     .layer(RateLimit::new("100/s").exempt("127.0.0.0/8, ::1"));
/// // axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await
/// # let _ = app.into_make_service_with_connect_info::<SocketAddr>();
/// ```
///
/// # In tests
/// Limits share one table, and with it the newest time that any of them has seen. A test that moves a paused clock gives its limits a table of
/// their own: `.table(Arc::new(Table::new()))`.
///
/// # Coming from `tower_governor`
///
/// | `tower_governor` | here |
/// |---|---|
/// | `per_second(2).burst_size(5)` (one request *every 2 s*) | `RateLimit::new("30/min").burst(5)` |
/// | `per_millisecond(100).burst_size(20)` | `RateLimit::new("10/s").burst(20)` |
/// | `PeerIpKeyExtractor` | the default, or `.by(ClientIp)` |
/// | `SmartIpKeyExtractor` (believes any client) | `ClientIpLayer` with the proxies that are trusted |
/// | `GlobalKeyExtractor` | `.by(\|_: &Parts\| Some(()))` |
/// | a `KeyExtractor` of one's own | `.by(\|parts: &Parts\| …)` |
/// | `use_headers()`: `x-ratelimit-…` | always: `RateLimit-Policy`, `RateLimit`, `Retry-After` |
/// | `methods(vec![…])` | a layer on the routes, or `.cost_by(…)` with 0 for the others |
/// | `error_handler(…)` | a layer outside that maps the answer |
/// | a task that calls `retain_recent()` | not needed: the table never grows |
#[derive(Clone)]
pub struct RateLimit {
    rule: Rule,
    /// Made when it is layered first; clones share it.
    limit: Arc<OnceLock<Arc<Limit>>>,
}

impl RateLimit {
    /// A limit such as `100` (a second), `100/s`, `1000/min` or `10000/h`, by address.
    ///
    /// # Panics
    /// If this is no quota; the message says what is one. [`RateLimit::from`] takes a [`Quota`] that has been read before.
    pub fn new(quota: &str) -> Self {
        match quota.parse::<Quota>() {
            Ok(quota) => Self::from(quota),
            Err(error) => panic!("a rate limit cannot be made: {error}"),
        }
    }

    /// Counts by another key than the address:
    ///
    /// - [`ClientIp`](crate::ClientIp): the address;
    /// - a `HeaderName`: the value of this field, such as an API key; requests without it count by address. Whoever can make up values
    ///   has a budget for each, so check them before, or limit by address as well;
    /// - a function of `&http::request::Parts` that returns `Option<impl Hash>`; a request for which it is `None` is not limited.
    ///
    /// ```
    /// use baiwan_limits::{ClientIp, RateLimit};
    /// use http::HeaderName;
    /// use http::request::Parts;
    ///
    /// # #[derive(Clone, Hash)] struct UserId(u64);
    /// let by_address = RateLimit::new("10/min").by(ClientIp);
    /// let by_api_key = RateLimit::new("1000/h").by(HeaderName::from_static("x-api-key"));
    /// let by_user = RateLimit::new("1000/h").by(|parts: &Parts| parts.extensions.get::<UserId>().cloned());
    /// ```
    pub fn by<M>(self, key: impl RateLimitKey<M>) -> Self {
        self.with(|rule| {
            rule.key = Arc::new(move |parts, ipv6_prefix, mut state| {
                let key = key.key(parts, ipv6_prefix);
                key.map(|key| std::hash::Hash::hash(&key, &mut state)).is_some()
            });
        })
    }

    /// How many requests each request counts as; 1 if this is not called. One that costs 0 is always let through, and one that costs
    /// more than the burst never.
    pub fn cost(self, cost: u32) -> Self {
        self.cost_by(move |_| cost)
    }

    /// As [`cost`](Self::cost), by request.
    ///
    /// ```
    /// # use baiwan_limits::RateLimit;
    /// # use http::Method;
    /// let searches_are_dear = RateLimit::new("100/s").cost_by(|parts| if parts.method == Method::GET { 1 } else { 10 });
    /// ```
    pub fn cost_by(self, cost: impl Fn(&Parts) -> u32 + Send + Sync + 'static) -> Self {
        self.with(|rule| rule.cost = Arc::new(cost))
    }

    /// How many requests may come at once; as many as the quota's number if this is not called.
    ///
    /// # Panics
    /// If it is 0, or would need more than an hour to come back; the message says how many are allowed.
    pub fn burst(self, burst: u32) -> Self {
        self.with(|rule| match rule.quota.with_burst(burst) {
            Ok(quota) => rule.quota = quota,
            Err(error) => panic!("a rate limit cannot be made: {error}"),
        })
    }

    /// What clients read in `RateLimit` and in the problem document, in printable ASCII; `default` if this is not called. Limits that one
    /// request passes should have different names.
    pub fn name(self, name: &str) -> Self {
        self.with(|rule| rule.name = name.into())
    }

    /// Never limits clients with these addresses: a comma list of networks and addresses, as in `127.0.0.0/8, ::1`.
    ///
    /// # Panics
    /// If this is no such list; the message says what is one. [`exempt_networks`](Self::exempt_networks) takes one that has been
    /// read before.
    pub fn exempt(self, networks: &str) -> Self {
        match networks.parse() {
            Ok(networks) => self.exempt_networks(networks),
            Err(error) => panic!("a rate limit cannot be made: {error}"),
        }
    }

    /// Never limits clients with these addresses.
    pub fn exempt_networks(self, networks: Networks) -> Self {
        self.with(|rule| rule.exempt = networks)
    }

    /// How many bits of an IPv6 address are one client; 64 if this is not called.
    pub fn ipv6_prefix(self, bits: u8) -> Self {
        self.with(|rule| rule.ipv6_prefix = bits)
    }

    /// Keeps the keys in this table, not in the one that all limits of the process share.
    pub fn table(self, table: Arc<Table>) -> Self {
        self.with(|rule| rule.table = Some(table))
    }

    /// Refuses nothing: counts what it would refuse ([`refusals`](Self::refusals)), and logs it, at most one line in ten seconds. Answers have no fields.
    pub fn report_only(self) -> Self {
        self.with(|rule| rule.report_only = true)
    }

    /// How many requests this limit and its clones have refused, or would have.
    pub fn refusals(&self) -> u64 {
        self.limit.get().map_or(0, |limit| limit.refusals())
    }

    /// Shares the budgets with all instances that have a limit of this name and quota on the same server. While that does not answer within
    /// [`RESPONSE_TIMEOUT`](crate::RESPONSE_TIMEOUT), each instance decides by its own table, at its part of the budget
    /// ([`RedisStore::instances`](crate::RedisStore::instances)).
    ///
    /// ```no_run
    /// use baiwan_limits::{RateLimit, RedisStore};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = RedisStore::open("redis://127.0.0.1/".parse()?, None);
    /// let app: axum::Router = axum::Router::new().layer(RateLimit::new("100/s").name("api").store(store));
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "redis")]
    pub fn store(self, store: crate::RedisStore) -> SharedRateLimit {
        SharedRateLimit::new(self, store)
    }

    /// Another limit, which counts apart from this one.
    fn with(mut self, change: impl FnOnce(&mut Rule)) -> Self {
        change(&mut self.rule);
        Self { rule: self.rule, limit: Arc::default() }
    }
}

impl From<Quota> for RateLimit {
    fn from(quota: Quota) -> Self {
        Self { rule: Rule::new(quota), limit: Arc::default() }.by(crate::ClientIp)
    }
}

impl RateLimit {
    /// The limit in use, which clones share.
    fn in_use(&self) -> Arc<Limit> {
        Arc::clone(self.limit.get_or_init(|| Arc::new(Limit::new(&self.rule))))
    }
}

impl<S> Layer<S> for RateLimit {
    type Service = RateLimitService<S>;

    fn layer(&self, inner: S) -> RateLimitService<S> {
        RateLimitService::new(inner, self.in_use())
    }
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit")
            .field("name", &self.rule.name)
            .field("quota", &self.rule.quota)
            .finish_non_exhaustive()
    }
}
