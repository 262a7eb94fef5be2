//! The queue from outside.
//!
//! | file | what is asked |
//! |---|---|
//! | `promises.rs` | each promise by itself |
//! | `model.rs` | whether it does what a naive model does: every short history, and long ones by chance |
//! | `every_await.rs` | whether an item is lost or doubled, or somebody stuck, whenever an operation is given up |
//!
//! All of it runs under Miri, with shorter histories; of what is not a history nothing is left out:
//!
//! ```text
//! MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test -p baiwan-task --no-default-features --test queue
//! ```

#![cfg(not(any(baiwan_loom, baiwan_shuttle)))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod by_hand;
mod every_await;
mod model;
mod promises;
