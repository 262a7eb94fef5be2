//! What the coordinator and its workers say to each other: lines of JSON over pipes.
//!
//! A worker is told its plan and share, then one phase after the other. It sends a tally every second, which holds what has
//! happened since the one before, and another at the end of a phase. When its input ends, so does the worker.

use serde::{Deserialize, Serialize};

use crate::plan::{Plan, Share};
use crate::tally::Tally;

/// To a worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Command {
    /// The first message.
    Plan(Box<Plan>, Share),
    /// Begin the phase with this index.
    Begin(usize),
    /// End the phase that goes on, now.
    Stop,
}

/// From a worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Event {
    /// It has made its places and waits for the first phase.
    Ready,
    /// A second of the phase.
    Second(Box<Tally>),
    /// The phase has ended; with what happened since the last second.
    Ended(Box<Tally>),
    /// It cannot go on.
    Failed(String),
}
