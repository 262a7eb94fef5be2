//! Systems on which no process takes over from another: to ask for it is an error, so nothing of the rest comes to be.

use std::path::Path;
use std::sync::Arc;

use crate::Error;
use crate::fd_tables::FdTables;
use crate::server::{Bound, BoundListener, Source};
use crate::status::Status;

#[derive(Debug)]
pub(crate) enum Heir {}

#[derive(Debug)]
pub(crate) enum Kept {}

#[derive(Debug)]
pub(crate) enum Keeper {}

impl Heir {
    /// # Errors
    /// [`Error::Takeover`], where there is a path.
    pub(crate) fn ask(path: Option<&Path>) -> Result<Option<Self>, Error> {
        let Some(path) = path else { return Ok(None) };
        let why = "it needs Linux; use off".to_owned();
        Err(Error::Takeover { path: path.display().to_string(), why })
    }

    pub(crate) fn claim(&mut self, _sources: Vec<Source>, _cores: usize) -> Result<(Vec<Source>, bool), Error> {
        match *self {}
    }

    pub(crate) fn take_door(&mut self) -> Option<BoundListener> {
        match *self {}
    }

    #[cfg(feature = "admin")]
    pub(crate) fn take_admin(&mut self) -> Option<BoundListener> {
        match *self {}
    }

    pub(crate) fn finish(self) -> Result<(), Error> {
        match self {}
    }
}
