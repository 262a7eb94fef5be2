//! A rate limit that several instances share, in a Redis or Valkey server.
//!
//! A check is one script on one key: the same GCRA as in memory, by the server's own clock, in one round trip. Where no answer comes
//! within [`RESPONSE_TIMEOUT`], or none that can be used, the caller decides by its own table at once, at a share of the budget: one part
//! of as many as there are instances. A thread of the store's own connects, counts the instances by their heartbeats, and notices when the
//! server is back.
//!
//! | file | part |
//! |---|---|
//! | `script` | what runs in the server |
//! | `keeper` | the thread that keeps the connection |
//!
//! The invariant: no request waits longer than [`RESPONSE_TIMEOUT`], and none waits at all once the server is known to be away.

mod keeper;
mod script;
#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::{Decision, Quota};

/// How long a check waits for the server.
pub const RESPONSE_TIMEOUT: Duration = Duration::from_millis(20);
/// Between two lines that say the same of the server, at least.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);
/// Instances among which a budget is parted, at most.
const INSTANCES_MAX: u32 = 100_000;

/// Where a store is: `redis://[user:password@]host[:port][/database]`, or `rediss://…` for TLS, whose certificate is checked against the
/// system's roots (or those of `SSL_CERT_FILE`). What is shown of it has no password.
#[derive(Clone, Debug)]
pub struct StoreUrl {
    client: Box<redis::Client>,
    scheme: &'static str,
}

/// What is allowed, where it was not given. The text is not repeated, because it may hold a password.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a URL such as redis://HOST:6379/0, or rediss://USER:PASSWORD@HOST for TLS")]
pub struct StoreUrlError;

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, StoreUrlError> {
        let scheme = ["redis", "rediss"].into_iter().find(|scheme| text.starts_with(&format!("{scheme}://")));
        let client = redis::Client::open(text).map_err(|_| StoreUrlError)?;
        Ok(Self { client: client.into(), scheme: scheme.ok_or(StoreUrlError)? })
    }
}

/// Without user and password.
impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let info = self.client.get_connection_info();
        write!(f, "{}://{}/{}", self.scheme, info.addr(), info.redis_settings().db())
    }
}

/// A connection to the Redis or Valkey server that holds the limits of several instances. Clones share it.
#[derive(Clone, Debug)]
pub struct RedisStore {
    shared: Arc<Shared>,
    /// The keeper's thread ends when the last of these is dropped.
    _alive: Arc<watch::Sender<()>>,
}

/// What a store has done since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct StoreStatistics {
    /// Checks that the server decided.
    pub decided: u64,
    /// Checks that it did not decide, so that the caller's own table did.
    pub undecided: u64,
    /// How often the server was lost.
    pub lost: u64,
}

/// The server did not decide.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Undecided;

struct Shared {
    /// None: the server is away.
    connection: ArcSwapOption<MultiplexedConnection>,
    /// The keeper is to look at once.
    lost: Notify,
    instances: AtomicU32,
    script: redis::Script,
    decided: AtomicU64,
    undecided: AtomicU64,
    losses: AtomicU64,
    /// As it is shown.
    url: String,
    opened: Instant,
    /// When it was last said that the server refuses checks, in milliseconds since it was opened, plus one; 0 is never.
    complained_ms: AtomicU64,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("instances", &self.instances).finish_non_exhaustive()
    }
}

