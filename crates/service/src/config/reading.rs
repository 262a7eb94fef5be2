//! How the settings of this process are read: at its start, and again when it is told to.
//!
//! Flags and variables stay as they were; files are read anew. The invariant: both readings judge by the same law.

use std::fmt;

use super::Config;
use super::change::Traces;
use super::flags::Flags;
use super::sources::Values;

/// The reading of the start, and what the next ones need.
#[derive(Debug)]
pub struct Reading {
    pub(crate) again: Again,
    pub(crate) traces: Traces,
}

/// Where the settings of this process are read from.
pub(crate) struct Again {
    flags: Flags,
    demo: bool,
}

/// Flags may hold secrets.
impl fmt::Debug for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Again").finish_non_exhaustive()
    }
}

impl Again {
    pub(crate) fn new(flags: Flags, demo: bool) -> Self {
        Self { flags, demo }
    }

    /// Finds the values that are given now.
    pub(crate) fn values(&self) -> Values {
        Values::find(&self.flags, std::env::var_os)
    }

    /// Finds and judges them.
    ///
    /// # Errors
    ///
    /// Those of [`Config::read`].
    pub(crate) fn read(&self) -> Result<(Config, Values), Vec<String>> {
        let values = self.values();
        Config::read(&values, self.demo).map(|config| (config, values))
    }
}
