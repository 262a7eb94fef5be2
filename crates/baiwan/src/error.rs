//! Why a server could not start or go on.

use std::io;

/// An error of the server itself; errors of requests and connections stay with them.
///
/// Each is one line that says what is wrong and, where that is known, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An address cannot be understood or looked up.
    #[error("cannot listen on {address:?}: write HOST:PORT, [IPV6]:PORT or unix:/PATH")]
    Address {
        /// As it was given.
        address: String,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {}", listen_hint(source))]
    Listen {
        /// As it was given.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// No address and no listener was given.
    #[error("there is nothing to listen on: give an address with `bind` or a socket with `listener`")]
    NoListener,
    /// More connections were asked for than can be had.
    #[error("MAX_CONNECTIONS={wanted} cannot be had: {why}, which is enough for {possible}")]
    MaxConnections {
        /// What was asked for.
        wanted: u64,
        /// What can be had.
        possible: u64,
        /// What limits it.
        why: String,
    },
    /// A variable of the environment has a wrong value.
    #[error("{name}={value:?} is not possible: {allowed}")]
    Variable {
        /// The variable's name.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// The event loop that was asked for does not exist on this system.
    #[error("EVENT_LOOP={0} is not possible on this system: it needs Linux; use auto or portable")]
    EventLoop(&'static str),
    /// Fd tables for each core were asked for where they cannot be, or a server was started beside one that has them.
    #[error("FD_TABLES=per-core is not possible {0}")]
    FdTables(&'static str),
    /// The system refused to give a core's thread an fd table of its own.
    #[error(
        "FD_TABLES=per-core cannot be had: unshare(CLONE_FILES) failed: {0}; allow the system call `unshare` (containers' \
         seccomp profiles forbid it without CAP_SYS_ADMIN), or use FD_TABLES=shared with a higher limit of files (ulimit -n)"
    )]
    Unshare(io::Error),
    /// A blocking call was made within an async runtime, which it would block.
    #[error("`run` blocks and was called within a Tokio runtime: use `serve(app).await` there")]
    BlockingInRuntime,
    /// A core could not be set up.
    #[error("cannot start a core: {0}")]
    Start(#[source] io::Error),
    /// The signals that stop the server cannot be listened for.
    #[error("cannot listen for signals: {0}")]
    Signals(#[source] io::Error),
    /// The kernel's readiness interface failed on a core.
    #[error("the event loop of a core failed: {0}")]
    Core(#[source] io::Error),
    /// A core's thread panicked outside of a handler. Its panic message was printed by the thread.
    #[error("core {0} panicked")]
    CorePanicked(usize),
}

fn listen_hint(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "something else listens there; stop it or choose another port".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE, or choose a higher port".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
        _ => error.to_string(),
    }
}
