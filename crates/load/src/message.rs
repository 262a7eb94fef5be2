//! What the coordinator and its workers say to each other: lines of JSON over pipes.
//!
//! A worker is told its plan and share, then one phase after the other. Ten times a second it sends a tally of what has happened
//! since the one before, and another at the end of a phase. When its input ends, so does the worker.

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
    /// What has happened in the phase since the last time.
    Counted(Box<Tally>),
    /// The phase has ended; with what has happened since the last time.
    Ended(Box<Tally>),
    /// It cannot go on.
    Failed(String),
}