impl RedisStore {
    /// A store at `url`. `instances` is among how many a budget is parted while the server is away; without it those are counted whose
    /// heartbeats the server has.
    ///
    /// It returns before the server has answered: a server that is away is a warning in the log, and comes back by itself.
    ///
    /// # Panics
    /// When the system has no thread for it.
    pub fn open(url: StoreUrl, instances: Option<u32>) -> Self {
        // Fails where the program has chosen a provider already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let shared = Arc::new(Shared {
            connection: ArcSwapOption::empty(),
            lost: Notify::new(),
            instances: AtomicU32::new(instances.unwrap_or(1).clamp(1, INSTANCES_MAX)),
            script: redis::Script::new(script::CHECK),
            decided: AtomicU64::new(0),
            undecided: AtomicU64::new(0),
            losses: AtomicU64::new(0),
            url: url.to_string(),
            opened: Instant::now(),
            complained_ms: AtomicU64::new(0),
        });
        let (alive, ended) = watch::channel(());
        keeper::start(*url.client, Arc::clone(&shared), ended, instances.is_none());
        Self { shared, _alive: Arc::new(alive) }
    }

    /// Whether the server answers, as far as is known.
    pub fn is_there(&self) -> bool {
        self.shared.connection.load().is_some()
    }

    /// Among how many instances a budget is parted while the server is away: as was set, else as many as were counted last.
    pub fn instances(&self) -> u32 {
        self.shared.instances.load(Relaxed)
    }

    /// What it has done since it was opened.
    pub fn statistics(&self) -> StoreStatistics {
        let Shared { decided, undecided, losses, .. } = &*self.shared;
        StoreStatistics {
            decided: decided.load(Relaxed),
            undecided: undecided.load(Relaxed),
            lost: losses.load(Relaxed),
        }
    }

    /// Charges `cost` to what a key has of the quota that all instances call `name`. `halves` are its hashes, by [`hasher`].
    ///
    /// # Errors
    /// When the server did not decide in time. It may have charged all the same.
    pub(crate) async fn check(
        &self,
        name: &str,
        halves: [u64; 2],
        cost: u32,
        quota: &Quota,
    ) -> Result<Decision, Undecided> {
        let asked = self.ask(name, halves, cost, quota).await;
        let counter = if asked.is_ok() { &self.shared.decided } else { &self.shared.undecided };
        counter.fetch_add(1, Relaxed);
        asked
    }

    async fn ask(&self, name: &str, halves: [u64; 2], cost: u32, quota: &Quota) -> Result<Decision, Undecided> {
        let connection = self.shared.connection.load_full().ok_or(Undecided)?;
        let budget = script::Budget::new(quota, cost);
        let mut invocation = self.shared.script.prepare_invoke();
        budget.write(invocation.key(stored_key(name, &budget, halves)));
        let mut lent = MultiplexedConnection::clone(&connection);
        match tokio::time::timeout(RESPONSE_TIMEOUT, invocation.invoke_async(&mut lent)).await {
            Ok(Ok(answer)) => budget.decision(answer).ok_or(Undecided),
            Ok(Err(error)) if matches!(error.kind(), redis::ErrorKind::Server(_) | redis::ErrorKind::Extension) => {
                // The server is there and cannot do this: a full one, a replica, a key that somebody else has written.
                self.shared.complain(&error);
                Err(Undecided)
            }
            Ok(Err(_)) | Err(_) => {
                self.shared.lose(&connection);
                Err(Undecided)
            }
        }
    }
}

impl Shared {
    /// Says at most once a minute that the server refuses checks.
    fn complain(&self, error: &redis::RedisError) {
        let now_ms = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        let said_ms = self.complained_ms.load(Relaxed);
        let is_due = said_ms == 0 || now_ms.saturating_sub(said_ms) >= COMPLAINT_PAUSE.as_millis() as u64;
        if is_due && self.complained_ms.compare_exchange(said_ms, now_ms, Relaxed, Relaxed).is_ok() {
            let undecided = self.undecided.load(Relaxed);
            tracing::warn!(%error, store = %self.url, undecided, "the store of rate limits refuses checks: each instance allows its part by itself");
        }
    }

    /// The server did not answer: nobody asks it until it has answered the keeper again.
    fn lose(&self, connection: &Arc<MultiplexedConnection>) {
        let before = self.connection.compare_and_swap(connection, None);
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, connection)) {
            self.losses.fetch_add(1, Relaxed);
            self.lost.notify_one();
        }
    }
}

/// A hasher without a secret, one for each half of a key's name in the store, so that instances find the same name. Those who can read the
/// server could read a secret there as well. Instances must run the same build of the program, or they count apart.
pub(crate) fn hasher(half: u8) -> impl Hasher {
    let mut hasher = DefaultHasher::new();
    half.hash(&mut hasher);
    hasher
}

/// The name of what a key owes, whose hashes are `halves`. Limits of one name and other quotas are kept apart, as while instances with
/// other settings take the place of these.
fn stored_key(name: &str, budget: &script::Budget, [first, second]: [u64; 2]) -> String {
    let (unit_us, burst_us) = budget.of_key();
    format!("baiwan:limit:{name}:{unit_us}:{burst_us}:{first:016x}{second:016x}")
}
