//! What a server takes from the process before, and keeps for the next one, while it starts.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use baiwan_driver::{Address, BoundListener, FileAccess, ListenOptions};

use super::super::listen::{self, Bound, Source};
use super::heir::Heir;
use super::keeper::Keeper;
use super::message::{Role, SOCKETS_MAX};
use crate::Error;
use crate::fd_tables::FdTables;
use crate::files::explain;
use crate::say::say;
use crate::status::Status;

/// The sockets of a server for which there is a door.
#[derive(Debug)]
pub(in super::super) struct Inheritance {
    path: PathBuf,
    /// The process before, if there is one, until this one serves.
    heir: Option<Heir>,
    /// A handle on each socket that listens, for the next process, until the keeper has them.
    kept: Vec<(Role, BoundListener)>,
    /// Who may connect to Unix sockets that were bound at a path.
    access: FileAccess,
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
    options: ListenOptions,
) -> Result<(Bound, Option<Inheritance>), Error> {
    let Some(path) = path else { return Ok((listen::bind(sources, cores, options)?, None)) };
    let mut heir = Heir::ask(Some(path))?;
    let shared = listen::shared_ports(&sources);
    let sources = match &mut heir {
        Some(heir) => heir.claim(sources, &shared, cores, options.reuse_port)?,
        None => sources,
    };
    let bound = listen::bind_sharing(sources, &shared, cores, options)?;
    let kept = handles(&bound).map_err(Error::Start)?;
    if kept.len() + 2 > SOCKETS_MAX {
        let why = format!("{} listening sockets are too many to be handed over", kept.len());
        return Err(Error::Takeover { path: path.display().to_string(), why });
    }
    let kept = kept.into_iter().map(|listener| (Role::Server, listener)).collect();
    Ok((bound, Some(Inheritance { path: path.to_owned(), heir, kept, access: options.file })))
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
    pub(in super::super) fn take_admin(&mut self) -> Option<BoundListener> {
        self.heir.as_mut()?.admin.take()
    }

    /// Keeps a handle on the listening socket of the admin side for the next process.
    #[cfg(feature = "admin")]
    pub(in super::super) fn keep_admin(&mut self, listener: &std::net::TcpListener) -> Result<(), Error> {
        let handle =
            listener.try_clone().and_then(|listener| BoundListener::moved(std::os::fd::OwnedFd::from(listener)));
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
        let (door, door_file) = match self.heir.as_mut().and_then(Heir::take_door) {
            Some(taken) => taken,
            None => {
                let door = bind_door(&self.path).map_err(|error| Error::Takeover {
                    path: self.path.display().to_string(),
                    why: format!("cannot listen there: {}", bind_hint(&error)),
                })?;
                let file = door.file_identity();
                (door, file)
            }
        };
        let mut kept = std::mem::take(&mut self.kept);
        kept.push((Role::Door, door));
        Keeper::begin(self.path.clone(), door_file, kept, fd_tables, status)
    }

    /// The process before, which serves until this one does, so that cores may not accept yet.
    pub(in super::super) fn predecessor(&self) -> Option<u32> {
        self.heir.as_ref().map(|heir| heir.pid)
    }

    /// Every core is up: has the process before accept no more. The files of the Unix sockets that this server took over are its own from here
    /// on. They get the mode, owner and group that were asked for only now, because until here the process before
    /// may go on.
    ///
    /// # Errors
    /// [`Error::Takeover`] when it serves on.
    pub(in super::super) fn finish(self, status: &Status) -> Result<(), Error> {
        let files = self.heir.map_or(Ok(Vec::new()), Heir::finish)?;
        for file in &files {
            // There is no way back: this process serves.
            if let Err(error) = file.set_access(self.access) {
                let (path, error) = (file.path().display(), explain(&error));
                say(
                    || tracing::warn!(%path, error, "a Unix socket that was taken over is not accessible as was asked for"),
                );
            }
        }
        status.socket_files.put(files);
        Ok(())
    }
}

/// Listens at a path to which no other user may connect.
fn bind_door(path: &Path) -> io::Result<BoundListener> {
    let file = FileAccess { mode: Some(0o600), ..FileAccess::default() };
    BoundListener::bind(&Address::Unix(path.to_owned()), ListenOptions { file, ..ListenOptions::default() })
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
