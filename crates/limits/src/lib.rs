//! Who may ask how often, and what happens when too much comes.
//!
//! Layers for any axum server, or any tower service over `http`; the server `baiwan` and its event loop use the same parts. The parts
//! themselves open no socket and read no clock: the time is an argument.

mod memory_pressure;

pub use memory_pressure::{MemoryLevel, MemoryPressure};
