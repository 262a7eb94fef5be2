//! The files of the Unix sockets that a server has bound: gone when its stop begins to end connections.
//!
//! They go before the sockets do: whoever connects after that finds no server at the path, or the next one, and whoever has connected
//! before is still accepted. The invariant: a file that another process has put in the place of one stays.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use baiwan_driver::SocketFile;

/// Those of one server.
#[derive(Debug, Default)]
pub(crate) struct SocketFiles(Mutex<Vec<SocketFile>>);

impl SocketFiles {
    /// Has these removed with the others.
    pub(crate) fn put(&self, files: Vec<SocketFile>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(files);
    }

    /// Removes them, once.
    pub(crate) fn remove(&self) {
        drop(self.take());
    }

    /// Where those are that still stand where they were bound.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.iter().filter(|file| file.is_in_place()).map(|file| file.path().to_owned()).collect()
    }

    /// Whether one of them was bound at the path and is not there any more, so that the path leads elsewhere.
    pub(crate) fn has_lost(&self, path: &Path) -> bool {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.iter().any(|file| file.path() == path && !file.is_in_place())
    }

    /// Leaves them to the process that has taken over their sockets.
    pub(crate) fn keep(&self) {
        self.take().into_iter().for_each(SocketFile::keep);
    }

    fn take(&self) -> Vec<SocketFile> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
