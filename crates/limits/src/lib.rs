//! Who may ask how often, and what happens when too much comes.
//!
//! Layers for any axum server, or any tower service over `http`; the server `baiwan` and its event loop use the same parts. The parts
//! themselves open no socket and read no clock: the time is an argument.

mod admission;
mod ages;
mod client_hash;
mod client_ip;
#[cfg(feature = "axum")]
mod client_ip_layer;
mod concurrency_limit;
mod connections;
mod controlled_delay;
mod decision;
mod event_source;
mod fields;
mod forwarded;
mod limited_body;
mod limiter;
mod listener;
mod memory_pressure;
mod networks;
mod proxies;
mod proxy_protocol;
mod quota;
mod rate_limit;
mod reduced_capacity;
#[cfg(feature = "redis")]
mod store;
mod sync;
mod table;

/// The page of this crate, whose program is compiled with the documentation's tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use ages::ConnectionAges;
#[cfg(feature = "axum")]
pub use client_ip::ClientIpMissing;
pub use client_ip::{ClientIp, ClientKey};
#[cfg(feature = "axum")]
pub use client_ip_layer::{ClientIpLayer, ClientIpService};
pub use concurrency_limit::{ConcurrencyLimit, ConcurrencyLimited, ConcurrencyLimitedFuture, ConcurrencyStatistics};
pub use connections::ConnectionCounts;
pub use controlled_delay::{Change, ControlledDelay};
pub use decision::Decision;
pub use event_source::{EVENT_STREAM, accepts_event_stream, is_event_source, retry_event};
pub use fields::{Fields, Numbers, PROBLEM_MEDIA_TYPE};
pub use limited_body::LimitedBody;
pub use limiter::{Limiter, Moment};
pub use listener::{CountedAs, listen_to_rate_limits};
pub use memory_pressure::{MEMORY_SHORT_PERCENT, MemoryLevel, MemoryPressure};
pub use networks::{NETWORKS_MAX, Networks, NetworksError};
pub use proxies::{Client, Proxies, ProxiesError, proxy_field};
pub use proxy_protocol::{PROXY_HEADER_BYTES_MAX, ProxyHeader, ProxyHeaderError};
pub use quota::{BURST_SECONDS_MAX, Quota, QuotaError, RATE_MAX};
pub use rate_limit::{ByAddress, ByField, ByFunction, RateLimit, RateLimitFuture, RateLimitKey, RateLimitService};
#[cfg(feature = "redis")]
pub use rate_limit::{SharedRateLimit, SharedRateLimitFuture, SharedRateLimitService};
#[cfg(feature = "redis")]
pub use store::{RESPONSE_TIMEOUT, RedisStore, StoreStatistics, StoreUrl, StoreUrlError};
pub use table::Table;
