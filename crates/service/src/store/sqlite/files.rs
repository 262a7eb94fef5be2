//! The files that were opened at start, and whether they are still in their places.
//!
//! SQLite goes on with a file that was removed, or that another was moved over, and so does the log beside it: what is committed
//! there is gone with the process. So device and inode of the database, of its write-ahead log and of the log's index are
//! noted at start, and compared with what their paths lead to: by the writer before it acknowledges a group, by whoever opens one
//! more connection, and by each question whether the store is well.
//!
//! What is in a place by now is not opened: only a start looks whose it is. What was open goes on being read. Invariant: the writer holds the
//! files open for as long as the process lives, so that no other can have the number of one that was removed.

use std::fs::metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use thiserror::Error;
use tracing::{error, info};

/// What SQLite calls the files beside a database.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// The files of the process's database.
#[derive(Debug)]
pub(super) struct Files {
    files: Vec<File>,
    /// They were not all in their places at the last look, and that was logged.
    are_away: AtomicBool,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    identity: Identity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

/// A file is not in its place. Shown as one line that says what to do.
#[derive(Debug, Error)]
pub(super) enum Moved {
    #[error("{} was removed or moved away while it was in use: put it back, or restart to open what is there then", .0.display())]
    Gone(PathBuf),
    #[error("another file was put in the place of {} while it was in use: put the first one back, or restart to open this one", .0.display())]
    Replaced(PathBuf),
    #[error("{} cannot be looked at any more ({reason}): give this user the permission back, or restart to see what is wrong", path.display())]
    Hidden { path: PathBuf, reason: String },
}

impl Files {
    /// Notes the files of a database that has just been opened at the absolute `path`, and has its log.
    pub(super) fn note(path: &Path) -> io::Result<Self> {
        let mut files = vec![File::note(path.to_owned())?];
        // They are beside the file itself, where the path is that of a link.
        let database = std::fs::canonicalize(path)?;
        for ending in BESIDE {
            let mut beside = database.clone().into_os_string();
            beside.push(ending);
            files.push(File::note(beside.into())?);
        }
        Ok(Self { files, are_away: AtomicBool::new(false) })
    }

    /// The path of the database.
    pub(super) fn database(&self) -> &Path {
        &self.files[0].path
    }

    /// Whether all were in their places at the last look.
    pub(super) fn were_away(&self) -> bool {
        self.are_away.load(Ordering::Relaxed)
    }

    /// Looks whether all are in their places: one system call for each. A change is logged once.
    pub(super) fn check(&self) -> Result<(), Moved> {
        let outcome = self.files.iter().try_for_each(File::check);
        let were_away = self.are_away.swap(outcome.is_err(), Ordering::Relaxed);
        match &outcome {
            Err(moved) if !were_away => {
                error!(reason = %moved, "the store is not what was opened; writes are answered with 503")
            }
            Ok(()) if were_away => info!("the files of the store are in their places again"),
            _ => {}
        }
        outcome
    }
}

impl File {
    fn note(path: PathBuf) -> io::Result<Self> {
        let identity = Identity::at(&path)?;
        Ok(Self { path, identity })
    }

    fn check(&self) -> Result<(), Moved> {
        let path = || self.path.clone();
        match Identity::at(&self.path) {
            Ok(identity) if identity == self.identity => Ok(()),
            Ok(_) => Err(Moved::Replaced(path())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Moved::Gone(path())),
            Err(error) => Err(Moved::Hidden { path: path(), reason: error.to_string() }),
        }
    }
}

impl Identity {
    /// Of what a path leads to, through links.
    fn at(path: &Path) -> io::Result<Self> {
        let found = metadata(path)?;
        Ok(Self { device: found.dev(), inode: found.ino() })
    }
}
