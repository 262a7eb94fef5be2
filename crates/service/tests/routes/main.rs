//! Every route and every status of the API, asked through the router: the same with an SQLite file and a PostgreSQL database
//! behind it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[macro_use]
#[path = "../stores/mod.rs"]
#[allow(dead_code, reason = "other tests need other parts of it")]
mod stores;

mod bodies;
mod conditions;
mod cors;
mod echo;
mod health;
mod keys;
mod pages;
mod secrets;
mod service;
mod token;
mod users;
