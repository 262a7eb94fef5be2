//! What is wrong with the file, and what to do about it: for the start, which ends with it, and for the log while the service runs.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use thiserror::Error;

/// `EMFILE` and `ENFILE`, the same number on all systems: this process, or all together, may open no more files.
const TOO_MANY_FILES: [i32; 2] = [24, 23];

/// Why the database cannot be opened or used; each is one line that says what to do.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The directory of the file is absent.
    #[error("the directory {} does not exist: create it, or set DATABASE_URL to another path", .0.display())]
    NoDirectory(PathBuf),
    /// The path leads to a directory.
    #[error("{} is a directory: set DATABASE_URL to a file", .0.display())]
    IsDirectory(PathBuf),
    /// The path leads to a pipe or a device.
    #[error("{} is no file: set DATABASE_URL to one, or to a path where there is nothing yet", .0.display())]
    NotAFile(PathBuf),
    /// The file or its directory is not writable.
    #[error(
        "the database {} cannot be written ({reason}): give this user write permission on the file and its directory, \
         or set DATABASE_URL to another path", path.display()
    )]
    NotWritable {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// Not an SQLite file, or one whose beginning is damaged.
    #[error(
        "{} is not an SQLite database or is damaged ({reason}); it was not changed: restore a backup, or set \
         DATABASE_URL to another path", path.display()
    )]
    NotADatabase {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// What it says of itself does not fit together.
    #[error(
        "the database {} is damaged ({reason}): stop the service, and put a backup in the place of the file and of the two \
         beside it, -wal and -shm", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// Another process holds a lock for longer than is waited for it.
    #[error(
        "another process has locked the database {path} ({reason}): `fuser -v {path}` or `lsof {path}` names it; end it, and give each \
         service a file of its own", path = path.display()
    )]
    Busy {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// There is no room for what is to be written.
    #[error("no room is left on the disk of the database {}: make some, or set DATABASE_URL to a path on another", .0.display())]
    Full(PathBuf),
    /// The system refuses what was open already.
    #[error(
        "the disk or file system of the database {} fails ({reason}): the kernel's log (`dmesg`) says why", path.display()
    )]
    Failing {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// The process, or all together, have as many files open as they may.
    #[error("the database {} cannot be opened, because too many files are open: raise the limit (ulimit -n)", .0.display())]
    TooManyFiles(PathBuf),
    /// An SQLite file of another program.
    #[error(
        "{} is the database of another program; it was not changed: set DATABASE_URL to another path", .0.display()
    )]
    Foreign(PathBuf),
    /// Changed by a later version of this service, so that this one must not use it.
    #[error(
        "the database {} has schema version {found}, which needs a baiwan that knows version {compatible_from}; this one knows versions up \
         to {known}: start the later baiwan, or restore a backup from before it, or set DATABASE_URL to another path", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its `user_version`.
        found: i32,
        /// The least version that a program must know to use it.
        compatible_from: i32,
        /// The last version this program knows.
        known: i32,
    },
    /// The file system cannot hold a write-ahead log.
    #[error(
        "the database {} cannot use a write-ahead log (it stays in mode {mode}): put it on a local file system", path.display()
    )]
    NoLog {
        /// The file.
        path: PathBuf,
        /// The journal mode SQLite stays in.
        mode: String,
    },
    /// Anything else that SQLite reports.
    #[error("the database {} cannot be used: {reason}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// The writer thread could not be started.
    #[error(
        "the thread of the database's writer cannot be started ({0}): raise the limit of processes or lower WORKERS"
    )]
    Thread(io::Error),
}

impl OpenError {
    /// What an error of SQLite means.
    pub(super) fn of(path: &Path, error: &rusqlite::Error) -> Self {
        let (path, reason) = (path.to_owned(), error.to_string());
        match error.sqlite_error_code() {
            Some(ErrorCode::CannotOpen) if no_file_can_be_opened() => Self::TooManyFiles(path),
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                Self::NotWritable { path, reason }
            }
            Some(ErrorCode::NotADatabase) => Self::NotADatabase { path, reason },
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged { path, reason },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path, reason },
            Some(ErrorCode::DiskFull) => Self::Full(path),
            Some(ErrorCode::SystemIoFailure) => Self::Failing { path, reason },
            _ => Self::Sqlite { path, reason },
        }
    }

    /// The same at start, when the system may be asked why it does not open a file: later, to close what was opened for that would
    /// give up the locks of all connections (fcntl(2), on record locks).
    pub(super) fn at_start(path: &Path, error: &rusqlite::Error) -> Self {
        let refused = match error.sqlite_error_code() {
            Some(ErrorCode::CannotOpen) => OpenOptions::new().read(true).write(true).open(path).err(),
            _ => None,
        };
        match refused {
            // Whether it may be made is the directory's affair.
            Some(refused) if refused.kind() != io::ErrorKind::NotFound && !is_lack_of_files(&refused) => {
                Self::NotWritable { path: path.to_owned(), reason: refused.to_string() }
            }
            _ => Self::of(path, error),
        }
    }
}

/// SQLite does not say it. Where it is looked for is a directory that everybody can read.
fn no_file_can_be_opened() -> bool {
    File::open("/").is_err_and(|error| is_lack_of_files(&error))
}

fn is_lack_of_files(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| TOO_MANY_FILES.contains(&code))
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn what_sqlite_says_becomes_a_line_that_names_the_file_and_what_to_do() {
        for (code, remedy) in [
            (ffi::SQLITE_BUSY, "`fuser -v /a/b.db` or `lsof /a/b.db` names it"),
            (ffi::SQLITE_LOCKED, "a file of its own"),
            (ffi::SQLITE_READONLY, "give this user write permission"),
            (ffi::SQLITE_CANTOPEN, "give this user write permission"),
            (ffi::SQLITE_PERM, "give this user write permission"),
            (ffi::SQLITE_NOTADB, "restore a backup"),
            (ffi::SQLITE_CORRUPT, "put a backup in the place"),
            (ffi::SQLITE_FULL, "make some"),
            (ffi::SQLITE_IOERR_FSYNC, "dmesg"),
        ] {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            let line = OpenError::of(Path::new("/a/b.db"), &error).to_string();
            assert!(line.contains("/a/b.db") && line.contains(remedy) && !line.contains('\n'), "{line}");
        }
    }
}
