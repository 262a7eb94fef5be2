//! What is shown of a run and what is written of it, made of a report that is made up.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod expect;
mod keys;
mod page;
mod sample;
mod summary;
