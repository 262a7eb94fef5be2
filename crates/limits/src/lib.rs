//! Who may ask how often, and what happens when too much comes.
//!
//! Layers for any axum server, or any tower service over `http`; the server `baiwan` and its event loop use the same parts. The parts
//! themselves open no socket and read no clock: the time is an argument.

mod admission;
mod concurrency_limit;
mod controlled_delay;
mod limited_body;
mod reduced_capacity;

pub use self::concurrency_limit::{
    ConcurrencyLimit, ConcurrencyLimited, ConcurrencyLimitedFuture, ConcurrencyStatistics,
};
pub use self::controlled_delay::{Change, ControlledDelay};
pub use self::limited_body::LimitedBody;
