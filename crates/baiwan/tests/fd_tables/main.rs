//! Cores with fd tables of their own. Each test has a process of its own: the limit on files is the process's, and whatever
//! another test has open when a core parts would stay open in it.
//!
//! | file | part |
//! |---|---|
//! | `alone` | a test in a process of its own |
//! | `between` | what cores do for each other |
//! | `full` | more connections than files; a core that is full |
//! | `ends` | stops, panics, and starts that fail |
//!
//! Server and client are those of the tests in `axum_app`.

#![cfg(all(target_os = "linux", not(baiwan_portable)))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod alone;
mod between;
mod ends;
mod full;
#[path = "../axum_app/rig.rs"]
#[allow(dead_code, reason = "it is shared, and not all of it is needed here")]
mod rig;

use baiwan::{Builder, EventLoop, FdTables};

/// A server on a free port whose cores have a table each.
fn server(cores: usize) -> Builder {
    rig::server(EventLoop::Epoll).workers(cores).fd_tables(FdTables::PerCore)
}

/// The core that a handler runs on.
fn core() -> String {
    std::thread::current().name().unwrap_or_default().to_owned()
}
