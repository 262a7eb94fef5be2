//! Those that are compared, with the same keys and the same quota.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Instant;

use anyhow::bail;
use baiwan_limits::{ClientKey, Limiter, Moment, Table};
use governor::clock::{DefaultClock, FakeRelativeClock};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

/// A request a second, and 3,600 at once: nobody is refused while this runs, and every key that was checked stays in debt.
const PER_HOUR: NonZeroU32 = NonZeroU32::new(3_600).expect("not 0");

/// One that is asked whether a client may go on.
pub(crate) trait Store: Send + Sync {
    fn name(&self) -> &'static str;
    fn check(&self, key: ClientKey) -> bool;
}

/// Reads the clock for each check, as the layer does.
pub(crate) struct Baiwan(Limiter);

/// Is told the time, as by the event loop, which reads it once for a batch of requests.
pub(crate) struct BaiwanToldTime(Limiter, Instant);

/// Asked about clients, as the event loop asks. Reads the clock for each check, which the event loop does not.
pub(crate) struct BaiwanClients(Limiter);

/// The same, told the time.
pub(crate) struct BaiwanClientsToldTime(Limiter, Moment);

/// Reads its clock for each check, which is that of the processor.
pub(crate) struct Governor(RateLimiter<ClientKey, DashMapStateStore<ClientKey>, DefaultClock>);

/// Has a clock that stands still.
pub(crate) struct GovernorToldTime(
    RateLimiter<ClientKey, DashMapStateStore<ClientKey>, FakeRelativeClock, NoOpMiddleware<Nanos>>,
);

pub(crate) fn baiwan() -> Baiwan {
    Baiwan(limiter())
}

pub(crate) fn baiwan_told_time() -> BaiwanToldTime {
    BaiwanToldTime(limiter(), now())
}

pub(crate) fn baiwan_clients() -> BaiwanClients {
    BaiwanClients(limiter())
}

pub(crate) fn baiwan_clients_told_time() -> BaiwanClientsToldTime {
    let limiter = limiter();
    let now = limiter.moment(now());
    BaiwanClientsToldTime(limiter, now)
}

pub(crate) fn governor() -> Governor {
    Governor(RateLimiter::dashmap(Quota::per_hour(PER_HOUR)))
}

pub(crate) fn governor_told_time() -> GovernorToldTime {
    GovernorToldTime(RateLimiter::new(
        Quota::per_hour(PER_HOUR),
        DashMapStateStore::default(),
        FakeRelativeClock::default(),
    ))
}

/// By its name.
pub(crate) fn store(name: &str) -> anyhow::Result<Box<dyn Store>> {
    Ok(match name {
        "baiwan" => Box::new(baiwan()),
        "baiwan, told the time" => Box::new(baiwan_told_time()),
        "baiwan, clients" => Box::new(baiwan_clients()),
        "baiwan, clients, told the time" => Box::new(baiwan_clients_told_time()),
        "governor" => Box::new(governor()),
        "governor, told the time" => Box::new(governor_told_time()),
        _ => bail!("no store is called `{name}`"),
    })
}

fn limiter() -> Limiter {
    let quota = "3600/h".parse().expect("a quota");
    Limiter::with_table("bench", quota, Arc::new(Table::new()))
}

pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A client for each number: an IPv4 address, all different, in no order.
pub(crate) fn client(number: u32) -> ClientKey {
    ClientKey::new(IpAddr::V4(Ipv4Addr::from_bits(number.wrapping_mul(0x9e37_79b1))), 64)
}

impl Store for Baiwan {
    fn name(&self) -> &'static str {
        "baiwan"
    }

    #[inline]
    fn check(&self, key: ClientKey) -> bool {
        self.0.check(&key, 1, now()).allowed
    }
}

impl Store for BaiwanToldTime {
    fn name(&self) -> &'static str {
        "baiwan, told the time"
    }

    #[inline]
    fn check(&self, key: ClientKey) -> bool {
        self.0.check(&key, 1, self.1).allowed
    }
}

impl Store for BaiwanClients {
    fn name(&self) -> &'static str {
        "baiwan, clients"
    }

    #[inline]
    fn check(&self, key: ClientKey) -> bool {
        self.0.check_client(key, self.0.moment(now())).is_none_or(|decision| decision.allowed)
    }
}

impl Store for BaiwanClientsToldTime {
    fn name(&self) -> &'static str {
        "baiwan, clients, told the time"
    }

    #[inline]
    fn check(&self, key: ClientKey) -> bool {
        self.0.check_client(key, self.1).is_none_or(|decision| decision.allowed)
    }
}

impl Store for Governor {
    fn name(&self) -> &'static str {
        "governor"
    }

    #[inline]
    fn check(&self, key: ClientKey) -> bool {
        self.0.check_key(&key).is_ok()
    }
}

impl Store for GovernorToldTime {
    fn name(&self) -> &'static str {
        "governor, told the time"
    }

    #[inline]
    fn check(&self, key: ClientKey) -> bool {
        self.0.check_key(&key).is_ok()
    }
}
