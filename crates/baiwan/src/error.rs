//! Why a server could not start or go on.

use std::fmt;
use std::io;
use std::path::Path;

use crate::files::explain;

/// An error of the server itself; errors of requests and connections stay with them.
///
/// Each is one line that says what is wrong and, where that is known, what to do. `Debug` writes the same line, because a program whose
/// `main` returns this error prints that.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address cannot be understood.
    #[error("cannot listen on {address:?}: write HOST:PORT, [IPV6]:PORT, unix:/PATH or unix:@NAME")]
    Address {
        /// As it was given.
        address: String,
    },
    /// The host of an address is not known.
    #[error("cannot listen on {address}: its host is not known: {why}")]
    Host {
        /// As it was given.
        address: String,
        /// What the system said.
        why: String,
    },
    /// An address was given twice, perhaps in two ways of writing.
    #[error("{address} is given twice{}: leave one out", other_way(address, other))]
    Twice {
        /// As it was given.
        address: String,
        /// As it was given before.
        other: String,
    },
    /// An address is served by another one that was given, which stands for all addresses.
    #[error("{by} serves {what} too: leave {address} out")]
    Covered {
        /// As it was given.
        address: String,
        /// The address that stands for all, as it was given.
        by: String,
        /// What of the former it serves.
        what: String,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {}", listen_hint(address, source))]
    Listen {
        /// As it was given.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The address of the admin side cannot be understood.
    #[error("the admin side cannot listen on {address:?}: write HOST:PORT or [IPV6]:PORT")]
    AdminAddress {
        /// As it was given.
        address: String,
    },
    /// The address of the admin side cannot be listened on.
    #[error("the admin side cannot listen on {address}: {}", listen_hint(address, source))]
    Admin {
        /// As it was given.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The token of the admin side cannot be one. It is not shown.
    #[cfg(feature = "admin")]
    #[error("the token of the admin side must be {allowed}")]
    AdminToken {
        /// What a token is, in words.
        allowed: &'static str,
    },
    /// No address and no listener was given.
    #[error("there is nothing to listen on: give an address with `bind` or a socket with `listener`")]
    NoListener,
    /// No process can take over through the path that was given, or this one cannot from the process that listens there, which serves on.
    #[error("cannot take over through {path}: {why}")]
    Takeover {
        /// The path, as it was given.
        path: String,
        /// Why not.
        why: String,
    },
    /// More connections were asked for than can be had.
    #[error("{name}={wanted} cannot be had: {why}, which is enough for {possible}")]
    MaxConnections {
        /// The setting's name in the environment.
        name: String,
        /// What was asked for.
        wanted: u64,
        /// What can be had.
        possible: u64,
        /// What limits it.
        why: String,
    },
    /// A variable of the environment has a wrong value.
    #[error("{name} is {value}; allowed is {allowed}")]
    Variable {
        /// The variable's name.
        name: String,
        /// Its value in quotes, and not all of a long one.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// Settings that were to change while the server runs can only be set at its start. Nothing was changed.
    #[error("{} cannot change while the server runs, so nothing was changed: that needs a restart", names.join(", "))]
    NeedsRestart {
        /// Their names.
        names: Vec<String>,
    },
    /// The event loop that was asked for does not exist on this system.
    #[error("EVENT_LOOP={0} is not possible on this system: it needs Linux; use auto or portable")]
    EventLoop(&'static str),
    /// Fd tables for each core were asked for where they cannot be, or a server was started beside one that has them.
    #[error("FD_TABLES=per-core is not possible: {0}")]
    FdTables(&'static str),
    /// The system refused to give a core's thread an fd table of its own.
    #[error("FD_TABLES=per-core cannot be had: unshare(CLONE_FILES) failed: {}", unshare_hint(.0))]
    Unshare(io::Error),
    /// A blocking call was made within an async runtime, which it would block.
    #[error("`run` blocks and was called within a Tokio runtime: use `serve(app).await` there")]
    BlockingInRuntime,
    /// A core could not be set up.
    #[error("cannot start a core: {}", explain(.0))]
    Start(#[source] io::Error),
    /// The system refused to start a core's thread.
    #[error(
        "cannot start the thread of a core: {0}; see how many threads and how much memory are allowed (ulimit -u, TasksMax=)"
    )]
    Thread(#[source] io::Error),
    /// The signals that stop the server cannot be listened for.
    #[error("cannot listen for signals: {}", explain(.0))]
    Signals(#[source] io::Error),
    /// The kernel's readiness interface failed on a core.
    #[error("the event loop of a core failed: {}", explain(.0))]
    Core(#[source] io::Error),
    /// A core's thread panicked outside of a handler. Its panic message was printed by the thread.
    #[error("core {0} panicked")]
    CorePanicked(usize),
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Error> for io::Error {
    /// The same text; of the kind that the system gave, if it did. [`io::Error::downcast`] gives the [`Error`] back.
    ///
    /// # Example
    /// ```
    /// let error = baiwan::Error::Address { address: "8080".to_owned() };
    /// let error = std::io::Error::from(error);
    /// assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    /// assert!(matches!(error.downcast(), Ok(baiwan::Error::Address { .. })));
    /// ```
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}

impl Error {
    pub(crate) fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Listen { source, .. } | Self::Admin { source, .. } => source.kind(),
            Self::Unshare(source)
            | Self::Start(source)
            | Self::Thread(source)
            | Self::Signals(source)
            | Self::Core(source) => source.kind(),
            #[cfg(feature = "admin")]
            Self::AdminToken { .. } => io::ErrorKind::InvalidInput,
            Self::Address { .. }
            | Self::AdminAddress { .. }
            | Self::Variable { .. }
            | Self::NeedsRestart { .. }
            | Self::Twice { .. }
            | Self::Covered { .. } => io::ErrorKind::InvalidInput,
            Self::EventLoop(_) | Self::FdTables(_) => io::ErrorKind::Unsupported,
            _ => io::ErrorKind::Other,
        }
    }
}

fn unshare_hint(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "{error}; allow the system call `unshare` (containers' seccomp profiles forbid it without CAP_SYS_ADMIN), or use \
             FD_TABLES=shared with a higher limit of files (ulimit -n)"
        ),
        _ => explain(error),
    }
}

fn other_way(address: &str, other: &str) -> String {
    match address == other {
        true => String::new(),
        false => format!(", the other time as {other}"),
    }
}

/// What to do about an address that cannot be listened on: only what is so for this error and this kind of address.
fn listen_hint(address: &str, error: &io::Error) -> String {
    use io::ErrorKind::{AddrInUse, AddrNotAvailable, InvalidFilename, NotFound, PermissionDenied, ReadOnlyFilesystem};

    // An error that was made in this program says itself what to do.
    if error.get_ref().is_some() {
        return error.to_string();
    }
    let is_unix = address.starts_with("unix:");
    let is_path = is_unix && !address.starts_with("unix:@");
    let folder = address.strip_prefix("unix:").and_then(|path| Path::new(path).parent());
    let folder = folder.map(Path::display).map_or_else(String::new, |folder| folder.to_string());
    let folder = if folder.is_empty() { "the working directory".to_owned() } else { folder };
    let port = address.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
    let hint = match error.kind() {
        AddrInUse if is_unix && cfg!(all(target_os = "linux", not(baiwan_portable))) => {
            "another program listens there (`ss -lxp` shows which); stop it or listen elsewhere"
        }
        AddrInUse if is_unix => {
            "something stands there: stop the server whose socket it is, or remove it if there is none"
        }
        AddrInUse if port == Some(0) => "no port is free",
        AddrInUse if cfg!(all(target_os = "linux", not(baiwan_portable))) => {
            "the port is in use (`ss -ltnp` shows who listens, `ss -tnp` who is connected); stop that or choose another port"
        }
        AddrInUse => "the port is in use; stop what uses it or choose another port",
        PermissionDenied if is_path => {
            return format!(
                "permission denied: this user may not make a socket in {folder}: choose a folder that it may write to (under systemd, \
                 RuntimeDirectory=NAME makes /run/NAME for the service's user), or give it that one"
            );
        }
        ReadOnlyFilesystem if is_path => return format!("{folder} is on a file system that is mounted read-only"),
        PermissionDenied if port.is_some_and(|port| port < 1024) => {
            "permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE, or choose a higher port"
        }
        PermissionDenied => "permission denied: a policy of this system forbids it (SELinux, AppArmor, seccomp)",
        NotFound if is_path => return format!("the folder for the socket does not exist: make {folder} before"),
        InvalidFilename if is_unix => "the path or name of a socket may have 107 bytes: choose a shorter one",
        AddrNotAvailable => "this machine does not have that address",
        _ => return explain(error),
    };
    hint.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_fits_the_error_and_the_kind_of_address() {
        let said = |address: &str, kind: io::ErrorKind| {
            Error::Listen { address: address.to_owned(), source: kind.into() }.to_string()
        };
        let denied = io::ErrorKind::PermissionDenied;
        assert!(said("0.0.0.0:80", denied).contains("CAP_NET_BIND_SERVICE"));
        for address in ["0.0.0.0:8080", "unix:/run/app.sock", "unix:@app", "the given socket"] {
            assert!(!said(address, denied).contains("1024"), "{}", said(address, denied));
        }
        assert!(said("unix:/run/app.sock", denied).contains("may not make a socket in /run: choose a folder"));
        assert!(said("unix:app.sock", denied).contains("in the working directory"));
        assert!(!said("unix:@app", denied).contains("folder"), "it is in none");
        let in_use = io::ErrorKind::AddrInUse;
        assert!(said("0.0.0.0:8080", in_use).contains("choose another port"));
        assert!(said("0.0.0.0:0", in_use).contains("no port is free"));
        assert!(!said("unix:/run/app.sock", in_use).contains("port"));
        assert!(said("unix:/nowhere/app.sock", io::ErrorKind::NotFound).contains("folder"));
    }

    #[test]
    fn a_seccomp_profile_is_blamed_for_a_refusal_and_not_for_a_lack_of_memory() {
        let said = |kind: io::ErrorKind| Error::Unshare(kind.into()).to_string();
        assert!(said(io::ErrorKind::PermissionDenied).contains("seccomp"));
        assert!(!said(io::ErrorKind::OutOfMemory).contains("seccomp"), "{}", said(io::ErrorKind::OutOfMemory));
    }

    #[test]
    fn an_error_that_was_made_in_this_program_speaks_for_itself() {
        let source = io::Error::new(io::ErrorKind::PermissionDenied, "it is so");
        let error = Error::Listen { address: "unix:/run/app.sock".to_owned(), source };
        assert_eq!(error.to_string(), "cannot listen on unix:/run/app.sock: it is so");
    }
}
