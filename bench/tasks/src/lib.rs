//! What is measured: the same work as a task group, or a queue, does it, and as one would do it without.
//!
//! Each scenario returns when everything it started has ended, so that it can be timed from outside. They keep no time
//! themselves, but for the scheduling delay, which only the task knows.

pub mod queues;
pub mod scenarios;
