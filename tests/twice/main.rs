//! Small axum programs, each built twice from one source: with `axum::serve` and with `baiwan::serve`. The token
//! before `::serve` is
//! all that differs. Both are then given the same exchanges over real sockets, and what comes back must be the same.
//!
//! | file | part |
//! |---|---|
//! | `apps` | the programs; each file is a module of `on_axum` and one of `on_baiwan` |
//! | `stage` | runs one program on a runtime of its own, and writes down what its clients see |
//! | `client`, `answer` | a client that sends bytes, and an answer as it came, without what differs between any two |
//! | `comparison` | plays a script on both and compares |
//! | `differences` | what may differ, by name, each with its sentence in `docs/library.md` |
//! | `scripts` | a test for each program |

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

mod answer;
mod client;
mod comparison;
mod differences;
mod scripts;
mod stage;

/// The programs with `axum::serve`.
#[path = "."]
mod on_axum {
    pub(crate) use ::axum as server;
    pub(crate) mod apps;
}

/// The same with `baiwan::serve`.
#[path = "."]
#[allow(clippy::duplicate_mod, reason = "the same source twice is the point")]
mod on_baiwan {
    pub(crate) use ::baiwan as server;
    pub(crate) mod apps;
}
