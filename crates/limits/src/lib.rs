//! Who may ask how often, and what happens when too much comes.
//!
//! Layers for any axum server, or any tower service over `http`; the server `baiwan` and its event loop use the same parts. The parts
//! themselves open no socket and read no clock: the time is an argument.

mod ages;
mod client_ip;
#[cfg(feature = "axum")]
mod client_ip_layer;
mod connections;
mod forwarded;
mod limiter;
mod proxies;
mod quota;
mod sync;
mod table;

pub use ages::ConnectionAges;
#[cfg(feature = "axum")]
pub use client_ip::ClientIpMissing;
pub use client_ip::{ClientIp, ClientKey};
#[cfg(feature = "axum")]
pub use client_ip_layer::{ClientIpLayer, ClientIpService};
pub use connections::ConnectionCounts;
pub use limiter::{Decision, Limiter};
pub use proxies::{Client, NETWORKS_MAX, Proxies, ProxiesError, proxy_field};
pub use quota::{BURST_SECONDS_MAX, Quota, QuotaError, RATE_MAX};
pub use table::Table;
