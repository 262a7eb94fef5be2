//! The ready service behind the binary `baiwan`: a small HTTP API with an embedded database on the Baiwan engine.
//!
//! It is a library only so that tests can reach the router and the store; nothing here is a public interface. From
//! the outside in: [`cli`] and [`config`] read what the operator wants, [`serve`] starts engine and store and stops
//! them in order, [`routes`] answers requests, [`store`] keeps users; [`load`] is the load generator's command line, and
//! [`doctor`] looks whether a machine can hold the connections. No rule of HTTP/1.1 lives here: framing,
//! deadlines, limits and draining are the engine's.

pub mod activation;
pub mod check_health;
pub mod cli;
pub mod clock;
pub mod config;
pub mod doctor;
pub mod load;
pub mod logs;
pub mod notify;
mod orphans;
pub mod problem;
mod refusals;
mod reload;
mod reload_outcome;
pub mod routes;
pub mod serve;
mod server;
mod shared_limit;
mod signals;
pub mod startup;
mod stopping;
pub mod store;
