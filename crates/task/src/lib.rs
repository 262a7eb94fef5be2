//! Structured concurrency for Tokio: work that is started together ends together, and what waits is bounded.
//!
//! | part | what it is |
//! |---|---|
//! | [`TaskGroup`] | a scope that ends when all its tasks have; the first failure cancels the rest |
//! | [`Queue`] | a bounded queue for many producers and consumers that knows what is not finished yet |
//! | [`Limit`] | a semaphore whose waiting line is bounded and knows deadlines |
//! | [`timeout()`] | an elapsed time that says what it was for |
//! | [`Offload`] | CPU work and blocking work, each on a bounded number of threads |
//!
//! Nothing here is tied to a server: any Tokio runtime will do. The [guide](mod@guide) has each idea beside its counterpart in asyncio,
//! trio and Tokio alone.

#![forbid(unsafe_code)]

mod clock;
mod group;
pub mod guide;
mod limit;
#[cfg(feature = "offload")]
mod offload;
mod panic;
mod queue;
mod sync;
mod timeout;
mod turn;

/// The page of this crate, whose program is compiled with the documentation's tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use group::{
    AsError, Cancelled, Failure, FailureKind, Failures, Group, Handle, TaskGroup, cancelled, is_cancelled,
};
pub use limit::{Limit, Permit, Refused};
#[cfg(feature = "offload")]
pub use offload::{Offload, OffloadBuilder, OffloadError};
pub use panic::Panic;
pub use queue::{Closed, Drained, Get, Join, Put, Queue, Statistics, Taken};
pub use timeout::{TimedOut, timeout};
