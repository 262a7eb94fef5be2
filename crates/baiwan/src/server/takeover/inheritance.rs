//! What a server takes from the process before, and keeps for the next one, while it starts.

use std::collections::HashSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use baiwan_driver::BoundListener;

use super::super::listen::{self, Bound, Source};
use super::heir::Heir;
use super::keeper::Keeper;
use super::message::{Role, SOCKETS_MAX};
use crate::Error;
use crate::fd_tables::FdTables;
use crate::files::explain;
use crate::status::Status;

/// The sockets of a server for which there is a door.
#[derive(Debug)]
pub(in super::super) struct Inheritance {
    path: PathBuf,
    /// The process before, if there is one, until this one serves.
    heir: Option<Heir>,
    /// A handle on each socket that listens, for the next process, until the keeper has them.
    kept: Vec<(Role, BoundListener)>,
}

/// Binds all sources, with listening sockets for `cores` cores, or nothing: those of the process that listens at `path`, if one does, where it
/// has them.
///
/// # Errors
/// As for [`listen::bind`]; [`Error::Takeover`] when that process does not hand over what it has.
pub(in super::super) fn listen(
    path: Option<&Path>,
    sources: Vec<Source>,
    cores: usize,
    reuse_port: bool,
) -> Result<(Bound, Option<Inheritance>), Error> {
    let Some(path) = path else { return Ok((listen::bind(sources, cores, reuse_port)?, None)) };
    let mut heir = Heir::ask(Some(path))?;
    let (sources, shares_ports) = match &mut heir {
        Some(heir) => heir.claim(sources, cores)?,
        None => (sources, false),
    };
    let bound = listen::bind(sources, cores, reuse_port || shares_ports)?;
    let kept = handles(&bound).map_err(Error::Start)?;
    if kept.len() + 2 > SOCKETS_MAX {
        let why = format!("{} listening sockets are too many to be handed over", kept.len());
        return Err(Error::Takeover { path: path.display().to_string(), why });
    }
    let kept = kept.into_iter().map(|listener| (Role::Server, listener)).collect();
    Ok((bound, Some(Inheritance { path: path.to_owned(), heir, kept })))
}

/// One handle on each socket, in the order of the cores. Some cores share one.
fn handles(bound: &Bound) -> io::Result<Vec<BoundListener>> {
    let (mut seen, mut handles) = (HashSet::new(), Vec::new());
    for listener in bound.cores.iter().flatten() {
        if seen.insert(listener.identity()?) {
            handles.push(listener.try_clone()?);
        }
    }
    Ok(handles)
}

impl Inheritance {
    /// The listening socket of the admin side of the process before, if there is one.
    #[cfg(feature = "admin")]
    pub(in super::super) fn take_admin(&mut self) -> Option<BoundListener> {
        self.heir.as_mut()?.admin.take()
    }

    /// Keeps a handle on the listening socket of the admin side for the next process.
    #[cfg(feature = "admin")]
    pub(in super::super) fn keep_admin(&mut self, listener: &std::net::TcpListener) -> Result<(), Error> {
        let handle = listener.try_clone().and_then(|listener| BoundListener::moved(OwnedFd::from(listener)));
        self.kept.push((Role::Admin, handle.map_err(Error::Start)?));
        Ok(())
    }

    /// Starts the thread that will hand over what is kept, once the server serves. It is to be told when that is.
    ///
    /// # Errors
    /// When the path cannot be listened on, or the system has no thread or files.
    pub(in super::super) fn begin_keeper(
        &mut self,
        fd_tables: FdTables,
        status: &Arc<Status>,
    ) -> Result<Keeper, Error> {
        let door = match self.heir.as_mut().and_then(|heir| heir.door.take()) {
            Some(door) => door,
            None => BoundListener::bind_privately(&self.path).map_err(|error| Error::Takeover {
                path: self.path.display().to_string(),
                why: format!("cannot listen there: {}", bind_hint(&error)),
            })?,
        };
        let mut kept = std::mem::take(&mut self.kept);
        kept.push((Role::Door, door));
        Keeper::begin(kept, fd_tables, status)
    }

    /// Whether the process before serves until this one does, so that cores may not accept yet.
    pub(in super::super) fn is_heir(&self) -> bool {
        self.heir.is_some()
    }

    /// Every core is up: has the process before accept no more.
    ///
    /// # Errors
    /// [`Error::Takeover`] when it serves on.
    pub(in super::super) fn finish(self) -> Result<(), Error> {
        self.heir.map_or(Ok(()), Heir::finish)
    }
}

fn bind_hint(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "its folder does not exist".to_owned(),
        io::ErrorKind::PermissionDenied if error.get_ref().is_none() => {
            "permission denied: this user may not make the socket in that folder".to_owned()
        }
        io::ErrorKind::AddrInUse => "another process came first".to_owned(),
        _ => explain(error),
    }
}
