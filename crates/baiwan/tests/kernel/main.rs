//! Hostile and dying peers on real sockets, against the engine in this process. What needs a process of its own (signals,
//! limits, memory) is in `crates/service/tests/process`; what the kernel can only be made to say, in `tests/faults`.
//!
//! | file | part |
//! |---|---|
//! | `peer` | a socket that can do what no decent client does |
//! | `dying` | resets, dead peers, half-closed ones, files that are used again at once |
//! | `early` | answers in the middle of an upload |
//! | `slow` | peers that trickle, and peers that do not read |
//! | `shares` | connections that one client hoards, and connections that grow old |
//! | `quick` | a core that is asked without pause |
//! | `crowd` | too many connections, handlers that panic, stops under load |
//!
//! Server and client are those of the tests in `axum_app`.

#![cfg(all(target_os = "linux", not(baiwan_portable)))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod crowd;
mod dying;
mod early;
mod peer;
mod quick;
#[path = "../axum_app/rig.rs"]
#[allow(dead_code, reason = "it is shared, and not all of it is needed here")]
mod rig;
mod shares;
mod slow;
