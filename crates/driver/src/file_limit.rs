//! How many files, and so connections, the process may hold.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit on open files (`RLIMIT_NOFILE`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileLimit {
    /// What is in force.
    pub soft: u64,
    /// What the process may raise it to.
    pub hard: u64,
}

impl FileLimit {
    /// What is in force now.
    pub fn now() -> Self {
        let limit = getrlimit(Resource::Nofile);
        Self { soft: limit.current.unwrap_or(u64::MAX), hard: limit.maximum.unwrap_or(u64::MAX) }
    }
}

/// Raises the soft limit to the hard one and returns what is in force then. Where the system refuses, nothing changes.
pub fn raise_file_limit() -> FileLimit {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // A refusal shows in what is returned.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    FileLimit::now()
}
