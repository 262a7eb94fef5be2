//! Systems on which no process takes over from another: to ask for it is an error, so nothing of the rest comes to be.

use std::path::Path;
use std::sync::Arc;

use baiwan_driver::ListenOptions;

use super::listen::{self, Bound, Source};
use crate::Error;
use crate::fd_tables::FdTables;
use crate::status::Status;

/// What a server takes from another process, and keeps for the next: nothing.
#[derive(Debug)]
pub(super) enum Inheritance {}

/// Who hands it over: nobody.
#[derive(Debug)]
pub(super) enum Keeper {}

/// Binds all sources.
///
/// # Errors
/// As for [`listen::bind`]; [`Error::Takeover`] where there is a path.
pub(super) fn listen(
    path: Option<&Path>,
    sources: Vec<Source>,
    cores: usize,
    options: ListenOptions,
) -> Result<(Bound, Option<Inheritance>), Error> {
    match path {
        None => Ok((listen::bind(sources, cores, options)?, None)),
        Some(path) => {
            let why = "it needs Linux; use off".to_owned();
            Err(Error::Takeover { path: path.display().to_string(), why })
        }
    }
}

pub(super) fn is_served(_path: &Path) -> bool {
    false
}

impl Inheritance {
    pub(super) fn take_admin(&mut self) -> Option<super::listen::BoundListener> {
        match *self {}
    }

    #[cfg(feature = "admin")]
    pub(super) fn keep_admin(&mut self, _listener: &std::net::TcpListener) -> Result<(), Error> {
        match *self {}
    }

    pub(super) fn begin_keeper(&mut self, _fd_tables: FdTables, _status: &Arc<Status>) -> Result<Keeper, Error> {
        match *self {}
    }

    pub(super) fn predecessor(&self) -> Option<u32> {
        match *self {}
    }

    pub(super) fn finish(self, _status: &Status) -> Result<(), Error> {
        match self {}
    }
}

impl Keeper {
    pub(super) fn handle_serving(&mut self) {
        match *self {}
    }
}
