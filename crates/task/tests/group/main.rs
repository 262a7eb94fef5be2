//! The promises of `TaskGroup`, each by its name.
#![cfg(not(any(baiwan_loom, baiwan_shuttle)))]
#![allow(clippy::unwrap_used, reason = "a test may panic anywhere")]

mod cancelling;
mod collecting;
mod ending;
mod every_await;
mod failing;
mod limits;
mod nesting;
mod places;
mod rig;
mod traces;
