//! Who may ask how often, and what happens when too much comes.
//!
//! Layers for any axum server, or any tower service over `http`; the server `baiwan` and its event loop use the same parts. The parts
//! themselves open no socket and read no clock: the time is an argument.

mod client_ip;
#[cfg(feature = "axum")]
mod client_ip_layer;
mod forwarded;
mod proxies;
mod proxy_protocol;

#[cfg(feature = "axum")]
pub use client_ip::ClientIpMissing;
pub use client_ip::{ClientIp, ClientKey};
#[cfg(feature = "axum")]
pub use client_ip_layer::{ClientIpLayer, ClientIpService};
pub use proxies::{Client, NETWORKS_MAX, Proxies, ProxiesError, proxy_field};
pub use proxy_protocol::{PROXY_HEADER_BYTES_MAX, ProxyHeader, ProxyHeaderError};
