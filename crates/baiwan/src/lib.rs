//! Serves an axum app, or any tower service, to very many connections.
//!
//! Change one line, keep the app: handlers, extractors, layers, sqlx, reqwest, tracing and everything else made for Tokio work
//! as before. An idle connection costs 64 bytes of the process's memory instead of more than 20 kilobytes on axum's own server.
//!
//! ```no_run
//! use axum::{Router, routing::get};
//!
//! #[tokio::main]
//! async fn main() -> std::io::Result<()> {
//!     let app = Router::new().route("/", get(|| async { "hello" }));
//!     let listener = tokio::net::TcpListener::bind("0.0.0.0:8080").await?;
//!     baiwan::serve(listener, app).await // was: axum::serve(listener, app).await
//! }
//! ```
//!
//! [`Server::builder`] is for those who want more: several listeners, Unix sockets, limits, timeouts, an app per core.
//!
//! # What is different
//!
//! Each core has a thread, a Tokio runtime of its own and a clone of the app. So `tokio::task::block_in_place` panics (use
//! `spawn_blocking`), tasks stay on the core that spawned them, and the connections of a pool belong to the runtime that
//! opened them: make pools that are opened before the server starts with the runtime that runs `main`, which stays alive, or
//! one for each core with [`Builder::serve_with`]. `ConnectInfo<SocketAddr>` is there without being asked for; over a Unix
//! socket it is `0.0.0.0:0`.
//!
//! Upgrades work as with hyper, axum's `WebSocketUpgrade` among them. A request that offers a protocol is its connection's last
//! if the app does not answer 101; an offer beside a request body, and `h2c`, are ignored. A stop tells
//! upgraded connections one after the other that they should end ([`Ending`]), ends one that is silent for 5 seconds after that, and
//! all at the shutdown timeout.
//!
//! Where the limit on open files is too small and cannot be raised, each core may have an fd table of its own: read
//! [`FdTables::PerCore`] before.
//!
//! Linux is the platform. Elsewhere the same service runs over hyper ([`EventLoop::Portable`]), for development.

#![cfg_attr(
    not(all(target_os = "linux", not(baiwan_portable))),
    allow(dead_code, reason = "parts that the engine alone uses are built without it, too")
)]

mod access_log;
#[cfg(feature = "admin")]
mod admin;
mod app;
#[cfg(feature = "axum")]
mod axum_app;
mod backlog;
mod body;
#[cfg_attr(not(feature = "matched-path"), allow(dead_code, reason = "only layers of axum's routers tell routes"))]
mod call_scope;
mod capacity;
mod cgroups;
mod client;
mod clock;
mod cors;
#[cfg(feature = "admin")]
mod dashboard;
mod delivery;
mod ending;
#[cfg(all(target_os = "linux", not(baiwan_portable)))]
mod engine;
mod error;
mod fd_tables;
mod files;
mod gate;
mod hints;
mod hyper;
mod inbox;
mod incoming;
mod limited_route;
#[doc(hidden)]
pub mod lines;
#[doc(hidden)]
pub mod machine;
mod memory;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(feature = "admin")]
mod narrow_buckets;
mod observe;
mod own_answer;
mod pace;
mod per_client;
mod rate_limit;
mod recorder;
mod reload;
mod request_id;
mod route_limits;
#[cfg_attr(not(feature = "matched-path"), allow(dead_code, reason = "only layers of axum's routers tell routes"))]
mod route_table;
#[cfg(feature = "matched-path")]
mod routes;
mod say;
#[cfg(feature = "axum")]
mod serve;
mod server;
#[doc(hidden)]
pub mod settings;
mod socket_files;
mod status;

/// The whole server on a network in memory; for tests and fuzzers of this crate.
#[cfg(all(any(test, feature = "simulation"), target_os = "linux", not(baiwan_portable)))]
#[doc(hidden)]
pub mod simulation {
    pub use crate::engine::simulation::{Outcome, Outcomes, at_call, every_call, replay, run, run_bytes};
}

/// The first page of this crate, whose program is compiled with the documentation's tests.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// The page for those who come from asyncio, whose programs are compiled as well.
#[cfg(all(doctest, feature = "admin", feature = "matched-path"))]
#[doc = include_str!("../../../docs/from-asyncio.md")]
struct FromAsyncio;

/// The page for those who come from `axum::serve`: its programs are compiled with the documentation's tests.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../../../docs/from-axum-serve.md")]
struct FromAxumServe;

/// The page about limits, whose program is compiled as well.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../../../docs/limits.md")]
struct Limits;

pub use access_log::{AccessLog, AccessLogFormat};
#[cfg(feature = "admin")]
pub use admin::Admin;
#[cfg(feature = "admin")]
#[doc(hidden)]
pub use admin::{AdminToken, Secret, TOKEN_FORM};
pub use app::{App, BoxError};
#[cfg(feature = "axum")]
pub use axum_app::{AxumApp, ConnectInfoApp, FromIncomingStream, IntoApp, axum_app};
pub use baiwan_driver::ActivatedSocket;
/// For [`Builder::listener`]; `Admin::listener` takes one, too.
///
/// ```
/// // Those of a socket unit of systemd; an address of its own without one.
/// let sockets = baiwan::activated_sockets()?;
/// let builder = baiwan::Server::builder();
/// let builder = if sockets.is_empty() { builder.bind("127.0.0.1:0") } else { builder };
/// let server = sockets.into_iter().fold(builder, baiwan::Builder::listener);
/// # drop(server);
/// # Ok::<(), std::io::Error>(())
/// ```
pub use baiwan_driver::activated_sockets;
/// Layers that limit who may ask how often, for one route or all: the crate `baiwan-limits`.
pub use baiwan_limits as limits;
#[cfg(feature = "axum")]
pub use baiwan_limits::ClientIpMissing;
pub use baiwan_limits::{ClientIp, Networks, NetworksError, Proxies, ProxiesError, Quota, QuotaError};
pub use body::{Body, BodyError};
pub use capacity::Capacity;
pub use cors::RefusalCors;
pub use ending::Ending;
pub use error::Error;
pub use fd_tables::FdTables;
#[cfg(feature = "axum")]
pub use incoming::IncomingStream;
pub use limited_route::{RouteLimitsFuture, RouteLimitsService};
#[cfg(feature = "metrics")]
pub use metrics::Metrics;
pub use observe::{Exchange, Outcome};
pub use rate_limit::RateLimitMode;
#[cfg(feature = "axum")]
pub use request_id::RequestIdMissing;
pub use request_id::{RequestId, TraceContext};
pub use route_limits::RouteLimits;
#[cfg(feature = "matched-path")]
pub use routes::{RouteLayer, RouteService};
#[cfg(feature = "axum")]
pub use serve::{Listen, Serve, ServeFuture, serve};
pub use server::{Builder, Reloader, Running, Server};
pub use settings::{EventLoop, Overload, parse_timeout};
pub use status::{CloseReason, Counts, Health, Phase};
